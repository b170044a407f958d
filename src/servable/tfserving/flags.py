"""The flags of `tensorflow_model_server`, and the rules by which TensorFlow reads a command line.

Only `--name=value` is understood; a switch may also stand alone. A value that does not fit, and `--help` as the first
argument, print the usage; an argument that is unknown is told and passed over.

Sources: `tensorflow/core/util/command_line_flags.cc`, `tensorflow_serving/model_servers/main.cc`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAME = "tensorflow_model_server"

_TRUE, _FALSE = ("true", "1"), ("false", "0")
_NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag.

    Attributes:
        name: Without dashes.
        default: Its value where it is not given; its type is the type of the flag.
        about: What it does, for the usage text.
        accepted: Known and taken, but without effect here; why.
        bits: Of an integer.
    """

    name: str
    default: Any
    about: str
    accepted: str = ""
    bits: int = 32

    @property
    def kind(self) -> str:
        """The name of its type in the usage text."""
        names = {bool: "bool", str: "string", float: "float", int: f"int{self.bits}"}
        return names[type(self.default)]

    def read(self, text: str) -> Any:
        """The value of this text.

        Raises:
            ValueError: It has none.
        """
        match self.default:
            case bool():
                return _read_bool(text)
            case int():
                return _read_int(text, self.bits)
            case float():
                return _read_float(text)
        return text


@dataclass(slots=True)
class CommandLine:
    """What was read.

    Attributes:
        values: Every flag with its value.
        given: The names of those that were given.
        unknown: Arguments that are no flag.
        errors: What is wrong; the usage is to be printed then.
    """

    values: dict[str, Any]
    given: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


_NO_TENSORFLOW = "the engines of this server have no such option"
_ONE_POOL = "threads are shared by all models: see engine_threads and io_threads of `servable serve`"

FLAGS = (
    Flag("port", 8500, "TCP port to listen on for gRPC API. Disabled if port set to zero."),
    Flag("grpc_socket_path", "", "If non-empty, listen to a UNIX socket for gRPC API on the given path."),
    Flag("rest_api_port", 0, "Port to listen on for HTTP/REST API. If set to zero it is not exported."),
    Flag("rest_api_num_threads", 0, "Number of threads for HTTP/REST API processing.", accepted=_ONE_POOL),
    Flag("rest_api_timeout_in_ms", 30000, "Timeout for HTTP/REST API calls; none if zero or less."),
    Flag("rest_api_enable_cors_support", False, "Enable CORS headers in response."),
    Flag("enable_batching", False, "Enable batching."),
    Flag("allow_version_labels_for_unavailable_models", False, "Allow unused labels for unavailable versions."),
    Flag("batching_parameters_file", "", "Text BatchingParameters to use with enable_batching."),
    Flag("enable_per_model_batching_parameters", False, "Use batching_params.pbtxt in the folder of each version."),
    Flag(
        "model_config_file", "", "Text ModelServerConfig: the models to serve. Overrides model_name, model_base_path."
    ),
    Flag("model_config_file_poll_wait_seconds", 0, "Seconds between re-reading model_config_file; never if zero."),
    Flag("model_name", "default", "Name of the model; ignored if model_config_file is given."),
    Flag("model_base_path", "", "Folder of the model's versions; ignored if model_config_file is given."),
    Flag("num_load_threads", 0, "Versions loaded at the same time; the server's default if zero."),
    Flag("num_unload_threads", 0, "Threads for unloading.", accepted="each unload has a thread of its own"),
    Flag("max_num_load_retries", 5, "Tries to load a version after the first one failed."),
    Flag("load_retry_interval_micros", 60_000_000, "Microseconds between tries; none if negative.", bits=64),
    Flag(
        "file_system_poll_wait_seconds", 1, "Seconds between looks for new versions; zero for one look, negative: none."
    ),
    Flag("flush_filesystem_caches", True, "Evict files from the cache after load.", accepted="the system decides"),
    Flag("tensorflow_session_parallelism", 0, "Threads inside and between operations; automatic if zero.", bits=64),
    Flag("tensorflow_intra_op_parallelism", 0, "Threads inside one operation; automatic if zero.", bits=64),
    Flag("tensorflow_inter_op_parallelism", 0, "Operations that run side by side; automatic if zero.", bits=64),
    Flag("tensorflow_session_config_file", "", "Text ConfigProto for sessions."),
    Flag("ssl_config_file", "", "Text SSLConfig: certificates for gRPC."),
    Flag("platform_config_file", "", "Text PlatformConfigMap.", accepted="there is one platform, tensorflow"),
    Flag("per_process_gpu_memory_fraction", 0.0, "Share of GPU memory for each process; automatic if zero."),
    Flag("saved_model_tags", "serve", "Comma-separated tags of the meta graph to load from a SavedModel."),
    Flag("grpc_channel_arguments", "", "Comma-separated key=value arguments of gRPC."),
    Flag("grpc_max_threads", 0, "Most gRPC threads.", accepted=_ONE_POOL),
    Flag("enable_model_warmup", True, "Replay the warm-up requests of a version before it is available."),
    Flag("num_request_iterations_for_warmup", 0, "Replays of each warm-up request; one if zero."),
    Flag("version", False, "Display version."),
    Flag("monitoring_config_file", "", "Text MonitoringConfig: the Prometheus page."),
    Flag("remove_unused_fields_from_bundle_metagraph", True, "Save memory.", accepted="nothing is kept"),
    Flag("prefer_tflite_model", False, "Take model.tflite where there is one; else the SavedModel."),
    Flag("num_tflite_pools", 0, "Pools of TFLite interpreters for each version; one a core if zero."),
    Flag("num_tflite_interpreters_per_pool", 1, "Interpreters in each pool."),
    Flag("enable_signature_method_name_check", False, "Classify and Regress demand the method name of the signature."),
    Flag("enable_profiler", True, "Enable the profiler service.", accepted="there is no profiler service"),
    Flag("enable_grpc_healthcheck_service", False, "Enable gRPC health checks.", accepted="it is always there"),
    Flag("enable_serialization_as_tensor_content", False, "Answer Predict in tensor_content."),
    Flag("mixed_precision", "", "bfloat16: let oneDNN compute in it where that is faster."),
    Flag("xla_cpu_compilation_enabled", False, "Enable XLA:CPU.", accepted=_NO_TENSORFLOW),
    Flag("xla_gpu_compilation_enabled", False, "Enable XLA:GPU.", accepted=_NO_TENSORFLOW),
    Flag("thread_pool_factory_config_file", "", "Text ThreadPoolConfig.", accepted=_ONE_POOL),
    Flag("use_alts_credentials", False, "Use Google ALTS.", accepted="ALTS is for Google's own network"),
    Flag("skip_initialize_tpu", False, "Do not initialize TPUs.", accepted="TPUs are not used"),
)


