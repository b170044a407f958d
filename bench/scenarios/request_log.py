"""What logging requests costs: one server that logs none, all, or one in a hundred."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from bench import load, models, payloads
from bench.samples import in_turns
from bench.scenarios.base import Figures, Options
from bench.servers.servable import saved, servable, unavailable
from bench.tools import WORK, BenchError

if TYPE_CHECKING:
    from pathlib import Path

    from bench.load import Target
    from bench.payloads import Payload

TITLE = "The request log: servable that logs beside servable that does not"
MODEL = "digits"
CLIENTS = 64
NAMES = {"rest": "REST", "grpc": "gRPC"}
LOGGED = {"all requests": ("1", None), "1 % of them": ("0.01", 0.97)}
"""Name -> the setting request_log_sample, and the share of the rate without a log that is asked for, if any."""


def run(options: Options) -> Figures:
    if why_not := unavailable():
        raise BenchError(f"servable cannot be measured: {why_not}")
    figures = Figures()
    inputs = models.example()
    folder = saved(MODEL, models.mlp())
    for payload in (payloads.tfs_rest(MODEL, inputs), payloads.tfs_grpc(MODEL, inputs)):
        for name, (sample, wanted) in LOGGED.items():
            with ExitStack() as stack:
                targets = {"no log": _target(stack, payload, folder), name: _target(stack, payload, folder, sample)}
                measures = {
                    each: partial(load.measure, target, CLIENTS, options.seconds) for each, target in targets.items()
                }
                label = f"{NAMES[payload.protocol]}, {CLIENTS} clients, {name} logged"
                figures.cells.append(in_turns(label, "requests/s", measures, options.runs, wanted))
    figures.notes.append(
        "The log is on the disk of this folder, as TFRecords, 64 MiB at most; nobody waits for the disk."
    )
    return figures


def _target(stack: ExitStack, payload: Payload, folder: Path, sample: str | None = None) -> Target:
    """A server of its own, warm, its answer checked."""
    logging: tuple[str, ...] = ()
    if sample is not None:
        logs = WORK / "request_log"
        shutil.rmtree(logs, ignore_errors=True)
        logging = ("--request-log", str(logs), "--request-log-sample", sample, "--request-log-max-size", "64MiB")
    server = stack.enter_context(servable(folder, *logging))
    target = server.target(payload, models.expected(models.mlp(), models.example()))
    load.measure(target, CLIENTS, 0.5)
    return target
