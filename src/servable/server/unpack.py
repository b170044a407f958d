"""Archives from strangers, made into folders: tar, tar.gz and zip, by their content.

Only plain files and folders come out, only inside the folder, and within limits: a small archive can promise any number
of entries and any number of bytes.
"""

from __future__ import annotations

import errno
import gzip
import os
import stat
import tarfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Protocol

from servable.errors import InvalidArgument, ServableError, StorageFull, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_ENTRIES = 10_000
MAX_DEPTH = 32
MAX_RATIO = 200
"""Bytes that may come out for each byte of the archive, once more than FREE_BYTES have come out."""

FREE_BYTES = 64 << 20
_PIECE = 1 << 20
# Neither reads more than this at once unless the archive lies: for a header of a tar, for the directory of a zip.
_LARGEST_READ = 4 << 20
_LONGEST_NAME = 255
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Left in archives by macOS; nothing of a model.
_MAC = ("__MACOSX", ".DS_Store")


def unpack(archive: Path, folder: Path, max_bytes: int) -> None:
    """Unpacks an archive into a folder, and has all of it written to the disk.

    Args:
        archive: A tar, perhaps gzipped, or a zip (stored or deflated).
        folder: An empty folder. What was unpacked before an error is left in it.
        max_bytes: Most bytes that may come out; 0 for no limit.

    Raises:
        InvalidArgument: It is none of these, is damaged, or holds a link, a device, a name that leads out of the
            folder, a name twice, or an encrypted file.
        TooLarge: It holds more entries or bytes than allowed, is nested too deeply, or is packed suspiciously well.
        StorageFull: The disk is full.

    Example:
        >>> unpack(Path("digits.tar.gz"), Path("staging"), max_bytes=1 << 30)  # doctest: +SKIP
    """
    size = archive.stat().st_size
    with _typed_errors(), archive.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        target = _Target(folder, max_bytes, size)
        if magic[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=file) as unpacked:
                _unpack_tar(unpacked, target)
        elif magic in (b"PK\x03\x04", b"PK\x05\x06"):
            _unpack_zip(file, target)
        else:
            _unpack_tar(file, target)
        target.sync()


def content_of(folder: Path) -> Path:
    """The folder that holds the model: the one folder at the top, where there is nothing beside it, or `folder`."""
    children = list(folder.iterdir())
    return children[0] if len(children) == 1 and children[0].is_dir() else folder


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except ServableError:
        raise
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFull(f"There is no room on the disk to unpack the upload: {error.strerror}") from error
        raise InvalidArgument(f"The archive cannot be unpacked: {error.strerror or error}") from error
    except Exception as error:  # whatever the libraries make of bytes that a stranger chose
        raise InvalidArgument(
            f"The archive cannot be read: {error or type(error).__name__}", hint="send a tar, a tar.gz or a zip"
        ) from error


def _unpack_tar(file: _Readable, target: _Target) -> None:
    forward = _Forward(file, target)
    with tarfile.open(fileobj=forward, mode="r:") as archive:  # type: ignore[call-overload]
        for member in archive:
            if member.isdir():
                target.folder(member.name)
                continue
            if not member.isreg() or member.issparse() or member.size < 0:
                raise InvalidArgument(f"{_shown(member.name)} in the archive is neither a plain file nor a folder")
            content = archive.extractfile(member)
            if content is not None:
                target.file(member.name, content, member.size)
    # The library takes a broken header for the end; an archive that is whole ends in a block of zeros.
    if forward.last != bytes(tarfile.BLOCKSIZE):
        raise InvalidArgument("The archive is not whole: it has no end")
    while forward.read(_PIECE):  # a gzip is checked at its very end
        pass


