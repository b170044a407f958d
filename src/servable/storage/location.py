"""A place in a bucket as if it were a folder: list, read, write, upload, download, delete.

The stores are strongly consistent, so that what was written is listed at once: S3 since 2020
(https://aws.amazon.com/s3/consistency/), Cloud Storage and Azure always.
"""

from __future__ import annotations

import errno
import hashlib
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from servable.errors import AlreadyExists, DataLoss, NotFound, ResourceExhausted, StorageFull, TooLarge, Unavailable
from servable.storage.stores import obstore, open_store, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from servable.storage.uri import BucketUri

    Progress = Callable[[int], None]

MAX_OBJECTS = 100_000
"""Most objects in one folder, and in one version."""

_PIECE = 16 << 20
_AHEAD = 4
_TRIES = 4
_LEAST_PART = 8 << 20
# S3 takes 10,000 parts of one object.
_MOST_PARTS = 9_000


@dataclass(frozen=True, slots=True)
class Object:
    """One object.

    Attributes:
        size: In bytes.
        mark: Changes with its content.
        written: When, in seconds of the store's clock.
    """

    size: int
    mark: str
    written: float = 0.0


@dataclass(frozen=True, slots=True)
class Listing:
    """What is in a folder of a bucket: the folders in it, and the objects, by name."""

    folders: tuple[str, ...]
    objects: dict[str, Object]

    def __bool__(self) -> bool:
        return bool(self.folders or self.objects)


