"""Which format a folder holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from servable.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from pathlib import Path

# Names that say what the format is. A SavedModel may have a .tflite file beside it, as TF Serving allows; any two
# others together are a question that only the user can answer.
_NAMES = {
    "model.onnx": "onnx",
    "model.py": "python",
    "saved_model.pb": "saved_model",
    "saved_model.pbtxt": "saved_model",
    "model.tflite": "tflite",
}
_ENGINES = {"onnx": "onnx", "python": "python", "saved_model": "tensorflow", "tflite": "litert"}
_CONVERT = {
    ".pkl": "a pickle",
    ".pickle": "a pickle",
    ".joblib": "a joblib pickle",
    ".keras": "a Keras model",
    ".h5": "a Keras model",
    ".pt": "a PyTorch file",
    ".pt2": "a PyTorch program",
    ".pth": "a PyTorch file",
    ".safetensors": "weights without a program",
}
_MAX_LISTED = 8

ENGINES = tuple(_ENGINES.values())
"""The names of all engines."""


@dataclass(frozen=True)
class Format:
    """What a version's folder holds.

    Attributes:
        name: `onnx`, `python`, `saved_model` or `tflite`.
        file: The file that the engine opens, relative to the folder.
        engine: The engine that runs it.
    """

    name: str
    file: str
    engine: str


def format_of(name: str, file: str) -> Format:
    """The format called `name`, as a manifest has it.

    Raises:
        InvalidArgument: It is not known.
    """
    if name not in _ENGINES:
        raise InvalidArgument(f"Unknown format '{name}'", hint=f"known are {', '.join(_ENGINES)}")
    return Format(name, file, _ENGINES[name])


def detect_format(folder: Path, *, prefer_tflite: bool = False) -> Format:
    """The format of a folder without a manifest, by the names of its files.

    `model.onnx`, `model.py`, `saved_model.pb` and `model.tflite` are known by name; else a single `*.onnx` is taken.

    Args:
        folder: The version's folder.
        prefer_tflite: Which to take where there are `model.tflite` and a SavedModel.

    Raises:
        NotFound: The folder is not there.
        InvalidArgument: It holds no model, or more than one.
    """
    names = _file_names(folder)
    found = {_NAMES[name]: name for name in names if name in _NAMES}
    if set(found) == {"saved_model", "tflite"}:
        del found["saved_model" if prefer_tflite else "tflite"]
    if not found:
        onnx = [name for name in names if name.endswith(".onnx")]
        if len(onnx) == 1:
            found["onnx"] = onnx[0]
        elif onnx:
            raise InvalidArgument(f"{folder} holds {len(onnx)} .onnx files", hint="call the right one model.onnx")
    if len(found) > 1:
        raise InvalidArgument(f"{folder} holds {' and '.join(sorted(found.values()))}", hint="leave only one of them")
    for name, file in found.items():
        return format_of(name, file)
    raise InvalidArgument(f"No model in {folder}: {_describe(names)}", hint=_hint(names))


def format_for_engine(folder: Path, engine: str) -> Format:
    """The model in a folder that an engine runs, where there may be others beside it.

    Raises:
        NotFound: The folder is not there.
        InvalidArgument: There is none for this engine, or more than one.
    """
    names = _file_names(folder)
    found = [(form, name) for name in names if (form := _NAMES.get(name)) and _ENGINES[form] == engine]
    if not found and engine == "onnx":
        found = [("onnx", name) for name in names if name.endswith(".onnx")]
    if len(found) == 1:
        return format_of(*found[0])
    what = f"{len(found)} models" if found else "no model"
    raise InvalidArgument(f"{folder} holds {what} for the engine {engine}: {_describe(names)}")


def holds_model(folder: Path) -> bool:
    """Whether a folder is a version, in a format that is known at least by name."""
    names = _file_names(folder)
    return any(name in _NAMES or name.endswith(".onnx") or name == "servable.json" for name in names)


def _file_names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except FileNotFoundError:
        raise NotFound(f"There is no folder {folder}") from None
    except NotADirectoryError:
        raise InvalidArgument(f"{folder} is not a folder", hint="name the folder that holds the file") from None
    except OSError as error:
        raise InvalidArgument(f"{folder} cannot be read: {error.strerror}") from error


def _describe(names: list[str]) -> str:
    if not names:
        return "the folder is empty"
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return f"found {', '.join(names[:_MAX_LISTED])}{more}"


def _hint(names: list[str]) -> str:
    for name in names:
        for suffix, what in _CONVERT.items():
            if name.endswith(suffix):
                return f"{name} is {what}: load it where it was trained and write a version with servable.save"
    return "a version holds model.onnx, a SavedModel, model.tflite or model.py"
