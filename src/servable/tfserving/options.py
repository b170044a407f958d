"""From the flags of `tensorflow_model_server` to the settings of the server and its list of models."""

from __future__ import annotations

import logging
import os
import socket
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servable.engines.options import TensorFlowOptions
from servable.engines.session_config import read_session_config
from servable.errors import InvalidArgument
from servable.lifecycle import Latest
from servable.server.model_list import Looks, ModelConfig, ModelList
from servable.server.security import GrpcTlsFile
from servable.settings import ServerSettings
from servable.storage.cache import Cache
from servable.tfserving.channel import with_channel_arguments
from servable.tfserving.configs import (
    BatchingParameters,
    base_path,
    batching_parameters,
    read_batching_parameters,
    read_metrics_path,
    read_model_configs,
    read_ssl_config,
    version_batching,
)
from servable.tfserving.flags import FLAGS
from servable.tfserving.reload import reload_by_request
from servable.wire.protobuf import varint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from servable.tfserving.flags import CommandLine

logger = logging.getLogger(__name__)

# A message may have any size there; what wait and run together is bounded.
_MAX_BODY = 2**31 - 1
_MAX_QUEUED = 4 << 30
_LONGEST_S = 366 * 86400.0
# ConfigProto's graph_options { rewrite_options { auto_mixed_precision_onednn_bfloat16: ON } }.
_BFLOAT16 = b"\x52\x05\x52\x03\xf8\x01\x01"


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Everything that a command line asks for.

    Attributes:
        settings: Of the server.
        models: The first list of models.
        tensorflow: What TensorFlow is told.
        grpc_tls: Certificates for gRPC; None for plain text.
        config_file: Where the list was read from; empty where flags name the model.
        config_poll: Seconds between reading it again; 0 for never.
    """

    settings: ServerSettings
    models: ModelList
    tensorflow: TensorFlowOptions
    grpc_tls: GrpcTlsFile | None
    config_file: str
    config_poll: float


def serve_options(line: CommandLine) -> ServeOptions:
    """What a command line asks for. Reads the files that it names, and logs what has no effect.

    Raises:
        NotFound: A file is not there.
        InvalidArgument: A value or a file cannot be used.
    """
    flags = line.values
    _check(flags)
    _log_without_effect(line)
    config_file = flags["model_config_file"]
    models = read_model_configs(config_file) if config_file else (_single_model(flags),)
    batching = _batching(flags)
    return ServeOptions(
        settings=replace(_settings(flags, batching), **_buckets(line)),
        models=ModelList(
            models=models,
            looks=_looks(flags["file_system_poll_wait_seconds"]),
            wait_for_all=True,
            labels_for_unavailable=flags["allow_version_labels_for_unavailable_models"],
            version_settings=version_batching if batching and flags["enable_per_model_batching_parameters"] else None,
            reload=reload_by_request,
        ),
        tensorflow=_tensorflow(flags),
        grpc_tls=_grpc_tls(flags["ssl_config_file"]),
        config_file=config_file,
        config_poll=max(flags["model_config_file_poll_wait_seconds"], 0) if config_file else 0,
    )


def _check(flags: Mapping[str, Any]) -> None:
    if not flags["model_base_path"] and not flags["model_config_file"]:
        raise InvalidArgument("Both server_options.model_base_path and server_options.model_config_file are empty!")
    if flags["port"] == 0 and not flags["grpc_socket_path"]:
        raise InvalidArgument("server_options.grpc_port is not set.")
    for name in ("port", "rest_api_port"):
        if not 0 <= flags[name] <= 65535:
            raise InvalidArgument(f"{name} must be from 0 to 65535; was {flags[name]}")
    if flags["batching_parameters_file"] and not flags["enable_batching"]:
        raise InvalidArgument(
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
        )
    together = ("tensorflow_session_parallelism", "tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism")
    if all(flags[name] for name in together):
        raise InvalidArgument(
            "Either configure tensorflow_session_parallelism or (tensorflow_intra_op_parallelism, "
            "tensorflow_inter_op_parallelism) separately. Configuring all three is not supported."
        )


def _log_without_effect(line: CommandLine) -> None:
    for flag in FLAGS:
        if flag.accepted and flag.name in line.given:
            logger.warning("--%s has no effect: %s", flag.name, flag.accepted)


def _single_model(flags: Mapping[str, Any]) -> ModelConfig:
    name = flags["model_name"]
    return ModelConfig(name, base_path(name, flags["model_base_path"]), Latest(1), {})


def _looks(poll_wait_seconds: int) -> Looks:
    if poll_wait_seconds < 0:
        return Looks.NEVER
    return Looks.FOLLOW if poll_wait_seconds else Looks.ONCE


def _batching(flags: Mapping[str, Any]) -> BatchingParameters | None:
    if not flags["enable_batching"] or flags["platform_config_file"]:
        return None
    file = flags["batching_parameters_file"]
    return read_batching_parameters(file) if file else batching_parameters()


def _buckets(line: CommandLine) -> dict[str, Any]:
    """Upstream looks every second unless told otherwise, which a bucket would charge for: only what is said counts."""
    found: dict[str, Any] = {"cache_size": Cache.from_environment().limit}
    poll = line.values["file_system_poll_wait_seconds"]
    if "file_system_poll_wait_seconds" in line.given and poll > 0:
        found["bucket_poll_interval"] = float(poll)
    return found


def _tensorflow(flags: Mapping[str, Any]) -> TensorFlowOptions:
    return TensorFlowOptions(
        tags=tuple(tag for tag in flags["saved_model_tags"].split(",") if tag),
        gpu_memory_fraction=flags["per_process_gpu_memory_fraction"] or None,
        session_config=_session_config(flags),
    )


def _session_config(flags: Mapping[str, Any]) -> bytes:
    """The session config's file, and behind it, so that they win, the threads and the precision that flags ask for."""
    config = _session_config_file(flags)
    for field, name in ((2, "tensorflow_intra_op_parallelism"), (5, "tensorflow_inter_op_parallelism")):
        if config and (threads := _threads(flags, name, 0)):
            config += bytes([field << 3]) + varint(threads)
    if flags["mixed_precision"]:
        if flags["mixed_precision"] != "bfloat16":
            raise InvalidArgument(f"mixed_precision may be bfloat16, not {flags['mixed_precision']}")
        config += _BFLOAT16
    return config


