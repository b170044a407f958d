"""Text against binary: the same tensors as REST JSON, REST binary, npy and gRPC; bytes on the wire and time."""

from __future__ import annotations

import http.client
import io
import statistics
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import models
from bench.relay import relay
from bench.samples import Check, Sample, in_turns
from bench.scenarios.base import Figures, Options
from bench.servers.servable import servable, unavailable
from bench.tools import WORK, BenchError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from bench.servers.base import Server

TITLE = "Text or binary: the same tensors in each form"
JSON, BINARY, NPY, GRPC = "REST JSON", "REST binary", "REST npy", "gRPC"
IMAGES = 256
NOTES = [
    "Bytes are those of one request and its answer on a connection that has carried the same before, headers and all.",
    "One caller waits for each answer. `raw` sends bytes that are ready: what is left is the way and the server.",
    "Numbers are random in [0, 1). The client writes a float32 with nine digits, which keep its value.",
    "The models do next to nothing: they take a mean, or give the strings back.",
]
PATIENCE = 60.0


def run(options: Options) -> Figures:
    if why_not := unavailable():
        raise BenchError(f"servable cannot run: {why_not}")
    figures = Figures()
    rng = np.random.default_rng(28)
    loads: dict[str, tuple[str, NDArray[Any]]] = {
        "one row of 784 floats": ("row", rng.random((1, 784), np.float32)),
        f"{IMAGES} images of 28x28 floats": ("images", rng.random((IMAGES, 28, 28), np.float32)),
        "256 strings of 40 letters": ("strings", np.array(["pack my box with five dozen liquor jugs...."[:40]] * 256)),
    }
    with servable(_models()) as server:
        for label, (model, x) in loads.items():
            _load(figures, options, server, label, model, x)
    figures.notes += NOTES
    return figures


def _load(figures: Figures, options: Options, server: Server, label: str, model: str, x: NDArray[Any]) -> None:
    with ExitStack() as stack:
        ours = _by_client(stack, server.rest_port, server.grpc_port, model, x)
        raw = _raw(stack, server.rest_port, server.grpc_port, model, x)
        for kind, calls in (("client", ours), ("raw", raw)):
            for call in calls.values():
                _until_answered(call, server)
            measures = {name: partial(_measure, call, options.seconds) for name, call in calls.items()}
            figures.cells.append(in_turns(f"{label}, {kind}", "requests/s", measures, options.runs))
    for name in ours:
        figures.checks.append(Check(f"{label}, {name}: on the wire", "bytes", [_bytes(server, name, model, x)]))


def _by_client(stack: ExitStack, rest: int, grpc: int, model: str, x: NDArray[Any]) -> dict[str, Any]:
    """A call of servable's client for each form it speaks."""
    from servable import Client

    url = f"http://127.0.0.1:{rest}"
    clients = {
        JSON: Client(url, dialect="tfs"),
        BINARY: Client(url, dialect="servable"),
        GRPC: Client(f"grpc://127.0.0.1:{grpc}"),
    }
    for client in clients.values():
        stack.enter_context(client)
    return {name: partial(client.predict, model, x) for name, client in clients.items()}


def _raw(stack: ExitStack, rest: int, grpc: int, model: str, x: NDArray[Any]) -> dict[str, Any]:
    """The same requests as bytes that are ready."""
    import grpc as grpcio

    from servable.client.grpc_messages import model_spec
    from servable.client.oip import Servable
    from servable.client.rpc import PREDICT
    from servable.client.tfs import TensorFlowServing
    from servable.client.types import Target
    from servable.wire.predict import PredictRequest
    from servable.wire.tensors import as_tensor

    inputs = {models.INPUT: as_tensor(x)}
    target, name = Target(model), "serving_default"
    requests = {
        form: dialect.predict(target, name, inputs, ())
        for form, dialect in ((JSON, TensorFlowServing()), (BINARY, Servable()))
    }
    calls: dict[str, Any] = {}
    for form, request in requests.items():
        calls[form] = partial(_post, _connection(stack, rest), request.path, request.body, dict(request.headers))
    if x.dtype.kind == "f":
        file = io.BytesIO()
        np.save(file, x)
        headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
        calls[NPY] = partial(_post, _connection(stack, rest), f"/v1/models/{model}:predict", file.getvalue(), headers)
    channel = stack.enter_context(grpcio.insecure_channel(f"127.0.0.1:{grpc}"))
    message = PredictRequest(model_spec(target, name), inputs, ()).encode()
    calls[GRPC] = partial(channel.unary_unary(PREDICT), message, timeout=30)
    return calls


def _connection(stack: ExitStack, port: int) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    stack.callback(connection.close)
    return connection


def _post(connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str]) -> None:
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise BenchError(f"HTTP status {answer.status} for {path}: {text[:300]!r}")


def _measure(call: Any, seconds: float) -> Sample:
    """One caller, one request after the other."""
    taken: list[float] = []
    began = time.perf_counter()
    while (now := time.perf_counter()) - began < seconds:
        call()
        taken.append(1000 * (time.perf_counter() - now))
    late = sorted(taken)[min(len(taken) - 1, int(0.99 * len(taken)))]
    rate = len(taken) / (time.perf_counter() - began)
    return Sample(rate, mean_ms=statistics.mean(taken), p50_ms=statistics.median(taken), p99_ms=late)


def _bytes(server: Server, form: str, model: str, x: NDArray[Any]) -> float:
    """Of the second request, when names and headers are known to both sides."""
    with relay(server.rest_port) as rest, relay(server.grpc_port) as grpc, ExitStack() as stack:
        call = _by_client(stack, rest.port, grpc.port, model, x)[form]
        way = grpc if form == GRPC else rest
        call()
        before = way.sent + way.received
        call()
        return float(way.sent + way.received - before)


def _until_answered(call: Any, server: Server) -> None:
    """The first answer: the server starts meanwhile."""
    deadline = time.perf_counter() + PATIENCE
    while True:
        try:
            call()
        except BenchError:
            raise
        except Exception:
            server.process.check()
            if time.perf_counter() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _models() -> Path:
    """A folder with three models that cost next to nothing, as anyone's ONNX files."""
    import onnx
    from onnx import TensorProto, helper

    shapes: dict[str, tuple[int, list[Any]]] = {
        "row": (TensorProto.FLOAT, ["n", 784]),
        "images": (TensorProto.FLOAT, ["n", 28, 28]),
        "strings": (TensorProto.STRING, ["n"]),
    }
    folder = WORK / "models" / "wire"
    for name, (dtype, shape) in shapes.items():
        numbers = dtype == TensorProto.FLOAT
        node = (
            helper.make_node("ReduceMean", [models.INPUT], [models.OUTPUT], axes=[*range(1, len(shape))], keepdims=0)
            if numbers
            else helper.make_node("Identity", [models.INPUT], [models.OUTPUT])
        )
        graph = helper.make_graph(
            [node],
            "wire",
            [helper.make_tensor_value_info(models.INPUT, dtype, shape)],
            [helper.make_tensor_value_info(models.OUTPUT, dtype, ["n"])],
        )
        version = folder / name / "1"
        version.mkdir(parents=True, exist_ok=True)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(proto, version / "model.onnx")
    return folder
