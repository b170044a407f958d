"""The table of all settings: the fields of three dataclasses, each with its kind, help and section.

Flags, environment variables, TOML files, `servable config` and the reference page are all made from it.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from servable.settings import kinds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from servable.settings.kinds import Kind

ENVIRONMENT_PREFIX = "SERVABLE_"
SECTIONS = ("Listening", "Security", "Limits", "Models and versions", "Batching", "Engines", "Logs and metrics")


def _setting(default: Any, kind: Kind, about: str, *, section: str, flag: str = "") -> Any:
    metadata = {"kind": kind, "help": about, "section": section, "flag": flag}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class PerModelSettings:
    """What can be said for all models of a server, and again for one model in its own `servable.toml`."""

    version_policy: str = _setting(
        "latest:1",
        kinds.VERSION_POLICY,
        "which versions to serve: latest, latest:N, all, or their numbers",
        section="Models and versions",
    )
    versions_always_present: bool = _setting(
        False,
        kinds.BOOL,
        "keep what is loaded when the folder of a model holds no version any more; else it is unloaded",
        section="Models and versions",
    )
    swap_policy: str = _setting(
        "availability",
        kinds.choice("availability", "resource", "auto"),
        "how a new version takes over: availability loads it beside the old one; resource unloads the old one first "
        "and holds requests meanwhile; auto takes resource where both do not fit into memory_budget",
        section="Models and versions",
    )
    isolation: str = _setting(
        "none",
        kinds.choice("none", "process"),
        "where versions run: none in the server itself, process each in a process of its own, which may crash or take "
        "long to load without harm to other models",
        section="Models and versions",
    )
    batch: str = _setting(
        "auto",
        kinds.choice("auto", "on", "off"),
        "join waiting requests into one run: auto does it for versions whose rows are proven to be independent",
        section="Batching",
    )
    max_batch_rows: int = _setting(32, kinds.integer(1, 1 << 20), "most rows in one batch", section="Batching")
    batch_timeout: float = _setting(
        0.0,
        kinds.DURATION,
        "how long a batch that is not full may wait for more rows once an engine thread is free",
        section="Batching",
    )
    allowed_batch_sizes: tuple[int, ...] = _setting(
        (),
        kinds.BATCH_SIZES,
        "round batches up to one of these sizes; the last must equal max_batch_rows",
        section="Batching",
    )
    pad_batches: bool = _setting(
        False,
        kinds.BOOL,
        "join rows of different lengths by padding them to the longest",
        section="Batching",
    )
    max_request_rows: int = _setting(
        0,
        kinds.integer(0, 1 << 30),
        "most rows in one request to a version that is batched, at least max_batch_rows; 0 for no limit",
        section="Batching",
    )
    split_requests: bool = _setting(
        False,
        kinds.BOOL,
        "run requests that are larger than a batch in parts; else each is a batch of its own",
        section="Batching",
    )
    max_queued_rows: int = _setting(
        10_000,
        kinds.integer(1, 1 << 30),
        "most rows that may wait for one version; more are refused with 503",
        section="Batching",
    )
    gate: str = _setting(
        "",
        kinds.PATH,
        "a request log (file, folder or glob): a new version becomes available only when it answers as the log says",
        section="Models and versions",
    )
    gate_records: int = _setting(
        1000,
        kinds.integer(1, 1 << 30),
        "most records of the gate that a new version is run on, those of the newest files first",
        section="Models and versions",
    )
    request_log: str = _setting(
        "",
        kinds.PATH,
        "a folder for requests with their answers, one folder for each model in it; it holds what clients sent",
        section="Logs and metrics",
    )
    request_log_sample: float = _setting(
        1.0, kinds.SHARE, "share of the requests that is logged, from 0 to 1", section="Logs and metrics"
    )
    request_log_format: str = _setting(
        "tfrecord",
        kinds.choice("tfrecord", "json"),
        "form of the request log: tfrecord is that of warm-up files, json has a line for each request",
        section="Logs and metrics",
    )
    request_log_max_size: int = _setting(
        1 << 30,
        kinds.SIZE,
        "bytes of all request logs of one model together; the oldest files are removed",
        section="Logs and metrics",
    )
    skew_sample: float = _setting(
        0.01,
        kinds.SHARE,
        "share of the requests whose inputs are compared with those of the training, where the version has their "
        "statistics; 0 for none",
        section="Logs and metrics",
    )
    skew_threshold: float = _setting(
        0.2,
        kinds.POSITIVE,
        "population stability index of a feature above which a warning is logged",
        section="Logs and metrics",
    )
    intra_op_threads: int = _setting(
        1, kinds.integer(0, 4096), "threads inside one operation of a model; 0 for one a core", section="Engines"
    )
    inter_op_threads: int = _setting(
        1, kinds.integer(0, 4096), "operations of a model that run side by side; 0 for one a core", section="Engines"
    )
    prefer_tflite: bool = _setting(
        False,
        kinds.BOOL,
        "take model.tflite where the folder of a version holds a SavedModel as well",
        section="Engines",
    )
    tflite_interpreters: int = _setting(
        0,
        kinds.integer(0, 1024),
        "most runs of a TensorFlow Lite model at the same time, each with memory of its own; 0 for one a core",
        section="Engines",
    )


@dataclass(frozen=True, kw_only=True)
class ModelSettings(PerModelSettings):
    """The settings of one model, from `servable.toml` in the folder that holds its versions."""

    labels: Mapping[str, int] = _setting(
        {},
        kinds.LABELS,
        "names under which clients can ask for versions",
        section="Models and versions",
    )


@dataclass(frozen=True, kw_only=True)
class ServerSettings(PerModelSettings):
    """The settings of a server.

    Units: sizes are in bytes, times in seconds; a port that is off is None.
    """

    grpc_port: int | None = _setting(
        8500, kinds.PORT, "port of gRPC; 0 for any free one", section="Listening", flag="--port"
    )
    rest_port: int | None = _setting(
        8501, kinds.PORT, "port of REST and of the metrics page; 0 for any free one", section="Listening"
    )
    bind: str = _setting(
        "127.0.0.1",
        kinds.ADDRESS,
        "address to listen on; anything but loopback needs tokens, tls_client_ca or insecure",
        section="Listening",
    )
    grpc_socket_path: str = _setting(
        "", kinds.PATH, "also listen for gRPC on this Unix socket; a stale one is replaced", section="Listening"
    )
    grpc_max_message_size: int = _setting(
        0, kinds.SIZE, "largest gRPC message; 0 for max_body_size", section="Listening"
    )
    grpc_max_streams: int = _setting(
        1000, kinds.integer(1, 2**31 - 1), "calls that a gRPC connection may have open at once", section="Listening"
    )
    grpc_keepalive: float = _setting(
        60.0,
        kinds.DURATION,
        "silence after which a gRPC client is asked whether it is still there; 0 for never",
        section="Listening",
    )
    grpc_keepalive_timeout: float = _setting(
        20.0, kinds.DURATION, "how long it may take to answer that; 0 for no limit", section="Listening"
    )
    grpc_max_connection_age: float = _setting(
        0.0,
        kinds.DURATION,
        "age at which a gRPC connection finishes its calls and ends: clients then spread over new servers; 0 for none",
        section="Listening",
    )
    cors: bool = _setting(False, kinds.BOOL, "let pages of other sites call REST from a browser", section="Listening")
    io_threads: int = _setting(
        0, kinds.integer(0, 4096), "threads that read and write sockets; 0 for one a core", section="Listening"
    )
    grace_period: float = _setting(
        30.0, kinds.DURATION, "how long a stopping server finishes requests", section="Listening"
    )

    tls_cert: str = _setting(
        "",
        kinds.PATH,
        "the server's certificate and those between it and its root, in PEM: REST and gRPC then speak TLS; a file that "
        "changes is read again",
        section="Security",
    )
    tls_key: str = _setting("", kinds.PATH, "the private key of tls_cert, in PEM", section="Security")
    tls_client_ca: str = _setting(
        "",
        kinds.PATH,
        "certificates of authorities, in PEM: clients then have to show one that comes from them (mutual TLS)",
        section="Security",
    )
    tls_client_verify: str = _setting(
        "required",
        kinds.choice("required", "optional"),
        "whether clients may come without a certificate where tls_client_ca is set",
        section="Security",
    )
    tokens: str = _setting(
        "",
        kinds.PATH,
        "a file of tokens, made by servable token create: every request then needs one; a file that changes is read "
        "again",
        section="Security",
    )
    insecure: bool = _setting(
        False,
        kinds.BOOL,
        "let other machines connect without tokens and mutual TLS: whoever reaches the ports can use every model",
        section="Security",
    )

    repository: str = _setting(
        "auto",
        kinds.choice("auto", "off", "read", "write"),
        "what clients may do with the models: list them (read), or also upload, remove, load and unload them (write); "
        "auto is write where tokens are asked for and else read",
        section="Security",
    )
    upload_code: bool = _setting(
        False,
        kinds.BOOL,
        "take uploads of Python models too: they are code, which the server runs",
        section="Security",
    )

    max_body_size: int = _setting(64 << 20, kinds.SIZE, "largest request body, also unpacked", section="Limits")
    max_upload_size: int = _setting(
        10 << 30, kinds.SIZE, "largest model that can be uploaded, also unpacked; 0 for no limit", section="Limits"
    )
    max_header_size: int = _setting(64 << 10, kinds.SIZE, "largest request header", section="Limits")
    max_rows: int = _setting(0, kinds.integer(), "most rows in one request; 0 for no limit", section="Limits")
    send_timeout: float = _setting(
        30.0,
        kinds.DURATION,
        "how long a client may take to send a request, or to read on in its answer; 0 for no limit",
        section="Limits",
    )
    request_timeout: float = _setting(
        30.0,
        kinds.DURATION,
        "how long an answer may take where the request does not say; 0 for no limit",
        section="Limits",
    )
    max_connections: int = _setting(10_000, kinds.integer(1, 1 << 24), "most connections at one time", section="Limits")
    max_queued_bytes: int = _setting(
        1 << 30, kinds.SIZE, "most bytes of requests that wait or run at one time", section="Limits"
    )
    max_held_requests: int = _setting(
        10_000,
        kinds.integer(0, 1 << 24),
        "most requests that wait while a version is swapped under swap_policy resource, or loaded on demand",
        section="Limits",
    )

    poll_interval: float = _setting(
        2.0,
        kinds.DURATION,
        "how often to look for versions where the file system tells of no changes",
        section="Models and versions",
    )
    bucket_poll_interval: float = _setting(
        60.0,
        kinds.DURATION,
        "how often to look for versions in buckets; a look at a model is a request or two, for which the store charges",
        section="Models and versions",
    )
    cache: str = _setting(
        "",
        kinds.PATH,
        "the folder for what is downloaded from buckets; $XDG_CACHE_HOME/servable if empty",
        section="Models and versions",
    )
    cache_size: int = _setting(
        20 << 30,
        kinds.SIZE,
        "how much the cache may hold; what was used least recently is removed, what is in use never",
        section="Models and versions",
    )
    settle: float = _setting(
        1.0,
        kinds.DURATION,
        "how long a version without a manifest must be unchanged before it is loaded",
        section="Models and versions",
    )
    model_config_file: str = _setting(
        "",
        kinds.PATH,
        "list of models in TensorFlow Serving's form (a text ModelServerConfig), instead of a folder of models",
        section="Models and versions",
    )
    model_config_poll: float = _setting(
        0.0, kinds.DURATION, "how often to read model_config_file again; 0 for once", section="Models and versions"
    )
    reload_timeout: float = _setting(
        600.0,
        kinds.DURATION,
        "how long a client that sends a new list of models waits for them to be loaded",
        section="Models and versions",
    )
    memory_budget: int = _setting(
        0,
        kinds.SIZE,
        "memory for models under swap_policy auto and with on_demand; 0 for what the machine or its container has",
        section="Models and versions",
    )
    on_demand: bool = _setting(
        False,
        kinds.BOOL,
        "load models that do not fit into memory_budget when requests ask for them, in place of those used least",
        section="Models and versions",
    )
    min_residence: float = _setting(
        3.0,
        kinds.DURATION,
        "how long a model that was loaded stays at least before another one may take its place (with on_demand)",
        section="Models and versions",
    )
    load_threads: int = _setting(
        2, kinds.integer(1, 1024), "versions that are loaded at the same time", section="Models and versions"
    )
    warm_up_iterations: int = _setting(
        1,
        kinds.integer(0, 1000),
        "how often each golden example (warm-up request) of a version is run before it serves; 0 for not at all, and "
        "then nothing proves that it answers as it should",
        section="Models and versions",
    )
    load_retries: int = _setting(
        5,
        kinds.integer(0, 1_000_000),
        "tries to load a version after the first one failed",
        section="Models and versions",
    )
    load_retry_interval: float = _setting(
        60.0, kinds.DURATION, "pause between two tries to load a version", section="Models and versions"
    )

    engine_threads: int = _setting(
        0, kinds.integer(0, 4096), "threads that run models; 0 for one a core", section="Engines"
    )
    saved_model_tags: tuple[str, ...] = _setting(
        ("serve",), kinds.LIST, "tags of the meta graph that is served of a SavedModel", section="Engines"
    )
    custom_ops: tuple[str, ...] = _setting(
        (), kinds.LIST, "libraries (.so files) with operations that TensorFlow lacks", section="Engines"
    )
    tensorflow_session_config: str = _setting(
        "",
        kinds.PATH,
        "a text tensorflow.ConfigProto for sessions; what it says of threads wins over the settings",
        section="Engines",
    )
    gpu_memory_fraction: float = _setting(
        0.0, kinds.FRACTION, "share of each GPU's memory that TensorFlow takes; 0 for its own choice", section="Engines"
    )
    gpu_memory_growth: bool = _setting(
        False, kinds.BOOL, "let TensorFlow take the GPU's memory as it needs it, not at once", section="Engines"
    )
    tensor_content: bool = _setting(
        False, kinds.BOOL, "answer gRPC predict in tensor_content, not in the typed fields", section="Engines"
    )
    check_method_names: bool = _setting(
        False,
        kinds.BOOL,
        "let classify and regress run only signatures whose method_name says so",
        section="Engines",
    )

    log_level: str = _setting(
        "info",
        kinds.choice("debug", "info", "warning", "error"),
        "least level that is logged",
        section="Logs and metrics",
    )
    log_format: str = _setting(
        "auto",
        kinds.choice("auto", "text", "json"),
        "form of log lines; auto is text on a terminal and JSON elsewhere",
        section="Logs and metrics",
    )
    access_log: str = _setting(
        "off", kinds.TEXT, "one line for each request: off, stderr, or the path of a file", section="Logs and metrics"
    )
    metrics_path: str = _setting(
        "/monitoring/prometheus/metrics",
        kinds.URL_PATH,
        "second path of the Prometheus page, which is at /metrics of the REST port too",
        section="Logs and metrics",
    )


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table.

    Attributes:
        name: Its key in a TOML file and its attribute, e.g. `rest_port`.
        default: The value where nothing else says one.
        kind: How it is read and shown.
        help: One sentence without a full stop.
        section: One of SECTIONS.
        flag: `--rest-port`; empty where it can only stand in a model's own file.
        environment: `SERVABLE_REST_PORT`; empty likewise.
        per_model: Whether a model's own `servable.toml` may hold it.
    """

    name: str
    default: Any
    kind: Kind
    help: str
    section: str
    flag: str
    environment: str
    per_model: bool


def table(*classes: type[PerModelSettings]) -> tuple[Setting, ...]:
    """The rows of the given classes, each once, by section; those of all classes where none is given.

    Example:
        >>> next(row.environment for row in table() if row.name == "rest_port")
        'SERVABLE_REST_PORT'
    """
    per_model = {item.name for item in fields(ModelSettings)}
    server = {item.name for item in fields(ServerSettings)}
    rows = {}
    for cls in classes or (ServerSettings, ModelSettings):
        for item in fields(cls):
            name, about = item.name, item.metadata
            rows[name] = Setting(
                name=name,
                default=item.default if item.default_factory is MISSING else item.default_factory(),
                kind=about["kind"],
                help=about["help"],
                section=about["section"],
                flag=(about["flag"] or "--" + name.replace("_", "-")) if name in server else "",
                environment=ENVIRONMENT_PREFIX + name.upper() if name in server else "",
                per_model=name in per_model,
            )
    return tuple(sorted(rows.values(), key=lambda row: SECTIONS.index(row.section)))
