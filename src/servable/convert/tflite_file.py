"""Makes a version of a TensorFlow Lite model: a file, or what the converter of TensorFlow gave."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from servable.convert.draft import Draft
from servable.convert.onnx_file import split_for
from servable.convert.proof import written_signatures
from servable.errors import ConversionError, NotFound
from servable.model.examples import bind_inputs
from servable.model.formats import format_of
from servable.model.golden import GoldenExample
from servable.model.origin import package_versions
from servable.model.signatures import find_signature

if TYPE_CHECKING:
    from servable.convert.conversion import Conversion

FILE = "model.tflite"
# Source: `file_identifier` in https://github.com/google-ai-edge/LiteRT/blob/main/tflite/converter/schema/schema.fbs.
_IDENTIFIER, _AT = b"TFL3", 4


def takes(model: object) -> bool:
    """Whether it is a path to a .tflite file, or bytes that begin as such a file does."""
    if isinstance(model, str | Path):
        return str(model).endswith(".tflite")
    return isinstance(model, bytes) and _is_tflite(model[: _AT + len(_IDENTIFIER)])


def convert(conversion: Conversion) -> Draft:
    """Writes a TensorFlow Lite model into a folder, and its examples for the engine to answer.

    LiteRT is both the framework and the engine here, so the examples have no answers yet. A model of a fixed number of
    rows is asked so many at a time.

    Args:
        conversion: Its model is the path of a .tflite file, or the content of one.

    Raises:
        NotFound: There is no such file.
        ConversionError: It is no TensorFlow Lite model, or the examples are not what it takes.
        EngineMissing: LiteRT is not installed.
    """
    conversion.allow("tflite")
    _write(conversion.model, conversion.folder / FILE)
    form = format_of("tflite", FILE)
    signature = find_signature(written_signatures(conversion.folder, form), None)
    parts = split_for(conversion.examples, signature)
    records = [GoldenExample(bind_inputs(part, signature), None, signature.name) for part in parts]
    return Draft(form, records, frameworks=package_versions("ai-edge-litert"))


def _write(model: object, file: Path) -> None:
    if isinstance(model, bytes):
        file.write_bytes(model)
        return
    source = Path(str(model))
    if not source.is_file():
        raise NotFound(f"There is no file {source}")
    with source.open("rb") as opened:
        if not _is_tflite(opened.read(_AT + len(_IDENTIFIER))):
            raise ConversionError(f"{source} is no TensorFlow Lite model", hint="write it with tf.lite.TFLiteConverter")
    shutil.copyfile(source, file)


def _is_tflite(head: bytes) -> bool:
    return head[_AT:] == _IDENTIFIER
