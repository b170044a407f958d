"""Watching sources: by events of the file system, with a slow poll behind.

Events make a new version appear at once; polling finds it where no events come (network volumes, symbolic links).
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from servable.lifecycle import Aspired, Source

logger = logging.getLogger(__name__)

_DEBOUNCE_MS = 50
_QUIET_MS = 500
_RETRY_WATCH_S = 5.0


class ChangeWatcher:
    """Looks whenever something in folders changes, and from time to time.

    Args:
        look: Called on the watcher's thread, once at the start and then at every change. Returns the seconds after
            which it is called again where nothing changes.
        folders: What to watch for changes.
        recursive: Whether folders inside the folders count.
    """

    def __init__(self, look: Callable[[], float], folders: Iterable[Path], *, recursive: bool = True) -> None:
        self._look = look
        self._folders = list(folders)
        self._recursive = recursive
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._look_again_and_again, name="servable-looks", daemon=True),
            threading.Thread(target=self._watch, name="servable-watch", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def look_now(self) -> None:
        """Looks again without waiting for an event."""
        self._changed.set()

    def stop(self) -> None:
        self._stopping.set()
        self._changed.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _look_again_and_again(self) -> None:
        while not self._stopping.is_set():
            self._changed.clear()
            self._changed.wait(self._look())

    def _watch(self) -> None:
        # Imported here: it costs a tenth of a second that the first load need not wait for.
        import watchfiles

        while not self._stopping.is_set():
            present = [folder for folder in self._folders if folder.is_dir()]
            try:
                changes = watchfiles.watch(
                    *present,
                    watch_filter=None,
                    recursive=self._recursive,
                    debounce=_DEBOUNCE_MS,
                    step=_DEBOUNCE_MS // 2,
                    stop_event=self._stopping,
                    rust_timeout=_QUIET_MS,
                    yield_on_timeout=True,
                    raise_interrupt=False,
                )
                begun = False
                for change in changes if present else ():
                    # The first time without a change too: something may have come before the watch began.
                    if change or not begun:
                        self._changed.set()
                    begun = True
                    if len(present) < sum(folder.is_dir() for folder in self._folders):
                        break  # a folder came that is not watched yet
            except (OSError, RuntimeError) as error:
                logger.warning("File events are not to be had (%s): only polling is left", error)
            self._stopping.wait(_RETRY_WATCH_S)


class Watcher(ChangeWatcher):
    """Looks at a source whenever something under its folders changes, and at least every `poll_interval` seconds.

    Args:
        source: Where wanted versions come from.
        folders: What to watch for changes.
        report: Called on the watcher's thread with the whole list of what is wanted.
        poll_interval: Seconds between looks where no event comes.
        settle: Seconds after which a folder that is still being copied is looked at again.
    """

    def __init__(
        self,
        source: Source,
        folders: Iterable[Path],
        report: Callable[[list[Aspired]], None],
        *,
        poll_interval: float,
        settle: float,
    ) -> None:
        super().__init__(self._look_at_source, folders)
        self._source = source
        self._report = report
        self._poll_interval = poll_interval
        self._settle = settle

    def _look_at_source(self) -> float:
        pause = self._poll_interval
        try:
            aspired = self._source.look(time.monotonic())
        except Exception:
            # A source tells its troubles in what it returns; this is a fault, and must not end the watching.
            logger.exception("The look at the models failed")
        else:
            self._report(aspired)
            if any(item.settling for item in aspired):
                pause = min(pause, self._settle)
        return pause
