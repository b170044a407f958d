"""From flags, environment and files to settings, with the origin of every value.

The first that says something wins: flag, environment variable, TOML file, default.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from servable.errors import SettingsError
from servable.settings.table import (
    ENVIRONMENT_PREFIX,
    ModelSettings,
    PerModelSettings,
    ServerSettings,
    Setting,
    table,
)

CONFIG_FILE = "servable.toml"
CONFIG_VARIABLE = "SERVABLE_CONFIG"
TOKEN_VARIABLE = "SERVABLE_TOKEN"  # noqa: S105  # a name

_SMALLEST_LOG = 1 << 20
_LARGEST_FILE = 1 << 20
# What Kubernetes sets in each pod for a service whose name begins with "servable".
_SERVICE_LINK = re.compile(r"SERVABLE(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_SERVICE_VALUE = re.compile(r"(tcp|udp|sctp)://")

T = TypeVar("T", bound=PerModelSettings)


@dataclass(frozen=True, slots=True)
class Row:
    """A setting with its value as text, and where the value comes from."""

    setting: Setting
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Resolved(Generic[T]):
    """Settings and where each value comes from.

    Attributes:
        values: The settings.
        origins: From name to `default`, `flag --rest-port`, `environment SERVABLE_REST_PORT` or `file <path>`.
    """

    values: T
    origins: Mapping[str, str]

    def rows(self) -> Iterator[Row]:
        """Every setting in the order of the table, for people to read."""
        for setting in table(type(self.values)):
            value = setting.kind.show(getattr(self.values, setting.name))
            yield Row(setting, value, self.origins[setting.name])


def load_server_settings(
    flags: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    config: str | Path | None = None,
) -> Resolved[ServerSettings]:
    """The settings of a server.

    Args:
        flags: Values by name, as text or of the right type; None stands for a flag that was not given.
        environ: The environment; that of the process by default.
        config: A TOML file; by default the one that `SERVABLE_CONFIG` names, else `servable.toml` in the working
            directory if there is one.

    Raises:
        SettingsError: A value is wrong, a name is unknown, the file cannot be read, or the address is not a loopback
            one and neither tokens nor mutual TLS nor `insecure` is set.

    Example:
        >>> found = load_server_settings({"rest_port": "0"}, environ={"SERVABLE_BATCH": "off"})
        >>> found.values.rest_port, found.values.batch, found.origins["batch"]
        (0, 'off', 'environment SERVABLE_BATCH')
    """
    environ = os.environ if environ is None else environ
    settings = {setting.name: setting for setting in table(ServerSettings)}
    path = _config_path(config, environ)
    layers = [
        _from_file(path, settings) if path else {},
        _from_environment(environ, settings),
        _from_flags(flags or {}, settings),
    ]
    resolved = _resolve(ServerSettings, layers, ServerSettings())
    _check_tls(resolved.values)
    _check_listening(resolved.values)
    _check_batching(resolved.values)
    _check_request_log(resolved.values)
    return resolved


def load_model_settings(folder: str | Path, server: ServerSettings | None = None) -> Resolved[ModelSettings]:
    """The settings of one model: those of the `servable.toml` in the folder of its versions, else those of the server.

    Raises:
        SettingsError: The file cannot be read, a value is wrong, or a name is unknown or not one for a single model.
    """
    settings = {setting.name: setting for setting in table(ModelSettings)}
    path = Path(folder) / CONFIG_FILE
    layer = _from_file(path, settings) if path.is_file() else {}
    resolved = _resolve(ModelSettings, [layer], server or ServerSettings())
    _check_batching(resolved.values)
    _check_request_log(resolved.values)
    return resolved


def _config_path(config: str | Path | None, environ: Mapping[str, str]) -> Path | None:
    named = config or environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    return Path(CONFIG_FILE) if Path(CONFIG_FILE).is_file() else None


def _resolve(cls: type[T], layers: Iterable[Mapping[str, tuple[object, str]]], base: PerModelSettings) -> Resolved[T]:
    values: dict[str, Any] = {}
    origins = {}
    for setting in table(cls):
        values[setting.name] = getattr(base, setting.name, setting.default)
        origins[setting.name] = "default" if values[setting.name] == setting.default else "server"
    for layer in layers:
        for name, (value, origin) in layer.items():
            values[name], origins[name] = value, origin
    return Resolved(cls(**values), origins)


def _read(setting: Setting, raw: object, origin: str) -> tuple[object, str]:
    try:
        return setting.kind.read(raw), origin
    except ValueError as error:
        raise SettingsError(f"{setting.name} {error} ({origin})", hint=_value_hint(setting, raw)) from None


def _value_hint(setting: Setting, raw: object) -> str:
    if isinstance(raw, str) and _SERVICE_VALUE.match(raw):
        return "Kubernetes sets this variable for a service of that name: enableServiceLinks: false in the pod ends it"
    return f"{setting.name}: {setting.help}"


def _from_flags(flags: Mapping[str, object], settings: Mapping[str, Setting]) -> dict[str, tuple[object, str]]:
    layer = {}
    for name, raw in flags.items():
        if name not in settings:
            raise SettingsError(f"There is no setting {name!r}", hint=_name_hint(name, settings))
        if raw is not None:
            layer[name] = _read(settings[name], raw, f"flag {settings[name].flag}")
    return layer


def _from_environment(environ: Mapping[str, str], settings: Mapping[str, Setting]) -> dict[str, tuple[object, str]]:
    layer = {}
    for variable, raw in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or _SERVICE_LINK.fullmatch(variable):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name in settings and raw != "":
            layer[name] = _read(settings[name], raw, f"environment {variable}")
        elif name not in settings and not _SERVICE_VALUE.match(raw):
            _refuse_near_match(variable, name, settings)
    return layer


def _refuse_near_match(variable: str, name: str, settings: Mapping[str, Setting]) -> None:
    """Other programs may own variables with our prefix, so only what looks like a slip is an error."""
    nearest = _nearest(name, settings)
    if nearest and variable not in (CONFIG_VARIABLE, TOKEN_VARIABLE):
        hint = f"did you mean {settings[nearest].environment}?"
        raise SettingsError(f"There is no setting for the environment variable {variable}", hint=hint)


def _from_file(path: Path, settings: Mapping[str, Setting]) -> dict[str, tuple[object, str]]:
    layer = {}
    for name, raw in _read_toml(path).items():
        if name not in settings:
            raise SettingsError(f"There is no setting {name!r} here ({path})", hint=_file_hint(name, raw, settings))
        layer[name] = _read(settings[name], raw, f"file {path}")
    return layer


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise SettingsError(
                f"{path} is larger than {_LARGEST_FILE} bytes", hint="a settings file is some lines long"
            )
        return tomllib.loads(content.decode())
    except OSError as error:
        raise SettingsError(f"Cannot read the settings file {path}: {error.strerror}") from None
    except RecursionError:
        raise SettingsError(f"{path} is nested too deeply") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}", hint="write settings as name = value") from None


def _file_hint(name: str, raw: object, settings: Mapping[str, Setting]) -> str:
    elsewhere = next((setting for setting in table() if setting.name == name), None)
    if elsewhere and elsewhere.flag:
        return f"{name} is for the whole server, not for one model"
    if elsewhere:
        return f"{name} is for one model: put it into {CONFIG_FILE} in the folder of that model"
    if isinstance(raw, Mapping) and not _nearest(name, settings):
        return "settings stand at the top of the file, not in [tables]"
    return _name_hint(name, settings)


def _name_hint(name: str, settings: Mapping[str, Setting]) -> str:
    nearest = _nearest(name, settings)
    return f"did you mean {nearest}?" if nearest else "servable config lists the settings"


def _nearest(name: str, settings: Mapping[str, Setting]) -> str | None:
    """The setting that `name` is nearly the name of, or whose flag it is."""
    spellings = {setting.flag.lstrip("-").replace("-", "_"): setting.name for setting in settings.values()}
    spellings |= {setting: setting for setting in settings}
    word = name.lower().replace("-", "_")[:128]
    found = difflib.get_close_matches(word, [spelling for spelling in spellings if spelling], n=1, cutoff=0.8)
    return spellings[found[0]] if found else None


def _check_listening(settings: ServerSettings) -> None:
    asks_who = settings.tokens or (settings.tls_client_ca and settings.tls_client_verify == "required")
    if not (asks_who or settings.insecure or is_loopback(settings.bind)):
        raise SettingsError(
            f"bind {settings.bind} lets other machines use every model without any check of who they are",
            hint="ask for tokens with --tokens or for certificates with --tls-client-ca, or allow it with --insecure",
        )
    if settings.rest_port is None and settings.grpc_port is None and not settings.grpc_socket_path:
        raise SettingsError("rest_port and grpc_port are both off", hint="leave one on, or set grpc_socket_path")
    if settings.rest_port and settings.rest_port == settings.grpc_port:
        raise SettingsError(f"rest_port and grpc_port are both {settings.rest_port}", hint="give each its own")


def _check_tls(settings: ServerSettings) -> None:
    if bool(settings.tls_cert) != bool(settings.tls_key):
        missing = "tls_key" if settings.tls_cert else "tls_cert"
        raise SettingsError(f"TLS needs {missing} too", hint="tls_cert and tls_key belong together")
    if settings.tls_client_ca and not settings.tls_cert:
        raise SettingsError(
            "tls_client_ca asks clients for certificates, but the server has none itself",
            hint="set tls_cert and tls_key",
        )


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach what listens on an address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address.lower() == "localhost"


def _check_request_log(settings: PerModelSettings) -> None:
    if settings.request_log_max_size < _SMALLEST_LOG:
        raise SettingsError(
            f"request_log_max_size is {settings.request_log_max_size}, but the least is {_SMALLEST_LOG}",
            hint="logs are removed by the file, and a file is an eighth of it",
        )


def _check_batching(settings: PerModelSettings) -> None:
    sizes = settings.allowed_batch_sizes
    if sizes and sizes[-1] != settings.max_batch_rows:
        raise SettingsError(
            f"The last of allowed_batch_sizes is {sizes[-1]}, but max_batch_rows is {settings.max_batch_rows}",
            hint="make the two equal",
        )
    if 0 < settings.max_request_rows < settings.max_batch_rows:
        raise SettingsError(
            f"max_request_rows is {settings.max_request_rows}, but a batch holds up to {settings.max_batch_rows} rows",
            hint="make max_request_rows at least max_batch_rows, or 0",
        )
