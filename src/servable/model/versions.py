"""The versions in a model's folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from servable.errors import InvalidArgument, NotFound
from servable.model.formats import detect_format, holds_model

if TYPE_CHECKING:
    from pathlib import Path

    from servable.model.manifest import Manifest

_MAX_NUMBER = (1 << 63) - 1


@dataclass(frozen=True)
class Version:
    """One immutable, numbered member of a model.

    Attributes:
        path: Its folder.
        model: Name of the model: that of the folder above.
        number: Its number.
        manifest: What it says of itself.
        uri: Where it is in a bucket; `path` is then a copy in the cache. None for a local one.

    Example:
        >>> from pathlib import Path
        >>> from servable.model.manifest import Manifest
        >>> print(Version(Path("models/digits/3"), "digits", 3, Manifest("onnx", "model.onnx", ())))
        digits/3
    """

    path: Path
    model: str
    number: int
    manifest: Manifest
    uri: str | None = None

    def __str__(self) -> str:
        return f"{self.model}/{self.number}"


def version_number(name: str) -> int | None:
    """The number that a file name stands for: decimal digits, leading zeros allowed, within int64; else None.

    Example:
        >>> version_number("00000123"), version_number("1_tmp")
        (123, None)
    """
    if not (name.isascii() and name.isdigit()) or len(name) > 100:
        return None
    number = int(name)
    return number if number <= _MAX_NUMBER else None


def list_versions(folder: Path) -> dict[int, Path]:
    """The versions of a model's folder, lowest first; empty where there is none, or no such folder."""
    try:
        children = sorted(folder.iterdir())
    except OSError:
        return {}
    found = {number: child for child in children if (number := version_number(child.name)) is not None}
    return dict(sorted(found.items()))


def find_version(path: Path) -> Path:
    """The folder of a version: `path` itself, or the newest version in it.

    Raises:
        NotFound: There is nothing there.
        InvalidArgument: It is not a folder, or holds neither a model nor versions.
    """
    if holds_model(path):
        return path
    versions = [child for child in list_versions(path).values() if child.is_dir()]
    if versions:
        return versions[-1]
    if any(path.iterdir()):
        detect_format(path)  # raises, and says what it found
    raise NotFound(f"{path} holds no versions", hint="write one with servable.save(model, folder, examples=...)")


def check_number(number: int) -> int:
    """`number` again; raises InvalidArgument where a version cannot have it."""
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= _MAX_NUMBER:
        raise InvalidArgument(f"A version's number is an integer from 0 to 2^63 - 1, not {number!r}")
    return number
