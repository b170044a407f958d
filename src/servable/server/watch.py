"""Watching sources: by events of the file system, with a slow poll behind.

Events make a new version appear at once; polling finds it where no events come (network volumes, symbolic links).
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from servable import _native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from servable.lifecycle import Aspired, Source

logger = logging.getLogger(__name__)

_QUIET_S = 0.05
_LOOK_UP_S = 0.5
_RETRY_WATCH_S = 5.0
# Versions and uploads that are still being written.
_UNDER_WAY = (".uploads", ".saving-", ".removing-")


class ChangeWatcher:
    """Looks whenever something in folders changes, and from time to time.

    Args:
        look: Called on the watcher's thread, once at the start and then at every change. Returns the seconds after
            which it is called again where nothing changes; None for not before it is told to.
        folders: What to watch for changes.
        recursive: Whether folders inside the folders count.
        follow: Whether changes count at all; else it looks only when `look` asks for it, or when told to.
    """

    def __init__(
        self,
        look: Callable[[], float | None],
        folders: Iterable[Path],
        *,
        recursive: bool = True,
        follow: bool = True,
    ) -> None:
        self._look = look
        self._folders = list(folders)
        self._recursive = recursive
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._look_again_and_again, name="servable-looks", daemon=True),
        ]
        if follow:
            self._threads.append(threading.Thread(target=self._watch, name="servable-watch", daemon=True))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def look_now(self) -> None:
        """Looks again without waiting for an event."""
        self._changed.set()

    def watch(self, folders: Iterable[Path]) -> None:
        """Replaces the folders that are watched for changes."""
        self._folders = list(folders)

    def stop(self) -> None:
        self._stopping.set()
        self._changed.set()
        for thread in self._threads:
            if thread.ident is not None:  # started at all
                thread.join()

    def _look_again_and_again(self) -> None:
        while not self._stopping.is_set():
            self._changed.clear()
            self._changed.wait(self._look())

    def _watch(self) -> None:
        while not self._stopping.is_set():
            folders = self._folders
            present = [folder for folder in folders if folder.is_dir()]
            try:
                self._watch_while_same(folders, present)
            except OSError as error:
                logger.warning("File events are not to be had (%s): only polling is left", error)
            if self._folders is folders:
                self._stopping.wait(_RETRY_WATCH_S)

    def _watch_while_same(self, folders: list[Path], present: list[Path]) -> None:
        """Tells of changes in what is present, until other folders are to be watched or one comes or goes."""
        if not present:
            return
        watch = _native.FolderWatch(present, self._recursive, _UNDER_WAY)
        # Something may have come before the watch began.
        self._changed.set()
        while not self._stopping.is_set() and self._folders is folders:
            if watch.wait(_LOOK_UP_S, _QUIET_S):
                self._changed.set()
            if len(present) != sum(folder.is_dir() for folder in folders):
                return


class Watcher(ChangeWatcher):
    """Looks at a source whenever something under its folders changes, and at least every `poll_interval` seconds.

    Args:
        source: Where wanted versions come from.
        folders: What to watch for changes.
        report: Called on the watcher's thread with the whole list of what is wanted.
        poll_interval: Seconds between looks where no event comes.
        settle: Seconds after which a folder that is still being copied is looked at again.
        follow: Whether to look by itself after the first time; else only while something is still being copied, and
            when told to.
    """

    def __init__(
        self,
        source: Source,
        folders: Iterable[Path],
        report: Callable[[list[Aspired]], object],
        *,
        poll_interval: float,
        settle: float,
        follow: bool = True,
    ) -> None:
        super().__init__(self._look_at_source, folders, follow=follow)
        self._source = source
        self._report = report
        self._poll_interval = poll_interval if follow else None
        self._settle = settle
        # One look at a time: `look_at_once` is called from other threads.
        self._looking = threading.Lock()

    def look_at_once(self, prepare: Callable[[], None]) -> object:
        """Looks on the thread of the caller, after `prepare`, between other looks; returns what `report` returned."""
        with self._looking:
            prepare()
            aspired = self._source.look(time.monotonic())
            done = self._report(aspired)
        # The watcher's own thread looks again at what is still being copied.
        self._changed.set()
        return done

    def _look_at_source(self) -> float | None:
        pause = self._poll_interval
        try:
            with self._looking:
                aspired = self._source.look(time.monotonic())
                self._report(aspired)
        except Exception:
            # A source tells its troubles in what it returns; this is a fault, and must not end the watching.
            logger.exception("The look at the models failed")
        else:
            if any(item.settling for item in aspired):
                soon = max(self._settle, _QUIET_S)
                pause = soon if pause is None else min(pause, soon)
        return pause