def parse(arguments: Sequence[str]) -> CommandLine:
    """Reads a command line, without the name of the program.

    Example:
        >>> line = parse(["--port=9000", "--enable_batching", "--nonsense"])
        >>> line.values["port"], line.values["enable_batching"], line.unknown
        (9000, True, ['--nonsense'])
    """
    line = CommandLine({flag.name: flag.default for flag in FLAGS})
    by_name = {flag.name: flag for flag in FLAGS}
    for argument in arguments:
        name, equals, text = argument.removeprefix("--").partition("=")
        flag = by_name.get(name) if argument.startswith("--") else None
        if flag is None or (not equals and not isinstance(flag.default, bool)):
            line.unknown.append(argument)
            continue
        try:
            line.values[name] = flag.read(text) if equals else True
        except ValueError:
            line.errors.append(f"Couldn't interpret value {text} for flag {name}.")
        line.given.append(name)
    if arguments and arguments[0] == "--help":
        line.errors.append("")
    return line


def usage() -> str:
    """The text that lists every flag with its default."""
    return "\n".join([f"usage: {NAME}", "Flags:", *_usage_lines(), ""])


def _usage_lines() -> Iterator[str]:
    for flag in FLAGS:
        default = f'"{flag.default}"' if isinstance(flag.default, str) else str(flag.default).lower()
        no_effect = f" (no effect: {flag.accepted})" if flag.accepted else ""
        yield f"\t{f'--{flag.name}={default}':<33}\t{flag.kind}\t{flag.about}{no_effect}"


def _read_bool(text: str) -> bool:
    word = text.lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError


def _read_int(text: str, bits: int) -> int:
    if not re.fullmatch(r"\s*[+-]?\d{1,19}", text, re.ASCII):
        raise ValueError
    number = int(text)
    if not -(1 << (bits - 1)) <= number < 1 << (bits - 1):
        raise ValueError
    return number


def _read_float(text: str) -> float:
    if not _NUMBER.fullmatch(text) or len(text) > 64:
        raise ValueError
    return float(text)