def _session_config_file(flags: Mapping[str, Any]) -> bytes:
    path = flags["tensorflow_session_config_file"]
    if not path or flags["platform_config_file"]:
        return b""
    try:
        return read_session_config(path)
    except InvalidArgument as error:
        print(f"Error parsing text-format tensorflow.ConfigProto: {error}", file=sys.stderr)  # noqa: T201
        raise InvalidArgument(f"Invalid protobuf file: '{path}'") from None


def _grpc_tls(path: str) -> GrpcTlsFile | None:
    return GrpcTlsFile(Path(path), read_ssl_config) if path else None


def _threads(flags: Mapping[str, Any], name: str, default: int) -> int:
    number: int = flags[name] or flags["tensorflow_session_parallelism"]
    return min(max(number, 0), 4096) or default


def _interpreters(pools: int, each: int) -> int:
    # Pools keep those apart there that share a batch; here all of a version's are one pool.
    return min((pools if pools > 0 else os.cpu_count() or 1) * max(each, 1), 1024)


def _settings(flags: Mapping[str, Any], batching: BatchingParameters | None) -> ServerSettings:
    poll = flags["file_system_poll_wait_seconds"]
    metrics = read_metrics_path(flags["monitoring_config_file"]) if flags["monitoring_config_file"] else ""
    defaults = ServerSettings()
    settings = ServerSettings(
        bind=any_address(),
        insecure=True,
        grpc_port=flags["port"] or None,
        rest_port=_rest_port(flags),
        grpc_socket_path=flags["grpc_socket_path"],
        cors=flags["rest_api_enable_cors_support"],
        request_timeout=min(max(flags["rest_api_timeout_in_ms"], 0) / 1000, _LONGEST_S),
        max_body_size=_MAX_BODY,
        max_queued_bytes=_MAX_QUEUED,
        poll_interval=float(poll) if poll > 0 else defaults.poll_interval,
        load_threads=min(flags["num_load_threads"], 1024) if flags["num_load_threads"] > 0 else defaults.load_threads,
        warm_up_iterations=_warm_up_iterations(flags),
        load_retries=min(max(flags["max_num_load_retries"], 0), 1_000_000),
        load_retry_interval=min(max(flags["load_retry_interval_micros"], 0) / 1e6, _LONGEST_S),
        batch="off",
        intra_op_threads=_threads(flags, "tensorflow_intra_op_parallelism", defaults.intra_op_threads),
        inter_op_threads=_threads(flags, "tensorflow_inter_op_parallelism", defaults.inter_op_threads),
        prefer_tflite=flags["prefer_tflite_model"],
        tflite_interpreters=_interpreters(flags["num_tflite_pools"], flags["num_tflite_interpreters_per_pool"]),
        check_method_names=flags["enable_signature_method_name_check"],
        tensor_content=flags["enable_serialization_as_tensor_content"],
        metrics_path=metrics,
    )
    settings = with_channel_arguments(settings, flags["grpc_channel_arguments"])
    if batching is None:
        return settings
    return replace(batching.applied_to(settings), engine_threads=batching.num_batch_threads)


def _warm_up_iterations(flags: Mapping[str, Any]) -> int:
    if not flags["enable_model_warmup"]:
        return 0
    asked: int = flags["num_request_iterations_for_warmup"]
    return min(max(asked, 1), 1000)


def _rest_port(flags: Mapping[str, Any]) -> int | None:
    port: int = flags["rest_api_port"]
    if port and port == flags["port"]:
        logger.error(
            "server_options.http_port cannot be same as grpc_port. Please use a different port for HTTP/REST API. "
            "Skipped exporting HTTP/REST API."
        )
        return None
    return port or None


def any_address() -> str:
    """The address that stands for all of this machine's: of IPv6, which takes IPv4 too, where there is IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
    except OSError:
        return "0.0.0.0"  # noqa: S104  # upstream listens everywhere
    return "::"
