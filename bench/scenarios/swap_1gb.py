"""A SavedModel of 1 GB is replaced under the policy `resource` while requests go on, then taken away."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

from bench import models, payloads
from bench.memory import MemoryWatch
from bench.paced import Paced
from bench.samples import Chart, Check
from bench.saved_models import saved_model
from bench.scenarios.base import Figures, Options
from bench.servers.base import ask
from bench.servers.servable import next_version, saved_plain, servable, unavailable
from bench.tools import WORK, BenchError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.servers.base import Server

TITLE = "Swapping a SavedModel of 1 GB under `resource`"
MODEL = "large"
RATE = 20.0
PERIOD = 6.0
SWAPS = 4
PEAK, LEFT_MB = 1.15, 50.0


def run(options: Options) -> Figures:
    if why_not := unavailable():
        raise BenchError(f"servable cannot be measured: {why_not}")
    swaps = min(SWAPS, options.swaps)
    sources = [saved_model(f"large-{favourite}") for favourite in (0, 1)]
    folder = _folder()
    with servable(folder, "--swap-policy", "resource") as server, MemoryWatch(server.process) as memory:
        server.target(payloads.tfs_rest("small", models.example()))
        empty = memory.latest()
        next_version(folder / MODEL, sources[0], 1)
        target = server.target(payloads.tfs_rest(MODEL, models.example()))
        Paced(target, RATE, 2.0).told()
        one, first_peak = memory.latest(), memory.peak()
        began = memory.now()
        paced = Paced(target, RATE, swaps * PERIOD)
        for number in range(swaps):
            next_version(folder / MODEL, sources[(number + 1) % 2], number + 2)
            time.sleep(PERIOD)
        told = paced.told()
        peak, after = memory.peak(began), memory.latest()
        shutil.rmtree(folder / MODEL)
        _until(lambda: ask(server.rest_port, target.payload) is None, server)
        left = _settled(memory, empty)
        curve = memory.line("resident")
    figures = Figures()
    seen = len({marker for marker in told.marker if marker >= 0})
    figures.checks = [
        Check(f"Failed of {len(told.due)} requests", "requests", [told.failed], 0),
        Check(f"Answers of only one version over {swaps} swaps", "faults", [0 if seen == 2 else 1], 0),
        Check("Server without the model", "MB", [empty]),
        Check("Server with one version", "MB", [one]),
        Check("Peak of the first load over one version", "x", [first_peak / one]),
        Check("Peak while swapping over one version", "x", [peak / one], PEAK),
        Check("After the last swap over one version", "x", [after / one]),
        Check("Left after the model is gone", "MB", [left - empty], LEFT_MB),
        Check("p99 with swaps: requests wait for the new version", "ms", [told.percentile(99)]),
    ]
    figures.charts = [Chart("Memory of the server", "seconds", "MB resident", [curve])]
    figures.notes = [
        f"{swaps} swaps, one every {PERIOD:.0f} s; requests due at a constant {RATE:.0f} a second over REST.",
        "The server holds another, small SavedModel all the time, so TensorFlow itself is in memory.",
    ]
    return figures


def _folder() -> Path:
    """A folder of models with a small SavedModel alone."""
    shutil.rmtree(WORK / "models" / "swap-1gb", ignore_errors=True)
    small = saved_plain("small", saved_model("mlp"), [])
    folder = WORK / "models" / "swap-1gb"
    folder.mkdir(parents=True)
    shutil.move(small / "small", folder / "small")
    (folder / MODEL).mkdir()
    return folder


def _until(condition: Callable[[], bool], server: Server, seconds: float = 60.0) -> None:
    end = time.perf_counter() + seconds
    while not condition():
        server.process.check()
        if time.perf_counter() > end:
            raise BenchError("The model did not go")
        time.sleep(0.1)


def _settled(memory: MemoryWatch, empty: float, seconds: float = 10.0) -> float:
    """The memory once it has come down, or after some seconds."""
    end = time.perf_counter() + seconds
    while memory.latest() > empty + LEFT_MB / 2 and time.perf_counter() < end:
        time.sleep(0.1)
    return memory.latest()
