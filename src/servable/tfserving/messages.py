"""The messages of TensorFlow Serving's config files and of its reload call.

Declared here rather than compiled from `proto/`, which an installation does not have; a test compares the two. They
live in a descriptor pool of their own, so that `tensorflow-serving-api` may be loaded in the same process.

Sources, in github.com/tensorflow/serving: `config/model_server_config.proto`, `config/logging_config.proto`,
`config/monitoring_config.proto`, `config/ssl_config.proto`, `apis/model_management.proto`,
`sources/storage_path/file_system_storage_path_source.proto`, `servables/tensorflow/session_bundle_config.proto`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message

PACKAGE = "tensorflow.serving"

_FOLDER = "tensorflow_serving"
_VERSION_POLICY = "FileSystemStoragePathSourceConfig.ServableVersionPolicy"
_INT64_VALUE, _BOOL_VALUE = ".google.protobuf.Int64Value", ".google.protobuf.BoolValue"

# File -> message -> field -> its number and type: a scalar, a message of this package, or one with a dot in front.
# A `*` behind it marks a repeated field, `name|` before it the oneof that the field belongs to.
_FILES: dict[str, dict[str, dict[str, tuple[int, str]]]] = {
    f"{_FOLDER}/config/log_collector_config.proto": {
        "LogCollectorConfig": {"type": (1, "string"), "filename_prefix": (2, "string")},
    },
    f"{_FOLDER}/config/logging_config.proto": {
        "SamplingConfig": {"sampling_rate": (1, "double"), "attributes": (2, "int32")},
        "LoggingConfig": {
            "log_collector_config": (1, "LogCollectorConfig"),
            "sampling_config": (2, "SamplingConfig"),
        },
    },
    f"{_FOLDER}/config/monitoring_config.proto": {
        "PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")},
        "MonitoringConfig": {"prometheus_config": (1, "PrometheusConfig")},
    },
    f"{_FOLDER}/config/ssl_config.proto": {
        "SSLConfig": {
            "server_key": (1, "string"),
            "server_cert": (2, "string"),
            "custom_ca": (3, "string"),
            "client_verify": (4, "bool"),
        },
    },
    f"{_FOLDER}/sources/storage_path/file_system_storage_path_source.proto": {
        "FileSystemStoragePathSourceConfig": {},
        f"{_VERSION_POLICY}.Latest": {"num_versions": (1, "uint32")},
        f"{_VERSION_POLICY}.All": {},
        f"{_VERSION_POLICY}.Specific": {"versions": (1, "int64*")},
        _VERSION_POLICY: {
            "latest": (100, f"policy_choice|{_VERSION_POLICY}.Latest"),
            "all": (101, f"policy_choice|{_VERSION_POLICY}.All"),
            "specific": (102, f"policy_choice|{_VERSION_POLICY}.Specific"),
        },
    },
    f"{_FOLDER}/config/model_server_config.proto": {
        "ModelConfig": {
            "name": (1, "string"),
            "base_path": (2, "string"),
            "model_type": (3, "enum:ModelType"),
            "model_platform": (4, "string"),
            "logging_config": (6, "LoggingConfig"),
            "model_version_policy": (7, _VERSION_POLICY),
            "version_labels": (8, "map:int64"),
        },
        "ModelConfigList": {"config": (1, "ModelConfig*")},
        "ModelServerConfig": {
            "model_config_list": (1, "config|ModelConfigList"),
            "custom_model_config": (2, "config|.google.protobuf.Any"),
        },
    },
    f"{_FOLDER}/servables/tensorflow/session_bundle_config.proto": {
        "BatchingParameters": {
            "max_batch_size": (1, _INT64_VALUE),
            "batch_timeout_micros": (2, _INT64_VALUE),
            "max_enqueued_batches": (3, _INT64_VALUE),
            "num_batch_threads": (4, _INT64_VALUE),
            "thread_pool_name": (5, ".google.protobuf.StringValue"),
            "allowed_batch_sizes": (6, "int64*"),
            "pad_variable_length_inputs": (7, "bool"),
            "enable_large_batch_splitting": (8, _BOOL_VALUE),
            "max_execution_batch_size": (9, _INT64_VALUE),
        },
    },
    f"{_FOLDER}/apis/model_management.proto": {
        "ReloadConfigRequest": {"config": (1, "ModelServerConfig"), "metric_names": (2, "string*")},
    },
}
_ENUMS = {
    f"{_FOLDER}/config/model_server_config.proto": {
        "ModelType": {"MODEL_TYPE_UNSPECIFIED": 0, "TENSORFLOW": 1, "OTHER": 2}
    },
}
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _FIELD.TYPE_STRING,
    "double": _FIELD.TYPE_DOUBLE,
    "bool": _FIELD.TYPE_BOOL,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "uint32": _FIELD.TYPE_UINT32,
}


def new(name: str) -> Message:
    """An empty message of this package, e.g. `ModelServerConfig`."""
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))()


@cache
def pool() -> descriptor_pool.DescriptorPool:
    """The pool that holds all of them, and the well-known messages that they use."""
    made = descriptor_pool.DescriptorPool()
    for known in (any_pb2, wrappers_pb2):
        made.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    before = ["google/protobuf/any.proto", "google/protobuf/wrappers.proto"]
    for path, messages in _FILES.items():
        file = descriptor_pb2.FileDescriptorProto(name=path, package=PACKAGE, syntax="proto3", dependency=before)
        for name, values in _ENUMS.get(path, {}).items():
            enum = file.enum_type.add(name=name)
            for value, number in values.items():
                enum.value.add(name=value, number=number)
        for name, fields in messages.items():
            _declare(_place(file, name), fields, name)
        made.AddSerializedFile(file.SerializeToString())
        before = [*before, path]
    return made


def _place(file: descriptor_pb2.FileDescriptorProto, name: str) -> descriptor_pb2.DescriptorProto:
    """The declaration of a message, made with those around it where it is not there yet."""
    first, *rest = name.split(".")
    place = next((each for each in file.message_type if each.name == first), None) or file.message_type.add(name=first)
    for part in rest:
        inner = next((each for each in place.nested_type if each.name == part), None)
        place = inner or place.nested_type.add(name=part)
    return place


def _declare(message: descriptor_pb2.DescriptorProto, fields: dict[str, tuple[int, str]], full_name: str) -> None:
    for name, (number, declared) in fields.items():
        oneof, _, kind = declared.rpartition("|")
        field = message.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL)
        if kind.endswith("*"):
            field.label, kind = _FIELD.LABEL_REPEATED, kind[:-1]
        if oneof:
            field.oneof_index = _oneof(message, oneof)
        if kind.startswith("map:"):
            _declare_map(message, field, kind.removeprefix("map:"), full_name)
        elif kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            is_enum = kind.startswith("enum:")
            field.type = _FIELD.TYPE_ENUM if is_enum else _FIELD.TYPE_MESSAGE
            type_name = kind.removeprefix("enum:")
            field.type_name = type_name if type_name.startswith(".") else f".{PACKAGE}.{type_name}"


def _oneof(message: descriptor_pb2.DescriptorProto, name: str) -> int:
    names = [each.name for each in message.oneof_decl]
    if name not in names:
        message.oneof_decl.add(name=name)
        names.append(name)
    return names.index(name)


def _declare_map(
    message: descriptor_pb2.DescriptorProto, field: descriptor_pb2.FieldDescriptorProto, value: str, full_name: str
) -> None:
    """A map is a repeated message of keys and values."""
    entry_name = "".join(part.capitalize() for part in field.name.split("_")) + "Entry"
    entry = message.nested_type.add(name=entry_name, options=descriptor_pb2.MessageOptions(map_entry=True))
    _declare(entry, {"key": (1, "string"), "value": (2, value)}, entry_name)
    field.label, field.type = _FIELD.LABEL_REPEATED, _FIELD.TYPE_MESSAGE
    field.type_name = f".{PACKAGE}.{full_name}.{entry_name}"
