"""Whose turn it is on a core while a child server loads: everybody else's."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

logger = logging.getLogger(__name__)

NICENESS = 10
"""A tenth of the processor time that a thread with requests gets where both want all."""


@contextmanager
def background() -> Iterator[None]:
    """Lets this process run behind others while the block runs. Linux only; elsewhere nothing is done.

    Threads that are started meanwhile inherit that, so all are raised again at the end. A process may lower its
    niceness only with CAP_SYS_NICE or a limit RLIMIT_NICE: where a probe says that it may not, the niceness stays. The
    policy SCHED_BATCH, which may always be taken back, stays at least: its threads do not interrupt others.

    And it keeps to half of the processors. Most of a load is the kernel reading files and handing out memory, which no
    other thread may interrupt on that processor, whatever its priority: those with requests need one that is free.
    """
    if not hasattr(os, "SCHED_BATCH"):
        yield
        return
    nicely, processors = _may_be_raised_again(), os.sched_getaffinity(0)
    _set(0, os.SCHED_BATCH, NICENESS if nicely else None, sorted(processors)[: (len(processors) + 1) // 2])
    try:
        yield
    finally:
        for thread in Path("/proc/self/task").iterdir():
            with suppress(OSError):  # it has ended
                _set(int(thread.name), os.SCHED_OTHER, 0 if nicely else None, processors)


def _set(thread: int, policy: int, niceness: int | None, processors: Iterable[int]) -> None:
    os.sched_setscheduler(thread, policy, os.sched_param(0))
    os.sched_setaffinity(thread, processors)
    if niceness is not None:
        # Linux has a niceness for each thread, whatever POSIX says.
        os.setpriority(os.PRIO_PROCESS, thread, niceness)


def _may_be_raised_again() -> bool:
    """Tried on a thread that ends at once."""
    allowed = []

    def attempt() -> None:
        own = threading.get_native_id()
        before = os.getpriority(os.PRIO_PROCESS, own)
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, own, before + 1)
            os.setpriority(os.PRIO_PROCESS, own, before)
            allowed.append(before == 0)

    probe = threading.Thread(target=attempt, name="servable-niceness")
    probe.start()
    probe.join()
    return allowed == [True]
