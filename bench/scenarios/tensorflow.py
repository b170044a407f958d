"""SavedModels: the same small network beside ONNX and the floor, and what comes with strings, tables and tf.Example.

What a request costs beside the engine is what servable can answer for: the server's processor time less the time inside
the engine, as the server's own metrics tell it for the same run.
"""

from __future__ import annotations

import re
import urllib.request
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from bench import load, models, payloads
from bench.samples import Check, Sample, in_turns
from bench.saved_models import saved_model
from bench.scenarios.base import Figures, Options
from bench.scenarios.floor import NAMES, USUAL_ANSWER
from bench.servers.nghttpd import nghttpd
from bench.servers.nginx import nginx
from bench.servers.servable import saved, saved_plain, servable, unavailable
from bench.tools import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from bench.load import Target
    from bench.payloads import Payload
    from bench.servers.base import Server
    from servable.model.golden import GoldenExample

TITLE = "SavedModels: the small network beside ONNX, tf.Example, tables and text"
CLIENTS = 64
ONNX, TENSORFLOW = "onnx", "tensorflow"
SENTENCES = ["The old, red and round one", "A new green SQUARE: small!", "heavy blue"]
FEATURES = [["red", "small", "old", "round"], ["blue", "unknown", "new", "heavy"]]
WITHIN = 1.1
"""A SavedModel may cost so many times what an ONNX model costs beside the engine."""


def run(options: Options) -> Figures:
    if why_not := unavailable():
        raise BenchError(f"servable cannot be measured: {why_not}")
    figures = Figures()
    _small_network(figures, options)
    _preprocessing(figures, options)
    figures.notes = [
        "Beside the engine: processor time of the server for a request, less its share of the time inside the engine.",
        "The floor reads the same request and sends as many bytes; it parses nothing and runs no model.",
        f"All cells have {CLIENTS} clients. Text is lowered, stripped, split and looked up inside the model.",
    ]
    return figures


def _small_network(figures: Figures, options: Options) -> None:
    inputs = models.example()
    expected = models.expected(models.mlp(), inputs)
    network = saved_plain("digits", saved_model("mlp"), _warm_up(models.INPUT, models.example(8)))
    with ExitStack() as stack:
        servers = {
            ONNX: stack.enter_context(servable(saved("digits-onnx", models.mlp()))),
            TENSORFLOW: stack.enter_context(servable(network)),
        }
        for made in (payloads.tfs_rest, payloads.tfs_grpc):
            targets = {ONNX: made("digits-onnx", inputs), TENSORFLOW: made("digits", inputs)}
            wanted = {name: servers[name].target(payload, expected) for name, payload in targets.items()}
            _compare(figures, options, stack, wanted, servers)


def _compare(
    figures: Figures, options: Options, stack: ExitStack, targets: dict[str, Target], servers: dict[str, Server]
) -> None:
    """The floor, ONNX and the SavedModel in turns; and what each costs beside its engine."""
    protocol = targets[ONNX].payload.protocol
    floor = _floor(stack, targets[TENSORFLOW])
    engine: dict[str, list[float]] = {name: [] for name in targets}
    beside: dict[str, list[float]] = {name: [] for name in targets}

    def measured(name: str) -> Callable[[], Sample]:
        def measure() -> Sample:
            sample, inside = with_engine_time(targets[name], servers[name], options.seconds)
            engine[name].append(inside)
            beside[name].append((sample.server_us or 0.0) - inside)
            return sample

        return measure

    measures = {"floor": lambda: load.measure(floor, CLIENTS, options.seconds)}
    label = f"Small network, {NAMES[protocol]}"
    for target in targets.values():
        load.measure(target, 16, 0.5)
    figures.cells.append(in_turns(label, "requests/s", measures | {n: measured(n) for n in targets}, options.runs))
    fastest = [1e6 / sample.value for sample in figures.cells[-1].series[0].samples]
    rates = {series.name: series.values for series in figures.cells[-1].series[1:]}
    for name in targets:
        shares = [
            rate * (floor_us + inside) / 1e6
            for rate, floor_us, inside in zip(rates[name], fastest, engine[name], strict=True)
        ]
        figures.checks.append(Check(f"{label}, {name}: inside the engine, a request", "us", engine[name]))
        figures.checks.append(Check(f"{label}, {name}: beside the engine, a request", "us", beside[name]))
        figures.checks.append(Check(f"{label}, {name}: rate over that of floor and engine together", "x", shares))
    ratios = [mine / its for mine, its in zip(beside[TENSORFLOW], beside[ONNX], strict=True)]
    figures.checks.append(Check(f"{label}: beside the engine, SavedModel over ONNX", "x", ratios, WITHIN))


