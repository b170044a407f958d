"""Children run behind others while they start, load and end, and beside them while they serve."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from servable.replicas.priority import lower_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is done elsewhere")

REPORT = "print(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0), len(os.sched_getaffinity(0)))"
WITH_A_THREAD = f"""
import os, sys, threading
from servable.replicas.priority import raise_process, use_processors
leave = threading.Event()
thread = threading.Thread(target=lambda: (leave.wait(20), exec({REPORT!r})))
thread.start()
"""


@pytest.fixture
def behind() -> Iterator[Callable[[str], list[list[int]]]]:
    """Runs Python in a process that a lowered thread starts; `behind(code)` gives the numbers of each line printed."""
    with ThreadPoolExecutor(1, initializer=lower_thread) as starter:

        def run(code: str) -> list[list[int]]:
            command = [sys.executable, "-c", "import os\n" + code, str(os.getpid())]
            job = starter.submit(subprocess.run, command, capture_output=True, check=True, timeout=30)
            return [[int(word) for word in line.split()] for line in job.result().stdout.splitlines()]

        yield run


def half(processors: int) -> int:
    return (processors + 1) // 2


def own() -> list[int]:
    return [os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0), len(os.sched_getaffinity(0))]


def test_what_a_lowered_thread_starts_is_behind_others_from_its_first_moment(
    behind: Callable[[str], list[list[int]]],
) -> None:
    ((policy, _, processors),) = behind(REPORT)
    assert policy == os.SCHED_BATCH
    assert processors == half(len(os.sched_getaffinity(0)))


def test_the_other_threads_of_the_process_stay_as_they_were() -> None:
    before = own()
    thread = threading.Thread(target=lower_thread)
    thread.start()
    thread.join()
    assert own() == before


def test_a_raised_process_is_as_its_parent_with_all_its_threads(behind: Callable[[str], list[list[int]]]) -> None:
    raised = f"{WITH_A_THREAD}raise_process(int(sys.argv[1]))\n{REPORT}\nleave.set()"
    assert behind(raised) == [own(), own()]


def test_a_process_may_use_all_processors_and_stay_behind(behind: Callable[[str], list[list[int]]]) -> None:
    for policy, _, processors in behind(f"{WITH_A_THREAD}use_processors(int(sys.argv[1]))\n{REPORT}\nleave.set()"):
        assert (policy, processors) == (os.SCHED_BATCH, len(os.sched_getaffinity(0)))


def test_a_process_that_ends_is_lowered_with_all_its_threads() -> None:
    code = WITH_A_THREAD.replace("raise_process", "lower_process") + f"lower_process()\n{REPORT}\nleave.set()"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=30).stdout
    for line in shown.splitlines():
        policy, _, processors = map(int, line.split())
        assert (policy, processors) == (os.SCHED_BATCH, half(len(os.sched_getaffinity(0))))
