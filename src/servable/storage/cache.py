"""The cache of what came from buckets: folders named by a digest of what is in them.

    <root>/entries/<key>/     one whole folder; it never changes
    <root>/locks/<key>        locked while the entry is used (shared) or made and removed (exclusive)

Locks are the kernel's (flock), so they end with the process, and several processes may share the cache.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import weakref
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from servable.errors import FailedPrecondition, SettingsError
from servable.settings.kinds import read_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER_VARIABLE = "SERVABLE_CACHE"
SIZE_VARIABLE = "SERVABLE_CACHE_SIZE"
DEFAULT_SIZE = 20 << 30
"""Bytes that the cache may hold where nothing else is said."""

_FETCHING = ".fetching-"
_ATTEMPTS = 100


class Entry:
    """A folder of the cache, kept from being removed until it is closed or forgotten.

    Args:
        path: The folder.
        lock: A file descriptor with a shared lock on the entry; closed with it.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._release = weakref.finalize(self, os.close, lock)

    def close(self) -> None:
        """Lets the entry be removed when room is needed. May be called twice."""
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Cache:
    """A cache that holds up to `limit` bytes; entries in use are never removed, so it may hold more for a time.

    Args:
        root: Its folder; made when the first entry comes.
        limit: In bytes.

    Example:
        >>> cache = Cache.from_environment()  # doctest: +SKIP
        >>> with cache.entry("0123abcd", fill=download) as entry:  # doctest: +SKIP
        ...     read(entry.path)
    """

    def __init__(self, root: Path, limit: int = DEFAULT_SIZE) -> None:
        self.root = root
        self.limit = limit
        self._entries = root / "entries"
        self._locks = root / "locks"

    @classmethod
    def from_environment(cls, folder: str = "", limit: int | None = None) -> Cache:
        """The cache in `folder`, else in `SERVABLE_CACHE`, else in the user's cache folder (`XDG_CACHE_HOME`).

        Raises:
            SettingsError: `SERVABLE_CACHE_SIZE` is no size.
        """
        folder = folder or os.environ.get(FOLDER_VARIABLE, "")
        if limit is None:
            try:
                limit = read_size(os.environ.get(SIZE_VARIABLE) or str(DEFAULT_SIZE))
            except ValueError as error:
                raise SettingsError(f"{SIZE_VARIABLE} {error}") from None
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return cls(Path(folder or Path(home) / "servable").absolute(), limit)

    def entry(self, key: str, fill: Callable[[Path], None]) -> Entry:
        """The entry of a key; made where it is not there.

        Two that want the same key at once, in one process or in several, make it once: the second one waits.

        Args:
            key: Letters and digits; stands for the content.
            fill: Writes the files into an empty folder that nobody looks at yet.

        Raises:
            FailedPrecondition: The cache cannot be written to.
            ServableError: What `fill` raises; nothing is left behind then.
        """
        self._make_folders()
        for _ in range(_ATTEMPTS):
            lock = self._open_lock(key)
            try:
                if self._take(key, lock, fill):
                    os.utime(lock)
                    return Entry(self._entries / key, os.dup(lock))
            finally:
                os.close(lock)
        raise FailedPrecondition(f"The cache {self.root} is too small to hold anything for long")

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A fresh folder on the disk of the cache; what is left of it at the end, or when the process dies, is removed.

        Raises:
            FailedPrecondition: The cache cannot be written to.
        """
        self._make_folders()
        key = f"staging-{secrets.token_hex(8)}"
        folder = self._entries / f"{_FETCHING}{key}"
        lock = self._open_lock(key)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            (self._locks / key).unlink(missing_ok=True)
            os.close(lock)

    def _make_folders(self) -> None:
        try:
            self._entries.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._locks.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise FailedPrecondition(
                f"The cache {self.root} cannot be written to: {error.strerror}",
                hint=f"{FOLDER_VARIABLE} names another folder",
            ) from error

    def _open_lock(self, key: str) -> int:
        return os.open(self._locks / key, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _take(self, key: str, lock: int, fill: Callable[[Path], None]) -> bool:
        """Whether the entry is there at the end, with a shared lock on it."""
        fcntl.flock(lock, fcntl.LOCK_SH)
        if not (self._entries / key).is_dir():
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (self._entries / key).is_dir():
                self._make(key, lock, fill)
            # For a moment there is no lock at all: somebody may have removed it.
            fcntl.flock(lock, fcntl.LOCK_SH)
        return (self._entries / key).is_dir()

    def _make(self, key: str, lock: int, fill: Callable[[Path], None]) -> None:
        staging = self._entries / f"{_FETCHING}{key}"
        shutil.rmtree(staging, ignore_errors=True)  # of a process that died: we have the lock now
        staging.mkdir()
        try:
            fill(staging)
            size = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(size).encode(), 0)
            staging.rename(self._entries / key)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        self._make_room(keep=key)

    def discard(self, entry: Entry) -> None:
        """Removes an entry that turned out to be damaged, unless others use it."""
        entry.close()
        self._remove(entry.path.name)

    def _make_room(self, keep: str) -> None:
        """Removes what was used least recently until the rest fits, and what processes left that died."""
        for left in self._entries.glob(f"{_FETCHING}*"):
            key = left.name.removeprefix(_FETCHING)
            with self._unused(key) as is_unused:
                if is_unused:
                    shutil.rmtree(left, ignore_errors=True)
        entries = [path.name for path in self._entries.iterdir() if not path.name.startswith(".")]
        locks = sorted((self._locks / key for key in entries), key=lambda lock: lock.stat().st_mtime_ns)
        sizes = {lock.name: _size(lock) for lock in locks}
        total = sum(sizes.values())
        for name, size in sizes.items():
            if total <= self.limit:
                return
            if name != keep and self._remove(name):
                total -= size

    def _remove(self, key: str) -> bool:
        with self._unused(key) as is_unused:
            # Renamed first: what is only half removed is not to be taken for an entry.
            gone = self._entries / f"{_FETCHING}{key}"
            if is_unused:
                with suppress(FileNotFoundError):
                    (self._entries / key).rename(gone)
                shutil.rmtree(gone, ignore_errors=True)
            return is_unused

    @contextmanager
    def _unused(self, key: str) -> Iterator[bool]:
        """Whether nobody uses an entry; nobody can begin to as long as this lasts."""
        lock = self._open_lock(key)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_unused = True
        except BlockingIOError:
            is_unused = False
        try:
            yield is_unused
        finally:
            os.close(lock)


def _size(lock: Path) -> int:
    """What an entry holds, as its lock says."""
    text = lock.read_bytes()[:20]
    return int(text) if text.isdigit() else 0
