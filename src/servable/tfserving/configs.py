"""From the messages of config files to what the server takes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import DecodeError

from servable.errors import InvalidArgument
from servable.lifecycle import All, Latest, Specific
from servable.server.model_list import PLATFORM, ModelConfig
from servable.server.request_log import LogTarget
from servable.server.security import GrpcTls
from servable.settings import PerModelSettings
from servable.storage.uri import BucketUri, bucket_uri
from servable.tfserving import messages
from servable.tfserving.text_file import read_message

if TYPE_CHECKING:
    from servable.lifecycle import VersionPolicy
    from servable.settings import ModelSettings

BATCHING_FILE = "batching_params.pbtxt"
DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"

# TensorFlow Serving's defaults.
_MAX_BATCH_SIZE, _MAX_ENQUEUED_BATCHES = 1000, 10
# The types of log collector that mean a file; upstream's own server has none.
_COLLECTORS = ("", "file", "tfrecord")
_LARGEST_BATCH, _LONGEST_QUEUE = 1 << 20, 1 << 30

Settings = TypeVar("Settings", bound=PerModelSettings)


@dataclass(frozen=True, slots=True)
class BatchingParameters:
    """How requests are joined; the fields are those of the message, with its defaults filled in."""

    max_batch_size: int
    max_execution_batch_size: int
    batch_timeout_micros: int
    max_enqueued_batches: int
    num_batch_threads: int
    allowed_batch_sizes: tuple[int, ...]
    pad_variable_length_inputs: bool
    enable_large_batch_splitting: bool

    def applied_to(self, settings: Settings) -> Settings:
        """The settings of a model or a server with these ones in them."""
        return replace(
            settings,
            batch="on",
            max_batch_rows=self.max_execution_batch_size,
            max_request_rows=self.max_batch_size,
            split_requests=self.enable_large_batch_splitting,
            batch_timeout=self.batch_timeout_micros / 1e6,
            allowed_batch_sizes=self.allowed_batch_sizes,
            pad_batches=self.pad_variable_length_inputs,
            max_queued_rows=min(self.max_enqueued_batches * self.max_batch_size, _LONGEST_QUEUE),
        )


def read_model_configs(path: str | Path) -> tuple[ModelConfig, ...]:
    """The list of models in a text ModelServerConfig.

    Raises:
        NotFound: The file is not there.
        InvalidArgument: It is no such message, or not a list that can be served.
    """
    return model_configs(read_message(path, "ModelServerConfig"))


def read_reload_request(request: bytes) -> tuple[ModelConfig, ...]:
    """The list of models in a serialized ReloadConfigRequest.

    Raises:
        InvalidArgument: It is no such message, or not a list that can be served.
    """
    message: Any = messages.new("ReloadConfigRequest")
    try:
        message.ParseFromString(request)
    except DecodeError as error:
        raise InvalidArgument(f"The ReloadConfigRequest cannot be read: {error}") from None
    if message.config.WhichOneof("config") != "model_config_list":
        raise InvalidArgument(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported"
        )
    return model_configs(message.config)


def model_configs(message: Any) -> tuple[ModelConfig, ...]:
    """The models of a ModelServerConfig.

    Raises:
        InvalidArgument: It is not a list, or a model in it cannot be served.
    """
    if message.WhichOneof("config") == "custom_model_config":
        raise InvalidArgument("custom_model_config is not supported: list the models in model_config_list")
    return tuple(_model_config(each) for each in message.model_config_list.config)


def _model_config(message: Any) -> ModelConfig:
    return ModelConfig(
        name=message.name,
        base_path=base_path(message.name, message.base_path),
        version_policy=_version_policy(message.model_version_policy),
        labels=dict(message.version_labels),
        platform=_platform(message),
        request_log=_request_log(message),
    )


def _request_log(message: Any) -> LogTarget | None:
    """Where a model's requests are logged.

    The folder has to be there: whoever may send a list of models is not to make folders.
    """
    if not message.HasField("logging_config"):
        return None
    collector = message.logging_config.log_collector_config
    if collector.type not in _COLLECTORS or not collector.filename_prefix:
        raise InvalidArgument("No request-logger-creator provided.")
    prefix, rate = Path(collector.filename_prefix), message.logging_config.sampling_config.sampling_rate
    if "\0" in collector.filename_prefix or not prefix.is_absolute() or not prefix.name or not prefix.parent.is_dir():
        raise InvalidArgument(f"filename_prefix must be an absolute path in a folder that is there; was {prefix}")
    if not 0 <= rate <= 1:
        raise InvalidArgument(f"sampling_rate must be from 0 to 1; was {rate}")
    return LogTarget(prefix, rate)


def base_path(model: str, path: str) -> Path | BucketUri:
    """The folder of a model's versions, or the place in a bucket.

    Raises:
        InvalidArgument: The path is not absolute, or is the URI of another kind of storage.
    """
    try:
        uri = bucket_uri(path)
    except InvalidArgument as error:
        raise InvalidArgument(f"Model {model}: {error}", hint=error.hint) from None
    if uri is not None:
        return uri
    local = path.removeprefix("file://")
    if not local.startswith("/") or "\0" in local:
        raise InvalidArgument(f"Expected model {model} to have an absolute path or URI; got base_path()={path}")
    return Path(local)


def _platform(message: Any) -> str:
    if message.model_type:
        if message.model_platform:
            raise InvalidArgument("Illegal setting both model_type(deprecated) and model_platform.")
        platform = PLATFORM if message.model_type == 1 else "other"
    else:
        platform = message.model_platform
    if not platform:
        raise InvalidArgument("Illegal setting neither model_type(deprecated) nor model_platform.")
    return str(platform)


def _version_policy(message: Any) -> VersionPolicy:
    match message.WhichOneof("policy_choice"):
        case "all":
            return All()
        case "specific":
            return Specific(list(message.specific.versions))
    return Latest(message.latest.num_versions or 1)


def read_batching_parameters(path: str | Path) -> BatchingParameters:
    """The batching parameters of a text file.

    Raises:
        NotFound: The file is not there.
        InvalidArgument: It is no such message, or its values contradict each other.
    """
    return batching_parameters(read_message(path, "BatchingParameters"))


def batching_parameters(message: Any = None) -> BatchingParameters:
    """A BatchingParameters message with TensorFlow Serving's defaults filled in; the defaults alone without one.

    Raises:
        InvalidArgument: A value is out of its range, or the allowed sizes do not fit the size of a batch.
    """
    message = messages.new("BatchingParameters") if message is None else message

    def value(name: str, default: int, least: int, most: int) -> int:
        number: int = getattr(message, name).value if message.HasField(name) else default
        if not least <= number <= most:
            raise InvalidArgument(f"{name} must be from {least} to {most}; was {number}")
        return number

    max_batch_size = value("max_batch_size", _MAX_BATCH_SIZE, 1, _LARGEST_BATCH)
    splits = message.enable_large_batch_splitting.value
    most_executed = value("max_execution_batch_size", max_batch_size, 1, max_batch_size) if splits else max_batch_size
    sizes = tuple(message.allowed_batch_sizes)
    _check_sizes(sizes, most_executed, "max_execution_batch_size" if splits else "max_batch_size")
    return BatchingParameters(
        max_batch_size=max_batch_size,
        max_execution_batch_size=most_executed,
        batch_timeout_micros=value("batch_timeout_micros", 0, 0, 3600 * 1_000_000),
        max_enqueued_batches=value("max_enqueued_batches", _MAX_ENQUEUED_BATCHES, 1, _LONGEST_QUEUE),
        num_batch_threads=value("num_batch_threads", 0, 1, 4096) if message.HasField("num_batch_threads") else 0,
        allowed_batch_sizes=sizes,
        pad_variable_length_inputs=message.pad_variable_length_inputs,
        enable_large_batch_splitting=splits,
    )


def _check_sizes(sizes: tuple[int, ...], last: int, name: str) -> None:
    if not sizes:
        return
    if sizes[0] < 1 or list(sizes) != sorted(set(sizes)):
        raise InvalidArgument(f"allowed_batch_sizes entries must be in increasing order; got {list(sizes)[:100]}")
    if sizes[-1] != last:
        raise InvalidArgument(
            f"Last entry in allowed_batch_sizes must match {name}; last entry was {sizes[-1]}; expected {last}"
        )


def version_batching(folder: Path, settings: ModelSettings) -> ModelSettings:
    """The settings of a version that brings its own batching parameters; without them it is not batched.

    Raises:
        InvalidArgument: The file in the version's folder is no such message, or contradicts itself.
    """
    path = folder / BATCHING_FILE
    if not path.exists():
        return replace(settings, batch="off")
    return read_batching_parameters(path).applied_to(settings)


def read_metrics_path(path: str | Path) -> str:
    """Where a text MonitoringConfig wants the Prometheus page; empty where it is not enabled.

    Raises:
        NotFound: The file is not there.
        InvalidArgument: It is no such message, or the path is none.
    """
    config = read_message(path, "MonitoringConfig").prometheus_config
    if not config.enable:
        return ""
    wanted = config.path or DEFAULT_METRICS_PATH
    if not wanted.startswith("/") or not wanted.isprintable():
        raise InvalidArgument(f"The path of prometheus_config must begin with a slash; was {wanted!r}")
    return str(wanted)


def read_ssl_config(path: Path) -> GrpcTls:
    """The certificates in a text SSLConfig.

    Clients are asked for theirs only where `client_verify` says so; without `custom_ca` they must come from the
    authorities that this machine trusts.

    Raises:
        NotFound: The file is not there.
        InvalidArgument: It is no such message, has no key or certificate, or there is no authority for clients.
    """
    config = read_message(path, "SSLConfig")
    if not config.server_key or not config.server_cert:
        raise InvalidArgument(f"{path} needs both server_key and server_cert")
    if not config.client_verify:
        return GrpcTls(config.server_cert, config.server_key)
    client_ca = config.custom_ca or _trusted_here()
    if not client_ca:
        raise InvalidArgument(f"{path} asks for client_verify, and this machine trusts nobody: custom_ca is needed")
    return GrpcTls(config.server_cert, config.server_key, client_ca)


def _trusted_here() -> str:
    known = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, known))
