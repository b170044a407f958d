"""The checks of `servable doctor`. Each looks at one thing, by using it where that is quick."""

from __future__ import annotations

import importlib.metadata
import platform
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from servable.errors import ServableError
from servable.settings import ServerSettings, load_server_settings

if TYPE_CHECKING:
    from collections.abc import Callable

_OLDEST_PYTHON = (3, 11)
_WAIT_FOR_EVENT_S = 3.0
_PACKAGES = ("numpy", "click", "rich", "httpx2")
_EXTRAS = (
    ("grpc", ("grpcio",), "servable.Client and servable predict over gRPC"),
    ("sklearn", ("scikit-learn", "skl2onnx", "onnx"), "saving scikit-learn models"),
    ("image", ("pillow",), "servable predict with images"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        name: Of what was looked at.
        ok: Whether it is there and works.
        found: What is there, or what is wrong.
        essential: Whether nothing can be served without it.
        mend: What to do where it is not ok.
    """

    name: str
    ok: bool
    found: str
    essential: bool = False
    mend: str | None = None


def all_checks(config: str | None) -> list[Finding]:
    """Runs every check. An error of a check is its finding."""
    settings, finding = _settings(config)
    checks: list[tuple[str, bool, Callable[[], Finding]]] = [
        ("python", True, _python),
        ("servable", True, _package),
        ("native module", True, _native_module),
        *((name, True, lambda name=name: _dependency(name)) for name in _PACKAGES),
        ("onnxruntime", not _has_other_engine(), _onnxruntime),
        ("tensorflow", False, _tensorflow),
        ("litert", False, _litert),
        *((f"servable[{extra[0]}]", False, lambda extra=extra: _extra(*extra)) for extra in _EXTRAS),
        ("file events", False, _file_events),
        ("REST port", False, lambda: _port("REST port", settings.bind, settings.rest_port, "--rest-port")),
        ("gRPC port", False, lambda: _port("gRPC port", settings.bind, settings.grpc_port, "--port")),
    ]
    return [finding, *(_run(*check) for check in checks)]


def _run(name: str, essential: bool, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # whatever is broken, the other checks go on
        hint = error.hint if isinstance(error, ServableError) else None
        return Finding(name, False, f"{type(error).__name__}: {error}", essential, hint)


def _settings(config: str | None) -> tuple[ServerSettings, Finding]:
    try:
        found = load_server_settings(config=config)
    except ServableError as error:
        return ServerSettings(), Finding("settings", False, error.message, essential=True, mend=error.hint)
    origins = {origin for origin in found.origins.values() if origin != "default"}
    return found.values, Finding("settings", True, ", ".join(sorted(origins)) or "all as by default")


def _python() -> Finding:
    found = f"{platform.python_version()} ({platform.python_implementation()}, {sys.executable})"
    wanted = ".".join(map(str, _OLDEST_PYTHON))
    return Finding("python", sys.version_info >= _OLDEST_PYTHON, found, True, f"install Python {wanted} or newer")


def _package() -> Finding:
    from servable.version import __version__

    place = Path(sys.modules["servable"].__file__ or "?").parent
    return Finding("servable", True, f"{__version__} in {place}", essential=True)


def _native_module() -> Finding:
    reinstall = "pip install --force-reinstall servable, or in a checkout: make run"
    try:
        from servable import _native

        works = _native.crc32c(b"123456789") == 0xE3069283
    except ImportError as error:
        return Finding("native module", False, f"cannot be imported: {error}", essential=True, mend=reinstall)
    found = str(_native.__file__) if works else "gives a wrong checksum"
    return Finding("native module", works, found, essential=True, mend=reinstall)


def _dependency(name: str) -> Finding:
    version = _version(name)
    return Finding(name, version is not None, version or "not installed", essential=True, mend=f"pip install {name}")


def _has_other_engine() -> bool:
    """Whether an engine is installed that an installation without ONNX Runtime may be made for."""
    from servable.engines.library import is_installed

    return any(is_installed(package) for package in ("tensorflow", "ai_edge_litert"))


def _onnxruntime() -> Finding:
    """Has the engine run a model of one operation: a library that is there may still not fit the machine."""
    from servable.cli.doctor_model import answers_right
    from servable.engines.library import onnxruntime_library

    library = onnxruntime_library()
    ok = answers_right()
    found = f"{_version('onnxruntime') or 'unknown version'}, {library}"
    mend = "pip install --force-reinstall onnxruntime"
    return Finding("onnxruntime", ok, found if ok else f"{found} answers wrong", essential=True, mend=mend)


def _tensorflow() -> Finding:
    from servable.engines.library import tensorflow_library

    library = tensorflow_library()
    version = _version("tensorflow") or _version("tensorflow-cpu") or "unknown version"
    return Finding("tensorflow", True, f"{version}, {library}")


def _litert() -> Finding:
    from servable.engines.library import litert_library

    return Finding("litert", True, f"{_version('ai-edge-litert')}, {litert_library()}")


def _extra(name: str, packages: tuple[str, ...], purpose: str) -> Finding:
    versions = {package: _version(package) for package in packages}
    missing = [package for package, version in versions.items() if version is None]
    found = ", ".join(f"{package} {version}" for package, version in versions.items())
    if missing:
        found = f"for {purpose}: {', '.join(missing)} not installed"
    return Finding(f"servable[{name}]", not missing, found, mend=f"pip install 'servable[{name}]'")


def _file_events() -> Finding:
    from servable import _native

    with tempfile.TemporaryDirectory() as folder:
        try:
            watch = _native.FolderWatch([folder], True, ())
        except OSError:
            came = False
        else:
            (Path(folder) / "file").write_text("new")
            came = watch.wait(_WAIT_FOR_EVENT_S, 0)
    found = "new versions are noticed at once" if came else "none came: new versions are noticed by polling"
    return Finding("file events", came, found, mend="raise fs.inotify.max_user_watches and max_user_instances")


def _port(name: str, bind: str, port: int | None, flag: str) -> Finding:
    if not port:
        return Finding(name, True, "off" if port is None else "any free one")
    family, _, _, _, address = socket.getaddrinfo(bind.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            return Finding(name, False, f"{bind}:{port}: {error.strerror}", mend=f"choose another with {flag}")
    return Finding(name, True, f"{bind}:{port} is free")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
