"""Looking at many things in buckets, each when its time has come, without one that hangs holding up those elsewhere."""

from __future__ import annotations

import heapq
import logging
import math
import queue
import random
import threading
import time
from itertools import count
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable.storage.location import Location

logger = logging.getLogger(__name__)

LOOK_AGAIN = 10.0
"""Seconds after which something that is still arriving is looked at again, where the interval is not shorter."""

_JITTER = 0.1
_THREADS = 4
_WAIT_STOPPED = 2.0


class Followed(Protocol):
    """What is looked at from time to time: a model in a bucket, or a folder of models.

    Attributes:
        remote: Where it is.
    """

    remote: Location

    def look(self) -> object:
        """Looks; may take long."""

    @property
    def is_arriving(self) -> bool:
        """Whether the last look found something that is not whole yet."""

    @property
    def has_failed(self) -> bool:
        """Whether the last look failed."""


class Poll:
    """Looks again and again, a few looks in one bucket at the same time.

    Args:
        interval: Seconds between two looks at the same thing; spread by a tenth, that servers do not ask in step.
        look: Looks at one; called on threads of the poll.
    """

    def __init__(self, interval: float, look: Callable[[Followed], None]) -> None:
        self._interval = interval
        self._look = look
        self._once = False
        self._started = False
        # When each is due: infinity while it is looked at. The heap may hold entries that no longer say the same.
        self._due: dict[Followed, float] = {}
        self._heap: list[tuple[float, int, Followed]] = []
        self._order = count()
        self._running: set[Followed] = set()
        self._again: set[Followed] = set()
        self._workers: dict[tuple[str, str], _Workers] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="servable-buckets", daemon=True)

    def start(self, *, once: bool = False) -> None:
        """Begins; `once` for no more looks at a thing after one that succeeded."""
        with self._changed:
            self._once = once
            self._started = True
            self._start_thread()

    def _start_thread(self) -> None:
        """Starts the thread once there is something to do, which for most servers is never."""
        if self._started and self._due and self._thread.ident is None and not self._stopping:
            self._thread.start()

    def stop(self) -> None:
        """Ends. A look that hangs is left behind after two seconds: it must not keep the server from ending."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._running, _WAIT_STOPPED)
            for workers in self._workers.values():
                workers.stop()
        if self._thread.ident is not None:  # started at all
            self._thread.join()

    def add(self, followed: Followed) -> None:
        with self._changed:
            self._plan(followed, 0.0)
            self._start_thread()

    def remove(self, followed: Followed) -> None:
        """Ends the looks at one; the one that runs goes on."""
        with self._changed:
            self._due.pop(followed, None)

    def look_now(self, followed: Followed) -> None:
        """Looks at one without waiting for its time."""
        with self._changed:
            if followed in self._running:
                self._again.add(followed)
            elif followed in self._due:
                self._plan(followed, 0.0)

    def _plan(self, followed: Followed, due: float) -> None:
        self._due[followed] = due
        if due < math.inf:
            heapq.heappush(self._heap, (due, next(self._order), followed))
            self._changed.notify_all()

    def _run(self) -> None:
        with self._changed:
            while not self._stopping:
                while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
                    heapq.heappop(self._heap)
                pause = self._heap[0][0] - time.monotonic() if self._heap else None
                if pause is not None and pause <= 0:
                    self._begin(heapq.heappop(self._heap)[2])
                else:
                    self._changed.wait(pause)

    def _begin(self, followed: Followed) -> None:
        self._due[followed] = math.inf
        self._running.add(followed)
        uri = followed.remote.uri
        bucket = (uri.scheme, uri.bucket)
        if bucket not in self._workers:
            self._workers[bucket] = _Workers(self._do)
        self._workers[bucket].submit(followed)

    def _do(self, followed: Followed) -> None:
        try:
            if not self._stopping:
                self._look(followed)
        except Exception:
            # A look tells its troubles itself; this is a fault, and must not end the polling.
            logger.exception("The look at %s failed", followed.remote)
        with self._changed:
            self._running.discard(followed)
            if followed in self._due:
                self._plan(followed, self._next(followed))
            self._changed.notify_all()

    def _next(self, followed: Followed) -> float:
        now = time.monotonic()
        if followed in self._again:
            self._again.discard(followed)
            return now
        if followed.is_arriving:
            return now + min(self._interval, LOOK_AGAIN)
        if self._once and not followed.has_failed:
            return math.inf
        return now + self._interval * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  # no secret


class _Workers:
    """A few threads for one bucket, started as they are needed."""

    def __init__(self, work: Callable[[Followed], None]) -> None:
        self._work = work
        self._waiting: queue.SimpleQueue[Followed | None] = queue.SimpleQueue()
        self._threads = 0

    def submit(self, followed: Followed) -> None:
        self._waiting.put(followed)
        if self._threads < _THREADS:
            self._threads += 1
            threading.Thread(target=self._run, name="servable-bucket", daemon=True).start()

    def stop(self) -> None:
        for _ in range(self._threads):
            self._waiting.put(None)

    def _run(self) -> None:
        while (followed := self._waiting.get()) is not None:
            self._work(followed)
