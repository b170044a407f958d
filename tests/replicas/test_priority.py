"""Loading behind others: for as long as it lasts, and for no longer."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from servable.replicas.priority import background

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is done elsewhere")


def test_threads_that_are_started_meanwhile_are_raised_again() -> None:
    before, processors = os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0)
    leave, started = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        leave.wait(20)

    thread = threading.Thread(target=work)
    with background():
        thread.start()
        assert started.wait(20)
        assert thread.native_id is not None
        assert os.sched_getscheduler(thread.native_id) == os.SCHED_BATCH
        assert len(os.sched_getaffinity(thread.native_id)) == (len(processors) + 1) // 2
    try:
        for each in (0, thread.native_id):
            assert os.sched_getscheduler(each) == os.SCHED_OTHER
            assert os.getpriority(os.PRIO_PROCESS, each) == before
            assert os.sched_getaffinity(each) == processors
    finally:
        leave.set()
        thread.join()