class Location:
    """A place in a bucket. For any number of threads.

    Every method raises the errors of `servable.storage.stores.told`: NotFound, PermissionDenied, Unauthenticated, and
    Unavailable for whatever the store or the way to it cannot do now; requests were tried several times before.

    Args:
        uri: Where.
        store: The client; one made from the environment if None.

    Example:
        >>> digits = Location(bucket_uri("s3://models/digits"))  # doctest: +SKIP
        >>> digits.list().folders  # doctest: +SKIP
        ('1', '2')
    """

    def __init__(self, uri: BucketUri, store: Any = None) -> None:
        self.uri = uri
        self._store = open_store(uri) if store is None else store

    def __truediv__(self, name: str) -> Location:
        return Location(self.uri / name, self._store)

    def __str__(self) -> str:
        return str(self.uri)

    def list(self) -> Listing:
        """What is in this folder, without what is in folders inside it. A folder that is not there is empty.

        Raises:
            ResourceExhausted: Over MAX_OBJECTS.
        """
        with told(str(self)):
            found = obstore().list_with_delimiter(self._store, self.uri.prefix)
        folders, objects = found["common_prefixes"], found["objects"]
        if len(folders) + len(objects) > MAX_OBJECTS:
            raise ResourceExhausted(f"{self} holds over {MAX_OBJECTS} entries")
        return Listing(
            tuple(sorted(self._relative(path) for path in folders)),
            {self._relative(each["path"]): _object(each) for each in objects},
        )

    def walk(self) -> dict[str, Object]:
        """All objects under this folder, by their names relative to it.

        Raises:
            ResourceExhausted: Over MAX_OBJECTS.
        """
        with told(str(self)):
            chunks = obstore().list(self._store, self.uri.prefix)
            found = list(islice((each for chunk in chunks for each in chunk), MAX_OBJECTS + 1))
        if len(found) > MAX_OBJECTS:
            raise ResourceExhausted(f"{self} holds over {MAX_OBJECTS} objects")
        # Tools that show buckets as folders put an empty object where a folder is.
        return {name: _object(each) for each in found if (name := self._relative(each["path"]))}

    def read(self, name: str, limit: int) -> bytes:
        """The content of a small object.

        Raises:
            NotFound: It is not there.
            TooLarge: It has over `limit` bytes.
        """
        with told(self._place(name)):
            answer = obstore().get(self._store, self._path(name))
            if answer.meta["size"] > limit:
                raise TooLarge(f"{self._place(name)}: larger than {limit} bytes")
            return bytes(answer.bytes())

    def exists(self, name: str) -> bool:
        try:
            with told(self._place(name)):
                obstore().head(self._store, self._path(name))
        except NotFound:
            return False
        return True

    def write(self, name: str, content: bytes) -> None:
        """Writes a small object; what was there under this name is replaced."""
        with told(self._place(name)):
            obstore().put(self._store, self._path(name), content, use_multipart=False)

    def create(self, name: str, content: bytes) -> bool:
        """Writes a small object where there is none: of several writers at once one succeeds.

        Returns:
            Whether the object is there now and has this content, which should be one of a kind.
        """
        try:
            with told(self._place(name)):
                obstore().put(self._store, self._path(name), content, mode="create", use_multipart=False)
        except AlreadyExists:
            # Or it was ours: the answer got lost, and the request was sent again.
            return self._holds(name, content)
        return True

    def _holds(self, name: str, content: bytes) -> bool:
        try:
            return self.read(name, len(content)) == content
        except (NotFound, TooLarge):
            return False

    def upload(self, name: str, file: Path, progress: Progress = lambda _: None) -> None:
        """Writes an object from a file, a large one in parts. It appears whole or not at all.

        Args:
            name: Of the object.
            file: Local.
            progress: Called with the number of bytes that were read since the last call.
        """
        size = file.stat().st_size
        part = max(_LEAST_PART, size // _MOST_PARTS + 1)
        with told(self._place(name)):
            if size <= part:
                obstore().put(self._store, self._path(name), file.read_bytes(), use_multipart=False)
                progress(size)
            else:
                pieces = _pieces(file, part, progress)
                obstore().put(self._store, self._path(name), pieces, chunk_size=part, max_concurrency=_AHEAD)

    def download(self, name: str, size: int, file: Path, progress: Progress = lambda _: None) -> str:
        """Writes an object into a new file, piece by piece.

        Args:
            name: Of the object.
            size: Its size in bytes.
            file: Local; its folder has to be there.
            progress: Called with the number of bytes that were written since the last call.

        Returns:
            The SHA-256 of what was written, in hex.

        Raises:
            NotFound: The object is not there.
            DataLoss: It has another size.
            StorageFull: There is no room on the disk.
        """
        digest = hashlib.sha256()
        try:
            with file.open("xb") as target:
                for piece in self._read_ahead(name, size):
                    digest.update(piece)
                    target.write(piece)
                    progress(len(piece))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                hint = "free some of the disk, or move the cache"
                raise StorageFull(f"{file}: {error.strerror}", hint=hint) from error
            raise
        return digest.hexdigest()

    def _read_ahead(self, name: str, size: int) -> Iterator[bytes]:
        """The pieces of an object in their order; a few are on their way at the same time."""
        waiting: deque[Future[bytes]] = deque()
        for start in range(0, size, _PIECE):
            if len(waiting) == _AHEAD:
                yield waiting.popleft().result()
            waiting.append(_begin(self._read_piece, name, start, min(start + _PIECE, size)))
        while waiting:
            yield waiting.popleft().result()

    def _read_piece(self, name: str, start: int, end: int) -> bytes:
        for tries_left in reversed(range(_TRIES)):
            try:
                with told(self._place(name)):
                    piece = bytes(obstore().get_range(self._store, self._path(name), start=start, end=end))
            except Unavailable:
                # The client tries again what was refused, but not what broke off in the middle of an answer.
                if not tries_left:
                    raise
            else:
                break
        if len(piece) != end - start:
            raise DataLoss(f"{self._place(name)} is shorter than it was listed")
        return piece

    def delete(self, names: Iterable[str]) -> None:
        """Removes objects; one that is not there is passed over."""
        paths = [self._path(name) for name in names]
        with told(str(self)):
            if paths:
                obstore().delete(self._store, paths)

    def _path(self, name: str) -> str:
        return (self.uri / name).prefix

    def _place(self, name: str) -> str:
        return str(self.uri / name)

    def _relative(self, path: str) -> str:
        prefix = self.uri.prefix
        return path.removeprefix(prefix).strip("/") if prefix else path.strip("/")


def _begin(work: Callable[..., bytes], *arguments: object) -> Future[bytes]:
    """Runs a function on a thread that the end of the process does not wait for, unlike those of an executor."""
    future: Future[bytes] = Future()

    def run() -> None:
        try:
            future.set_result(work(*arguments))
        except BaseException as error:  # for whom the result is for
            future.set_exception(error)

    threading.Thread(target=run, name="servable-download", daemon=True).start()
    return future


def _object(meta: Any) -> Object:
    return Object(meta["size"], f"{meta['e_tag'] or meta['last_modified']}", meta["last_modified"].timestamp())


def _pieces(file: Path, size: int, progress: Progress) -> Iterator[bytes]:
    with file.open("rb") as source:
        while piece := source.read(size):
            yield piece
            progress(len(piece))
