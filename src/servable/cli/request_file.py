"""From a file to what `Client.predict` takes."""

from __future__ import annotations

import io
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servable.errors import InvalidArgument, NotFound, ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from servable.cli.request_body import Body
    from servable.model.signatures import Signature, TensorSpec

LARGEST_FILE = 1 << 30
_NPY = b"\x93NUMPY"
_NPZ = b"PK\x03\x04"
_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_NAMED_IMAGES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is to be read.

    Attributes:
        choose: Gives the signature to call: the one that the command line names, else that of the name passed in, which
            is what the file says or None; raises NotFound where there is none.
        input_name: The input that the file is for, None for the only one.
        header: Whether a CSV file has names in its first line, None to look.
        divide_by: What to divide the pixels of an image by, None for nothing.
    """

    choose: Callable[[str | None], Signature]
    input_name: str | None = None
    header: bool | None = None
    divide_by: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What a file asks.

    Attributes:
        x: For `Client.predict`.
        signature: Name of the signature to call.
        rows: Whether it is a list of instances, so that the answer is to be one of predictions.
        notes: What was done to it, for people.
    """

    x: Any
    signature: str
    rows: bool = True
    notes: tuple[str, ...] = ()


def read_file(name: str) -> bytes:
    """The content of a file; of standard input for `-`.

    Raises:
        NotFound: There is no such file.
        InvalidArgument: It cannot be read.
        ResourceExhausted: It is larger than LARGEST_FILE.
    """
    try:
        if name == "-":
            content = sys.stdin.buffer.read(LARGEST_FILE + 1)
        else:
            with Path(name).open("rb") as file:
                content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise NotFound(f"There is no file {name}") from None
    except OSError as error:
        raise InvalidArgument(f"{name} cannot be read: {error.strerror}") from None
    if len(content) > LARGEST_FILE:
        raise ResourceExhausted(f"{name} is larger than {LARGEST_FILE >> 20} MiB", hint="send it in parts")
    if not content.strip():
        raise InvalidArgument(f"{name} is empty")
    return content


def to_request(name: str, content: bytes, reading: Reading) -> Request:
    """What is asked, whatever kind of file it is: seen from its first bytes, then from its name.

    Raises:
        InvalidArgument: It cannot be read as what it looks like, or does not fit the signature.
        NotFound: There is no such signature or input.
        FailedPrecondition: It is an image, and Pillow is not installed.
    """
    if content.startswith(_NPY):
        return _array_request(_read_npy(name, content), reading)
    if content.startswith(_NPZ):
        return _arrays_request(_read_npz(name, content), reading)
    if content.startswith(_IMAGES) or name.lower().endswith(_NAMED_IMAGES):
        return _image_request(name, content, reading)
    from servable.cli.request_body import read_body, read_lines

    # A number or a quoted word may begin both; of the two only JSON begins with a bracket.
    if name.lower().endswith((".jsonl", ".ndjson")):
        return _json_request(read_lines(content), reading)
    looks_like_json = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
    if name.lower().endswith(".json") or (looks_like_json and not name.lower().endswith(".csv")):
        return _json_request(read_body(content), reading)
    return _csv_request(name, content, reading)


def _array_request(array: NDArray[Any], reading: Reading) -> Request:
    signature = reading.choose(None)
    return Request({_input(signature, reading.input_name).name: array}, signature.name)


def _arrays_request(arrays: dict[str, NDArray[Any]], reading: Reading) -> Request:
    """An archive of numpy: its arrays are called like the inputs; a single one is for the only input."""
    signature = reading.choose(None)
    if reading.input_name is None and {spec.name for spec in signature.inputs} == set(arrays):
        return Request(dict(arrays), signature.name)
    if len(arrays) != 1:
        raise InvalidArgument(
            f"The file holds the arrays {', '.join(arrays)}",
            hint=f"the inputs are {', '.join(spec.name for spec in signature.inputs)}",
        )
    return Request({_input(signature, reading.input_name).name: next(iter(arrays.values()))}, signature.name)


def _image_request(name: str, content: bytes, reading: Reading) -> Request:
    from servable.cli.image_file import read_image

    signature = reading.choose(None)
    spec = _input(signature, reading.input_name)
    array, note = read_image(content, spec, reading.divide_by)
    return Request({spec.name: array}, signature.name, notes=(f"{name}: {note}",))


def _json_request(body: Body, reading: Reading) -> Request:
    signature = reading.choose(body.signature)
    if isinstance(body.x, dict):
        return Request(body.x, signature.name, rows=body.rows)
    return Request({_input(signature, reading.input_name).name: body.x}, signature.name, rows=body.rows)


def _csv_request(name: str, content: bytes, reading: Reading) -> Request:
    from servable.cli.csv_file import read_csv

    signature = reading.choose(None)
    inputs = {spec.name: spec for spec in signature.inputs}
    table = read_csv(content, header=reading.header, names=inputs)
    if reading.input_name is None and inputs and inputs.keys() <= set(table.names):
        unused = [column for column in table.names if column not in inputs]
        notes = (f"{name}: these columns are not used: {', '.join(unused)}",) if unused else ()
        return Request({each: table.column(spec) for each, spec in inputs.items()}, signature.name, notes=notes)
    if reading.input_name is None and len(inputs) > 1 and set(table.names) & inputs.keys():
        missing = [each for each in inputs if each not in table.names]
        raise InvalidArgument(f"{name} has no column for the inputs {', '.join(missing)}")
    spec = _input(signature, reading.input_name)
    notes = (f"{name}: the first line is taken for names",) if table.names and reading.header is None else ()
    return Request({spec.name: table.matrix(spec)}, signature.name, notes=notes)


def _read_npy(name: str, content: bytes) -> NDArray[Any]:
    import numpy as np

    try:
        array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, MemoryError) as error:
        raise InvalidArgument(f"{name} is not an array of numpy: {error}") from None
    return array


def _read_npz(name: str, content: bytes) -> dict[str, NDArray[Any]]:
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST_FILE:
                raise ResourceExhausted(f"{name} is larger than {LARGEST_FILE >> 20} MiB", hint="send it in parts")
            return {
                entry.filename.removesuffix(".npy"): _read_npy(name, archive.read(entry))
                for entry in archive.infolist()
            }
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise InvalidArgument(f"{name} is not an archive of numpy: {error}") from None


def _input(signature: Signature, name: str | None) -> TensorSpec:
    """The input that a single array is for."""
    specs = {spec.name: spec for spec in signature.inputs}
    known = ", ".join(specs) or "none"
    if name is not None and name not in specs:
        raise NotFound(f"The signature {signature.name} has no input {name}", hint=f"it has {known}")
    if name is None and len(specs) != 1:
        raise InvalidArgument(
            f"The signature {signature.name} has {len(specs)} inputs ({known}), but the file has one array",
            hint='give JSON such as {"inputs": {"a": [...], "b": [...]}}, or CSV with these columns',
        )
    return specs[name] if name is not None else next(iter(specs.values()))
