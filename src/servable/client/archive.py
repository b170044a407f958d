"""What is uploaded: a folder as a tar that is never whole in memory or on the disk, or an archive as it is."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from servable.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PIECE = 1 << 20
_MAGIC = {b"\x1f\x8b": 0, b"PK\x03\x04": 0, b"ustar": 257}


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that can be sent.

    Attributes:
        size: Its bytes.
        files: Path in the archive -> file; or the archive itself, where there is one.
    """

    size: int
    files: dict[str, Path] | Path

    def pieces(self, progress: Callable[[int, int], None] | None = None) -> Iterator[bytes]:
        """The bytes, a piece at a time; `progress(sent, size)` is called after each."""
        sent = 0
        for piece in _file(self.files) if isinstance(self.files, Path) else _tar(self.files):
            yield piece
            sent += len(piece)
            if progress:
                progress(sent, self.size)


def archive_of(source: Path) -> Archive:
    """The archive to send for a version's folder, for a model's file, or for a tar, tar.gz or zip.

    Hidden files and `__pycache__` are left out of a folder; links are followed.

    Raises:
        NotFound: There is nothing there.
        InvalidArgument: It is an empty folder, or holds what is neither file nor folder.

    Example:
        >>> archive_of(Path("models/digits/3")).size  # doctest: +SKIP
        1058304
    """
    if source.is_dir():
        files = {
            path.relative_to(source).as_posix(): path for path in sorted(source.rglob("*")) if _counts(source, path)
        }
        if not files:
            raise InvalidArgument(f"The folder {source} is empty")
    elif not source.exists():
        raise NotFound(f"There is nothing at {source}")
    elif _is_archive(source):
        return Archive(source.stat().st_size, source)
    else:
        files = {"model.onnx" if source.suffix == ".onnx" else source.name: source}
    size = sum(len(_header(name, path)) + _padded(path.stat().st_size) for name, path in files.items())
    return Archive(size + 2 * tarfile.BLOCKSIZE, files)


def _counts(root: Path, path: Path) -> bool:
    parts = path.relative_to(root).parts
    if path.is_dir() or any(part.startswith(".") or part == "__pycache__" for part in parts):
        return False
    if not path.is_file():
        raise InvalidArgument(f"{path} is neither a file nor a folder")
    return True


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(512)
    return any(start[offset : offset + len(magic)] == magic for magic, offset in _MAGIC.items())


def _header(name: str, path: Path) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = path.stat().st_size, 0o644
    return entry.tobuf(tarfile.PAX_FORMAT)


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _tar(files: dict[str, Path]) -> Iterator[bytes]:
    for name, path in files.items():
        size = path.stat().st_size
        yield _header(name, path)
        for piece in _file(path):
            size -= len(piece)
            yield piece
        if size:
            raise InvalidArgument(f"{path} changed while it was sent")
        yield bytes(_padded(path.stat().st_size) - path.stat().st_size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
