"""Whose turn it is on a core while a child server starts, loads or ends: everybody else's. Linux only."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NICENESS = 10
"""A tenth of the processor time that a thread with requests gets where both want all."""


def lower_thread() -> None:
    """Lets the calling thread, and every thread and process that it starts, run behind others.

    The policy SCHED_BATCH does not interrupt others. And it keeps to half of the processors: most of a load, and of the
    end of a process, is the kernel reading files and handing out or taking back memory, which no other thread may
    interrupt on that processor, whatever its priority. Those with requests need one that is free.

    A process may lower its niceness only with CAP_SYS_NICE or a limit RLIMIT_NICE: where a probe says that what is
    lowered here could not be raised again, the niceness stays.
    """
    if sys.platform == "linux":
        _lower([0], nicely=_may_be_raised_again())


def lower_process() -> None:
    """As `lower_thread`, for all threads of this process, for good: it is about to end."""
    if sys.platform == "linux":
        _lower(_own_threads(), nicely=True)


def raise_process(like: int) -> None:
    """Lets all threads of this process run as the main thread of the process `like` does."""
    if sys.platform != "linux":
        return
    use_processors(like)
    niceness = os.getpriority(os.PRIO_PROCESS, like)
    for thread in _own_threads():
        with suppress(OSError):  # it has ended
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
            # Linux has a niceness for each thread, whatever POSIX says.
            os.setpriority(os.PRIO_PROCESS, thread, niceness)


def use_processors(like: int) -> None:
    """Lets all threads of this process use the processors of the process `like`, as urgent as they were."""
    if sys.platform == "linux":
        processors = os.sched_getaffinity(like)
        for thread in _own_threads():
            with suppress(OSError):  # it has ended
                os.sched_setaffinity(thread, processors)


def _lower(threads: Iterable[int], *, nicely: bool) -> None:
    processors = sorted(os.sched_getaffinity(os.getpid()))
    for thread in threads:
        with suppress(OSError):  # it has ended
            os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
            os.sched_setaffinity(thread, processors[: (len(processors) + 1) // 2])
            if nicely:
                os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))


def _own_threads() -> list[int]:
    return [int(thread.name) for thread in Path("/proc/self/task").iterdir()]


def _may_be_raised_again() -> bool:
    """Tried on a thread that ends at once."""
    allowed = []

    def attempt() -> None:
        own = threading.get_native_id()
        before = os.getpriority(os.PRIO_PROCESS, own)
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, own, before + 1)
            os.setpriority(os.PRIO_PROCESS, own, before)
            allowed.append(True)

    probe = threading.Thread(target=attempt, name="servable-niceness")
    probe.start()
    probe.join()
    return bool(allowed)