def _unpack_zip(file: IO[bytes], target: _Target) -> None:
    with zipfile.ZipFile(_Careful(file)) as archive:
        for entry in archive.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if entry.is_dir():
                target.folder(entry.filename)
                continue
            if kind not in (0, stat.S_IFREG):
                raise InvalidArgument(f"{_shown(entry.filename)} in the archive is neither a plain file nor a folder")
            if entry.flag_bits & 1:
                raise InvalidArgument(f"{_shown(entry.filename)} in the archive is encrypted")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise InvalidArgument("The zip is packed in an unusual way", hint="use deflate, or send a tar.gz")
            with archive.open(entry) as content:
                target.file(entry.filename, content, entry.file_size)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Careful:
    """A file of which not much is read at once, however long an archive says that one of its parts is."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, _LARGEST_READ + 1) if size >= 0 else _LARGEST_READ + 1)
        if len(data) > _LARGEST_READ:
            raise TooLarge("The archive has a header or a directory that is too large")
        return data

    def close(self) -> None:
        """The file is closed by whoever opened it."""


class _Forward:
    """A file that is read from the beginning to the end, as the content of a gzip has to be.

    Attributes:
        last: What was read last.
    """

    def __init__(self, file: _Readable, target: _Target) -> None:
        self._file = file
        self._target = target
        self._at = 0
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_READ:
            raise TooLarge("The archive has a header that is too large")
        data = self._file.read(size)
        self._at += len(data)
        self.last = data
        self._target.check_bytes(self._at)
        return data

    def tell(self) -> int:
        return self._at

    def seek(self, place: int, _whence: int = 0) -> int:
        while self._at < place:
            if not self.read(min(place - self._at, _PIECE)):
                raise InvalidArgument("The archive ends in the middle of a file")
        if self._at > place:
            raise InvalidArgument("The archive is damaged")
        return self._at

    def close(self) -> None:
        """The file is closed by whoever opened it."""


@dataclass(slots=True)
class _Target:
    """Where entries go, and what has come out so far."""

    root: Path
    max_bytes: int
    archive_bytes: int
    entries: int = 0
    written: int = 0

    def folder(self, name: str) -> None:
        path = self._place(name)
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)

    def file(self, name: str, content: IO[bytes], size: int) -> None:
        path = self._place(name)
        if path is None:
            return
        if path == self.root:
            raise InvalidArgument("A file in the archive has no name")
        self.check_bytes(self.written + size)
        path.parent.mkdir(parents=True, exist_ok=True)
        count = 0
        with path.open("xb") as file:
            while piece := content.read(_PIECE):
                count += len(piece)
                self.written += len(piece)
                self.check_bytes(self.written)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if count != size:
            raise InvalidArgument(f"The archive ends in the middle of {_shown(name)}")

    def check_bytes(self, count: int) -> None:
        if self.max_bytes and count > self.max_bytes:
            raise TooLarge(f"The upload unpacks to more than {self.max_bytes} bytes (setting max_upload_size)")
        if count > max(FREE_BYTES, MAX_RATIO * self.archive_bytes):
            raise TooLarge(f"The upload unpacks to more than {MAX_RATIO} times its size")

    def sync(self) -> None:
        """Has the folders written to the disk; the files are."""
        for folder, _, _ in os.walk(self.root):
            sync_folder(folder)

    def _place(self, name: str) -> Path | None:
        """Where an entry goes; None for one that is passed over.

        A file never is a folder too, nor is there twice: making either fails.
        """
        self.entries += 1
        if self.entries > MAX_ENTRIES:
            raise TooLarge(f"The archive holds more than {MAX_ENTRIES} entries")
        parts = _parts(name)
        if any(part in _MAC or part.startswith("._") for part in parts):
            return None
        path = self.root.joinpath(*parts)
        if path.exists() and not path.is_dir():
            raise InvalidArgument(f"{_shown(name)} is in the archive twice")
        return path


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\\" in name:
        raise InvalidArgument(f"The name {_shown(name)} leads out of the archive's folder")
    if len(parts) > MAX_DEPTH:
        raise TooLarge(f"The archive is nested deeper than {MAX_DEPTH} folders")
    for part in parts:
        if not part.isprintable() or len(part.encode("utf-8", "replace")) > _LONGEST_NAME:
            raise InvalidArgument(f"{_shown(name)} is no name for a file")
    return parts


def _shown(name: str) -> str:
    return repr(name if len(name) <= 100 else name[:100] + "...")


def sync_folder(folder: str | Path) -> None:
    """Has the names in a folder written to the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
