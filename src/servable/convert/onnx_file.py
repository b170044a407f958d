"""Makes a version of an ONNX model: a file, or a ModelProto in memory."""

from __future__ import annotations

import mmap
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from servable.convert.draft import Draft
from servable.convert.proof import written_signatures
from servable.errors import ConversionError, InvalidArgument, NotFound
from servable.model.examples import bind_inputs
from servable.model.formats import format_of
from servable.model.golden import GoldenExample
from servable.model.origin import package_versions
from servable.model.signatures import find_signature
from servable.wire.protobuf import fields

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servable.convert.conversion import Conversion
    from servable.model.examples import Examples
    from servable.model.signatures import Signature

FILE = "model.onnx"
# Which fields of which message hold which message, on the way from a model to its tensors.
# Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3.
_CHILDREN = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external data"},
}


def takes(model: object) -> bool:
    """Whether it is a path to an .onnx file or an ONNX ModelProto; `onnx` is not imported for that."""
    if isinstance(model, str | Path):
        return str(model).endswith(".onnx")
    return type(model).__name__ == "ModelProto" and hasattr(model, "SerializeToString")


def write_onnx(model: Any, folder: Path) -> None:
    """Writes `model.onnx` into a folder, with the files of weights that it refers to.

    Raises:
        NotFound: The file, or one that it refers to, is not there.
        ConversionError: It is no ONNX model, it refers to files outside its folder, or it is too big for one message.
    """
    if not isinstance(model, str | Path):
        _write_proto(model, folder)
        return
    source = Path(model)
    if not source.is_file():
        raise NotFound(f"There is no file {source}")
    for name in external_files(source):
        if not (source.parent / name).is_file():
            raise NotFound(f"{source} refers to {name}, which is not beside it")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.parent / name, folder / name)
    shutil.copyfile(source, folder / FILE)


def _write_proto(model: Any, folder: Path) -> None:
    try:
        (folder / FILE).write_bytes(model.SerializeToString())
    except Exception as error:  # protobuf's own error type, of whichever protobuf made the object
        hint = "write it with onnx.save(..., save_as_external_data=True) and give the path"
        raise ConversionError(f"The ONNX model cannot be written: {error}", hint=hint) from error
    if names := external_files(folder / FILE):
        raise ConversionError(
            f"The ONNX model in memory refers to files ({', '.join(sorted(names)[:3])})",
            hint="give the path of the .onnx file instead",
        )


def external_files(file: Path) -> set[str]:
    """Names of the files, relative to an ONNX file, in which it keeps weights.

    Raises:
        ConversionError: It is no ONNX file, or it refers to a file outside its folder.
    """
    if not file.stat().st_size:
        raise ConversionError(f"{file} is empty")
    with file.open("rb") as opened:
        data = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        names = {name for entry in _external_data(data) if (name := _location(entry)) is not None}
    except InvalidArgument as error:
        raise ConversionError(f"{file} is no ONNX model: {error}") from None
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or name in ("", FILE):
            raise ConversionError(f"{file} refers to '{name}', which cannot be kept beside it")
    return names


def _external_data(model: memoryview) -> Iterator[memoryview]:
    """The entries that say where tensors are kept. A stack of our own: a file may nest graphs as deep as it likes."""
    waiting = [("model", model)]
    while waiting:
        kind, message = waiting.pop()
        for field in fields(message):
            child = _CHILDREN[kind].get(field.number)
            if child == "external data":
                yield field.message()
            elif child:
                waiting.append((child, field.message()))


def _location(entry: memoryview) -> str | None:
    pair = {field.number: field.text() for field in fields(entry)}
    return pair.get(2) if pair.get(1) == "location" else None


def convert(conversion: Conversion) -> Draft:
    """Writes an ONNX model into a folder, and its examples for the engine to answer.

    ONNX Runtime is both the framework and the engine here, so the examples have no answers yet.

    Args:
        conversion: Its model is the path of an .onnx file, or a ModelProto.

    Raises:
        NotFound: A file is missing.
        ConversionError: It is no ONNX model, or the examples are not what it takes.
    """
    conversion.allow("onnx")
    write_onnx(conversion.model, conversion.folder)
    form = format_of("onnx", FILE)
    signature = find_signature(written_signatures(conversion.folder, form), None)
    parts = split_for(conversion.examples, signature)
    records = [GoldenExample(bind_inputs(part, signature), None, signature.name) for part in parts]
    return Draft(form, records, frameworks=package_versions("onnx", "onnxruntime"))


def split_for(examples: Examples, signature: Signature) -> list[Examples]:
    """The examples in pieces that a model takes: of as many rows as it says, where it says a number."""
    sizes = {spec.shape[0] for spec in signature.inputs if spec.shape}
    size = sizes.pop() if len(sizes) == 1 else -1
    if size <= 0:
        return examples.split()
    parts = examples.split(size)
    return [part for part in parts if part.rows == size] or parts  # a rest of fewer rows could not be run