def _preprocessing(figures: Figures, options: Options) -> None:
    inputs = models.example()
    examples = np.array([payloads.example(row) for row in models.example(8)], object)
    kinds: dict[str, tuple[list[GoldenExample], list[Payload]]] = {
        "classify": (
            _warm_up("inputs", examples),
            [payloads.classify_rest("classify", inputs), payloads.classify_grpc("classify", inputs)],
        ),
        "lookup": (
            _warm_up(models.INPUT, FEATURES),
            [payloads.strings_rest("lookup", FEATURES[:1]), payloads.strings_grpc("lookup", FEATURES[0], [1, 4])],
        ),
        "text": (
            _warm_up(models.INPUT, SENTENCES),
            [payloads.strings_rest("text", SENTENCES[:1]), payloads.strings_grpc("text", SENTENCES[:1], [1])],
        ),
    }
    for name, (warm_up, requests) in kinds.items():
        with ExitStack() as stack:
            folder = saved_plain(name, saved_model(name), warm_up)
            server = stack.enter_context(servable(folder))
            for payload in requests:
                target = server.target(payload)
                _alone(figures, options, stack, name, target, server)


def _alone(figures: Figures, options: Options, stack: ExitStack, name: str, target: Target, server: Server) -> None:
    """The floor and one model in turns."""
    floor = _floor(stack, target)
    inside: list[float] = []

    def measure() -> Sample:
        sample, engine = with_engine_time(target, server, options.seconds)
        inside.append(engine)
        return sample

    load.measure(target, 16, 0.5)
    label = f"{name}, {NAMES[target.payload.protocol]}"
    measures = {"floor": lambda: load.measure(floor, CLIENTS, options.seconds), TENSORFLOW: measure}
    figures.cells.append(in_turns(label, "requests/s", measures, options.runs))
    floors, mine = (series.values for series in figures.cells[-1].series)
    shares = [rate * (1e6 / fast + engine) / 1e6 for rate, fast, engine in zip(mine, floors, inside, strict=True)]
    figures.checks.append(Check(f"{label}: inside the engine, a request", "us", inside))
    figures.checks.append(Check(f"{label}: rate over that of floor and engine together", "x", shares))


def with_engine_time(target: Target, server: Server, seconds: float) -> tuple[Sample, float]:
    """One run, and the microseconds inside the engine for each of its requests, as the server's metrics tell."""
    before = _engine_totals(server)
    sample = load.measure(target, CLIENTS, seconds)
    spent, answered = (after - start for after, start in zip(_engine_totals(server), before, strict=True))
    return sample, spent / max(answered, 1) * 1e6


def _engine_totals(server: Server) -> tuple[float, float]:
    """Seconds inside the engine, and answered requests, since the server began."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}/metrics", timeout=10) as answer:
        page = answer.read().decode()

    def total(name: str) -> float:
        return sum(float(value) for value in re.findall(rf"^{name}{{[^}}]*}} (\S+)$", page, re.MULTILINE))

    return total("servable_run_seconds_sum"), total("servable_requests_total")


def _floor(stack: ExitStack, target: Target) -> Target:
    payload: Payload = target.payload
    size = target.answer_bytes or USUAL_ANSWER[payload.protocol]
    server = stack.enter_context(nginx(size) if payload.protocol == "rest" else nghttpd(payload.path, size))
    return server.floor(payload, size)


def _warm_up(name: str, values: ArrayLike) -> list[GoldenExample]:
    """One call without an expected answer: it warms up, and proves that rows are independent."""
    from servable.model.golden import GoldenExample
    from servable.wire.tensors import as_tensor

    return [GoldenExample({name: as_tensor(values)})]
