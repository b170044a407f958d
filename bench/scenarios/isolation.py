"""A small model is asked at a constant rate while large ones are loaded over and over, in the server or beside it."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench import models, payloads
from bench.paced import Paced
from bench.process import ALL_CORES
from bench.samples import Check
from bench.saved_models import saved_model
from bench.scenarios.base import Figures, Options
from bench.servers.servable import next_version, saved, servable, unavailable
from bench.tools import WORK, BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.servers.base import Server

TITLE = "The tail of a small model while large ones are loaded"
SMALL = "small"
RATE = 200.0
"""Requests a second, due at a constant rate."""
LEAST_SECONDS = 5.0
"""Of one run, so that some loads fall into it, and its p99 is more than a few requests."""
LIMIT = 1.5
PAUSE = 0.2
GONE = 60.0


@dataclass
class Seen:
    """What was seen under one setting: one entry a run, in ms."""

    quiet_p99: list[float] = field(default_factory=list)
    busy_p99: list[float] = field(default_factory=list)
    loads: int = 0
    failed: int = 0


def run(options: Options) -> Figures:
    if why_not := unavailable():
        raise BenchError(f"servable cannot be measured: {why_not}")
    figures = Figures()
    for isolation in ("none", "process"):
        for engine, source in {"onnx": _onnx_version(), "tensorflow": saved_model("heavy")}.items():
            seen = _watch(isolation, engine, source, options)
            figures.checks += _checks(f"{isolation}, {engine}", seen)
    figures.notes = [
        f"Requests for the small model are due at a constant {RATE:.0f} a second over REST; latency counts from then.",
        "The small model is always in the server itself; `isolation` is said of the large one.",
        "The large one is loaded again as soon as it is there. ONNX: 200 MB; SavedModel: 300 MB, no golden examples.",
        "Runs without and with loads in turns. Server, its children and the load share both cores.",
        "The load generator runs at real-time priority where it may, so that waiting for a core is the server's alone.",
    ]
    return figures


def _checks(name: str, seen: Seen) -> list[Check]:
    ratios = [busy / quiet for busy, quiet in zip(seen.busy_p99, seen.quiet_p99, strict=True)]
    return [
        Check(f"{name}: failed requests during {seen.loads} loads", "requests", [seen.failed], 0),
        Check(f"{name}: p99 with loads over p99 without", "x", ratios, LIMIT),
        Check(f"{name}: p99 without loads", "ms", seen.quiet_p99),
        Check(f"{name}: p99 with loads", "ms", seen.busy_p99),
    ]


def _onnx_version() -> Path:
    return saved("source-0", models.large(0)) / "source-0" / "1"


def _watch(isolation: str, engine: str, source: Path, options: Options) -> Seen:
    folder = saved(SMALL, models.mlp())
    large = folder / "large"
    large.mkdir()
    (large / "servable.toml").write_text(f'isolation = "{isolation}"\n')
    next_version(large, source, 1)
    seen, seconds = Seen(), max(options.seconds, LEAST_SECONDS)
    with servable(folder, "--settle", "0s", cores=ALL_CORES) as server:
        target = server.target(
            payloads.tfs_rest(SMALL, models.example()), models.expected(models.mlp(), models.example())
        )
        Paced(target, RATE, 2.0).told()
        for turn in range(options.runs):
            quiet = Paced(target, RATE, seconds).told()
            paced = Paced(target, RATE, seconds)
            with _loading(server, large, source, seen):
                busy = paced.told()
            seen.quiet_p99.append(quiet.percentile(99))
            seen.busy_p99.append(busy.percentile(99))
            seen.failed += quiet.failed + busy.failed
            print(
                f"  {isolation:8} {engine:10} run {turn + 1}: p99 {seen.quiet_p99[-1]:.2f} ms quiet, "
                f"{seen.busy_p99[-1]:.2f} ms with loads ({seen.loads} so far)",
                flush=True,
            )
    shutil.rmtree(WORK / "models" / SMALL, ignore_errors=True)
    return seen


@contextmanager
def _loading(server: Server, model: Path, source: Path, seen: Seen) -> Iterator[None]:
    """While the block runs, a new version comes whenever the one before is there."""
    ended = threading.Event()

    def load() -> None:
        while not ended.is_set():
            version = 1 + max(int(path.name) for path in model.iterdir() if path.name.isdigit())
            next_version(model, source, version)
            if not _is_there(server, version):
                break
            shutil.rmtree(model / str(version - 1), ignore_errors=True)
            seen.loads += 1

    loader = threading.Thread(target=load)
    loader.start()
    try:
        yield
    finally:
        ended.set()
        loader.join()


def _is_there(server: Server, version: int) -> bool:
    """Waits until a version of the large model answers."""
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/large/versions/{version}"
    pause = threading.Event()
    for _ in range(int(GONE / PAUSE)):
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                status = json.load(answer)["model_version_status"][0]
        except urllib.error.HTTPError:
            status = {"state": "START"}
        if status["state"] == "AVAILABLE":
            return True
        if status["state"] == "END":
            raise BenchError(f"The large model was not loaded: {status}")
        pause.wait(PAUSE)
    return False
