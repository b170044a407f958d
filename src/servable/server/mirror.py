"""A local folder that follows a model's folder in a bucket.

It holds what the server is to look at, and no more: links to the wanted versions, which are in the cache, and the files
`servable.toml` and `.servable/pin`. So everything else works on it as on any folder of a model.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from servable.errors import NotFound, ServableError
from servable.lifecycle import Failure, Specific, pin_path, read_pin
from servable.model.bucket import bucket_versions, fetch, look_into
from servable.settings import CONFIG_FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from servable.lifecycle import VersionPolicy
    from servable.lifecycle.sources import PolicyOf
    from servable.model.bucket import Contents
    from servable.storage.cache import Cache, Entry
    from servable.storage.location import Listing, Location

logger = logging.getLogger(__name__)

_MOST_FALLBACKS = 16
_MAX_FILE = 1 << 20
# Seconds since the last write after which one look is enough. Clocks differ; what was taken too soon is taken again.
_AT_REST = 120.0


class Mirror:
    """Follows one model. One look at a time; what the last one found may be read from any thread.

    Args:
        model: The model's name.
        remote: Its folder in the bucket.
        folder: The local one, which is made.
        cache: Where versions are downloaded to.
        policy: Which versions are wanted, as for `servable.lifecycle.FolderSource`; asked with the local folder.
        failed: The versions of this model that were tried and cannot be served: an older one is then wanted too.
        stopping: Whether to give downloads up.

    Attributes:
        policy: May be replaced.
        looked: Whether there was a look.
        error: Why the last look failed; what was there before stays.
        trouble: Why there is no version here, where the bucket has some.
        notes: Remarks of the last look, on versions that were passed over.
        settling: Versions without a manifest that may still be changing.
        empty: Whether the bucket holds no version of the model.
    """

    def __init__(
        self,
        model: str,
        remote: Location,
        folder: Path,
        cache: Cache,
        policy: PolicyOf,
        *,
        failed: Callable[[str], frozenset[int]],
        stopping: Callable[[], bool],
    ) -> None:
        self.model = model
        self.remote = remote
        self.folder = folder
        self.looked = False
        self.error: Failure | None = None
        self.trouble: Failure | None = None
        self.notes: tuple[str, ...] = ()
        self.settling: tuple[int, ...] = ()
        self.empty = True
        self.policy = policy
        self._cache = cache
        self._failed = failed
        self._stopping = stopping
        self._closed = False
        self._looking = threading.Lock()
        self._entries: dict[int, Entry] = {}
        # What the objects of versions without a manifest were when they were taken, and at the last look.
        self._taken: dict[int, str] = {}
        self._seen: dict[int, str] = {}
        self._settings_mark: str | None = None
        folder.mkdir(parents=True)

    def look(self) -> bool:
        """Makes the local folder follow. Returns whether anything is different from before."""
        with self._looking:
            if self._closed:
                return False
            changed = self._look()
            if self._closed:  # meanwhile
                self._clean_up()
        return changed

    @property
    def is_arriving(self) -> bool:
        return bool(self.settling)

    @property
    def has_failed(self) -> bool:
        return self.error is not None or bool(self.notes)

    def close(self) -> None:
        """Removes the local folder, at the latest when the look that runs has ended; the versions stay in the cache."""
        self._closed = True
        if self._looking.acquire(blocking=False):
            try:
                self._clean_up()
            finally:
                self._looking.release()

    def _clean_up(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for entry in self._entries.values():
            entry.close()
        self._entries.clear()

    def _look(self) -> bool:
        before = self._state()
        try:
            listing = self.remote.list()
            self._follow_settings(listing)
            self._follow_pin(listing)
            self._follow_versions(bucket_versions(listing))
            self.error = None
        except (ServableError, OSError) as error:
            self.error = Failure.of(error)
        self.looked = True
        return before != self._state()

    def _state(self) -> tuple[object, ...]:
        entries = {number: entry.path for number, entry in self._entries.items()}
        pin = None if not self.looked else _text(pin_path(self.folder))
        told = (self.looked, self.error, self.trouble, self.notes, self.settling, self.empty)
        return (*told, entries, self._settings_mark, pin)

    # --- files that say how to serve the model

    def _follow_settings(self, listing: Listing) -> None:
        found = listing.objects.get(CONFIG_FILE)
        mark = found.mark if found else None
        if mark == self._settings_mark:
            return
        if found is None:
            (self.folder / CONFIG_FILE).unlink(missing_ok=True)
        else:
            _write(self.folder / CONFIG_FILE, self.remote.read(CONFIG_FILE, _MAX_FILE))
        self._settings_mark = mark

    def _follow_pin(self, listing: Listing) -> None:
        path = pin_path(self.folder)
        pin: bytes | None = None
        if path.parent.name in listing.folders:
            with suppress(NotFound):
                pin = (self.remote / path.parent.name).read(path.name, _MAX_FILE)
        if pin is None:
            path.unlink(missing_ok=True)
        elif pin != _text(path):
            path.parent.mkdir(exist_ok=True)
            _write(path, pin)

    # --- versions

    def _follow_versions(self, names: dict[int, str]) -> None:
        self.empty = not names
        self._seen = {number: key for number, key in self._seen.items() if number in names}
        wanted, policy = sorted(names, reverse=True), self._wanted()
        if isinstance(policy, Specific):
            wanted = [number for number in wanted if number in policy.versions]
        troubles: dict[int, Failure] = {}
        settling: list[int] = []
        whole = (number for number in wanted if self._is_here(number, names[number], troubles, settling))
        chosen = list(policy.choose(whole))
        failed = self._failed(self.model)
        for number in islice(whole, _MOST_FALLBACKS) if chosen and failed.issuperset(chosen) else ():
            chosen.append(number)
            if number not in failed:
                break
        self.notes = tuple(f"Version {number} is passed over: {each.message}" for number, each in troubles.items())
        self.trouble = next(iter(troubles.values()), None) if not self._entries else None
        self.settling = tuple(settling)
        self._drop_all_but(self._kept(chosen, names))

    def _wanted(self) -> VersionPolicy:
        pin = read_pin(self.folder)
        if pin is not None:
            return Specific([pin])
        return self.policy(self.folder) if callable(self.policy) else self.policy

    def _kept(self, chosen: list[int], names: dict[int, str]) -> set[int]:
        """What stays here: the chosen ones, and of those that were here the newest older one, to fall back to."""
        here = [number for number in self._entries if number in names]
        if not chosen:
            return set(here)
        older = [number for number in here if number < min(chosen)]
        return {*chosen, *([max(older)] if older else [])}

    def _is_here(self, number: int, name: str, troubles: dict[int, Failure], settling: list[int]) -> bool:
        """Whether a version is in the local folder; fetches it where it is whole."""
        version = self.remote / name
        try:
            if number in self._entries and number not in self._taken:
                return True  # with a manifest: such a version never changes
            contents = look_into(version)
            if not contents.has_manifest:
                if contents.claimed:
                    return False  # nothing to wait for: its writer may have died long ago
                if contents.objects and not self._is_stable(number, contents):
                    settling.append(number)
                    return number in self._entries
                if not contents.objects or self._taken.get(number) == contents.key:
                    return number in self._entries
            self._take(number, fetch(version, self._cache, logger.info, self._is_over))
            if not contents.has_manifest:
                self._taken[number] = contents.key
        except (ServableError, OSError) as error:
            troubles[number] = Failure.of(error)
            return number in self._entries
        return True

    def _is_over(self) -> bool:
        return self._closed or self._stopping()

    def _is_stable(self, number: int, contents: Contents) -> bool:
        """Whether a version without a manifest is whole, as far as one can tell."""
        seen, self._seen[number] = self._seen.get(number), contents.key
        return seen == contents.key or time.time() - contents.written > _AT_REST

    def _take(self, number: int, entry: Entry) -> None:
        link = self.folder / f".link-{number}"
        link.unlink(missing_ok=True)
        link.symlink_to(entry.path, target_is_directory=True)
        link.replace(self.folder / str(number))
        before = self._entries.pop(number, None)
        self._entries[number] = entry
        if before:
            before.close()

    def _drop_all_but(self, kept: set[int]) -> None:
        for number in self._entries.keys() - kept:
            (self.folder / str(number)).unlink(missing_ok=True)
            self._entries.pop(number).close()
            self._taken.pop(number, None)


def _text(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write(path: Path, content: bytes) -> None:
    whole = path.with_name(f".{path.name}.tmp")
    whole.write_bytes(content)
    whole.replace(path)
