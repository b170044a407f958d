"""The gRPC messages of TensorFlow Serving and of the health service that only a client needs.

Sources: tensorflow_serving/apis/{get_model_metadata,get_model_status}.proto, tensorflow/core/protobuf/meta_graph.proto
and https://github.com/grpc/grpc/blob/master/doc/health-checking.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from servable.client.types import Metadata, Target, VersionStatus
from servable.errors import Unimplemented
from servable.model.signatures import Signature, TensorSpec
from servable.wire.predict import ModelSpec
from servable.wire.protobuf import Writer, fields
from servable.wire.tensors import datatype_of_number

if TYPE_CHECKING:
    from collections.abc import Iterator

_STATES = {10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
_CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
_SERVING, _NOT_SERVING = 1, 2


def model_spec(target: Target, signature: str = "") -> ModelSpec:
    return ModelSpec(target.model, target.version, target.label or "", signature)


def metadata_request(target: Target) -> bytes:
    """A GetModelMetadataRequest for the signatures."""
    return Writer().message(1, model_spec(target).write()).text(2, "signature_def").to_bytes()


def read_metadata(target: Target, message: bytes) -> Metadata:
    """The signatures of a GetModelMetadataResponse; those with tensors that cannot be sent are left out."""
    version, signatures = None, {}
    for field in fields(message):
        if field.number == 1:
            version = ModelSpec.read(field.message()).version
        elif field.number == 2:
            for name, definition in _signature_definitions(field.message()):
                signature = _signature(name, definition)
                if signature is not None:
                    signatures[name] = signature
    return Metadata(target.model, version, signatures)


def status_request(model: str) -> bytes:
    """A GetModelStatusRequest for all versions."""
    return Writer().message(1, ModelSpec(model).write()).to_bytes()


def read_status(message: bytes) -> list[VersionStatus]:
    """The states of a GetModelStatusResponse in the order of the server."""
    return [_version_status(field.message()) for field in fields(message) if field.number == 1]


def health_request(service: str = "") -> bytes:
    """A HealthCheckRequest; for the whole server by default."""
    return Writer().text(1, service).to_bytes() if service else b""


def read_health(message: bytes) -> bool:
    """Whether a HealthCheckResponse says SERVING."""
    return _health(message) == _SERVING


def is_settled(message: bytes) -> bool:
    """Whether a HealthCheckResponse of a watch is worth no more waiting: SERVING, or a service nobody knows."""
    return _health(message) != _NOT_SERVING


def _health(message: bytes) -> int:
    return next((field.value for field in fields(message) if field.number == 1), 0)


def _map_entries(message: memoryview, number: int) -> Iterator[tuple[str, memoryview]]:
    for field in fields(message):
        if field.number == number:
            yield _entry(field.message())


def _entry(message: memoryview) -> tuple[str, memoryview]:
    key, value = "", memoryview(b"")
    for field in fields(message):
        if field.number == 1:
            key = field.text()
        elif field.number == 2:
            value = field.message()
    return key, value


def _signature_definitions(metadata_entry: memoryview) -> Iterator[tuple[str, memoryview]]:
    _, any_message = _entry(metadata_entry)
    # google.protobuf.Any has the shape of a map's entry: a type's name, then the bytes of a SignatureDefMap.
    _, signature_map = _entry(any_message)
    yield from _map_entries(signature_map, 1)


def _signature(name: str, definition: memoryview) -> Signature | None:
    try:
        inputs = tuple(_tensor_spec(*entry) for entry in _map_entries(definition, 1))
        outputs = tuple(_tensor_spec(*entry) for entry in _map_entries(definition, 2))
    except Unimplemented:
        return None
    return Signature(name, inputs, outputs)


def _tensor_spec(name: str, info: memoryview) -> TensorSpec:
    tensor_name, number, shape = "", 0, None
    for field in fields(info):
        if field.number == 1:
            tensor_name = field.text()
        elif field.number == 2:
            number = field.value
        elif field.number == 3:
            shape = _shape(field.message())
    return TensorSpec(name, datatype_of_number(number), shape, tensor_name)


def _shape(message: memoryview) -> tuple[int, ...] | None:
    sizes = []
    for field in fields(message):
        if field.number == 3 and field.value:
            return None
        if field.number == 2:
            sizes.append(next((size.signed for size in fields(field.message()) if size.number == 1), 0))
    return tuple(sizes)


def _version_status(message: memoryview) -> VersionStatus:
    version, state, code, text = 0, 0, 0, ""
    for field in fields(message):
        if field.number == 1:
            version = field.signed
        elif field.number == 2:
            state = field.value
        elif field.number == 3:
            for part in fields(field.message()):
                code = part.value if part.number == 1 else code
                text = part.text() if part.number == 2 else text
    return VersionStatus(
        version, _STATES.get(state, "UNKNOWN"), _CODES[code] if code < len(_CODES) else "UNKNOWN", text
    )
