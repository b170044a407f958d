"""Finds the shared libraries of engines in their ordinary wheels, without importing those."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
from pathlib import Path

from servable.errors import EngineMissing

_ONNXRUNTIME = ("libonnxruntime.so*", "libonnxruntime.*dylib", "onnxruntime.dll")
_LITERT = ("libLiteRt.so", "libLiteRt.dylib")
# LiteRT's C functions take other arguments in other versions: only these have been tried.
_LITERT_VERSIONS = ("2.2", "2.3")
_TENSORFLOW = ("libtensorflow_cc.so*", "libtensorflow_cc.*dylib")
# Read by TensorFlow when its library is opened. Memory of unloaded models goes back to the system only where oneDNN's
# own allocator is off; and what TensorFlow remarks on the processor is of no use in a server's log.
_TENSORFLOW_ENVIRONMENT = {"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}


def onnxruntime_library() -> Path:
    """The library of ONNX Runtime, of the newest version if the wheel has several.

    Raises:
        EngineMissing: The package is not installed, or has no library.
    """
    folder = _package_folder("onnxruntime")
    if folder is None:
        raise EngineMissing("ONNX Runtime is not installed", hint="pip install onnxruntime")
    found = newest_library(folder / "capi", _ONNXRUNTIME)
    if found is None:
        raise EngineMissing(
            f"No library of ONNX Runtime in {folder / 'capi'}", hint="pip install --force-reinstall onnxruntime"
        )
    return found


def tensorflow_library() -> Path:
    """The library of TensorFlow, and the environment in which it is to be opened.

    Variables that are set already are left as they are.

    Raises:
        EngineMissing: Neither `tensorflow` nor `tensorflow-cpu` is installed, or it has no library.
    """
    folder = _package_folder("tensorflow")
    if folder is None:
        raise EngineMissing(
            "TensorFlow is not installed", hint="pip install tensorflow-cpu (or tensorflow, where there is a GPU)"
        )
    found = newest_library(folder, _TENSORFLOW)
    if found is None:
        raise EngineMissing(f"No library of TensorFlow in {folder}", hint="2.16 or later is needed, from the index")
    for name, value in _TENSORFLOW_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    return found


def litert_library() -> Path:
    """The library of LiteRT.

    Raises:
        EngineMissing: `ai-edge-litert` is not installed, or in a version that this build has not been tried with.
    """
    hint = f"pip install ai-edge-litert=={_LITERT_VERSIONS[-1]}.*"
    folder = _package_folder("ai_edge_litert")
    if folder is None:
        raise EngineMissing("LiteRT is not installed", hint=hint)
    version = _installed_version("ai-edge-litert")
    if ".".join(version.split(".")[:2]) not in _LITERT_VERSIONS:
        known = " and ".join(_LITERT_VERSIONS)
        raise EngineMissing(f"LiteRT {version} is not known to this build, which runs {known}", hint=hint)
    found = newest_library(folder, _LITERT)
    if found is None:
        raise EngineMissing(f"No library of LiteRT in {folder}", hint="pip install --force-reinstall ai-edge-litert")
    return found


def tensorflow_text_libraries() -> list[Path]:
    """The libraries of operations that the package `tensorflow-text` brings; none where it is not installed."""
    folder = _package_folder("tensorflow_text")
    return sorted(folder.glob("python/ops/*.so")) if folder else []


def is_installed(package: str) -> bool:
    """Whether a package, by the name that is imported, is there. It is not imported.

    Example:
        >>> is_installed("numpy"), is_installed("no_such_package")
        (True, False)
    """
    return _package_folder(package) is not None


def newest_library(folder: Path, patterns: tuple[str, ...]) -> Path | None:
    """The file of the highest version among those that match a pattern; None where none does."""
    found = [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]
    return max(found, key=_version, default=None)


def _version(path: Path) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", path.name)], path.name


def _installed_version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def _package_folder(package: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # ValueError: something put a module without a spec in its place
        return None
    return Path(spec.origin).parent if spec is not None and spec.origin else None
