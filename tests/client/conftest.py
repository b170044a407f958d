"""Servers that answer what a test tells them to, over real sockets."""

from __future__ import annotations

import http.server
import importlib
import json
import threading
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from tritonclient.utils import np_to_triton_dtype, serialize_byte_tensor

from recorded_pages import Y, tf_metadata
from servable import _native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType


PROTO = Path(__file__).parents[2] / "proto"


@dataclass
class Seen:
    """One request as the server got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def json_answer(value: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(value).encode(), headers)


def binary_answer(**outputs: np.ndarray) -> Answer:
    """An infer reply in binary, as Triton writes it."""
    entries, chunks = [], []
    for name, array in outputs.items():
        strings = array.dtype.kind in "OS"
        chunk = serialize_byte_tensor(array).item() if strings else array.tobytes()
        entries.append(
            {
                "name": name,
                "datatype": np_to_triton_dtype(array.dtype),
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(chunk)},
            }
        )
        chunks.append(chunk)
    header = json.dumps({"model_name": "m", "model_version": "1", "outputs": entries}).encode()
    return Answer(200, header + b"".join(chunks), {"Inference-Header-Content-Length": str(len(header))})


class RecordedServer(http.server.ThreadingHTTPServer):
    """Answers each path with what it was told for it, in turn; the last of them again and again."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, list[Answer]] = {}
        self.seen: list[Seen] = []
        self.connections = 0

    json = staticmethod(json_answer)
    binary = staticmethod(binary_answer)
    raw = Answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def tell(self, path: str, *answers: Answer) -> None:
        self.answers[path] = list(answers)

    def answer(self, path: str) -> Answer:
        answers = self.answers.get(path) or [json_answer({"error": f"no such path {path}"}, 404)]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def paths(self) -> list[str]:
        return [seen.path for seen in self.seen]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: RecordedServer

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        seen = Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        self.server.seen.append(seen)
        answer = self.server.answer(self.path)
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def recorded() -> Iterator[RecordedServer]:
    with RecordedServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def stubs(proto_stubs: Path) -> Callable[[str], ModuleType]:
    """Google's own code for our contracts: `stubs("predict")` is tensorflow_serving/apis/predict.proto."""
    return lambda name: importlib.import_module(f"tensorflow_serving.apis.{name}_pb2")


class RpcServer:
    """A gRPC server whose methods are functions from bytes to bytes."""

    def __init__(self) -> None:
        self.methods: dict[str, Callable[[bytes, grpc.ServicerContext], bytes]] = {}
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        self._server.add_generic_rpc_handlers([self])
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        method = self.methods.get(details.method)
        return grpc.unary_unary_rpc_method_handler(method) if method else None

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def rpc_server() -> Iterator[RpcServer]:
    server = RpcServer()
    server.start()
    yield server
    server.stop()


def signature(name: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
    """A signature as it crosses to the data plane; tensors are (datatype, shape) by name."""

    def specs(tensors: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"name": each, "datatype": datatype, "shape": shape} for each, (datatype, shape) in tensors.items()]

    method = "tensorflow/serving/predict"
    return {"name": name, "method_name": method, "inputs": specs(inputs), "outputs": specs(outputs)}


SIGNATURES = [
    signature("serving_default", {"x": ("FP32", [-1, 2])}, {"y": ("FP32", [-1, 2])}),
    signature(
        "words",
        {"word": ("BYTES", [-1]), "times": ("INT64", [-1])},
        {"text": ("BYTES", [-1]), "size": ("INT32", [-1])},
    ),
]


def multiplier(factor: int) -> Callable[[str, list[Any]], list[Any]]:
    """A model that multiplies numbers by `factor`, and repeats words."""

    def run(signature: str, inputs: list[Any]) -> list[Any]:
        tensors = {name: (shape, data) for name, _, shape, data in inputs}
        if signature == "serving_default":
            shape, data = tensors["x"]
            return [("y", "FP32", shape, factor * np.frombuffer(data, np.float32))]
        shape, words = tensors["word"]
        times = np.frombuffer(tensors["times"][1], np.int64)
        texts = [word * int(count) for word, count in zip(words, times, strict=True)]
        sizes = np.array([len(text) for text in texts], np.int32)
        return [("text", "BYTES", shape, texts), ("size", "INT32", shape, sizes)]

    return run


@dataclass
class RealServer:
    """Our own data plane with the model `m`: version 1 doubles, version 2 triples, `stable` is version 1."""

    rest: str
    grpc: str


@pytest.fixture(scope="session")
def real_server() -> Iterator[RealServer]:
    server = _native.Server(json.dumps({"rest_address": "127.0.0.1:0", "grpc_address": "127.0.0.1:0"}))
    servables = {
        f"m/{number}": _native.load_python(multiplier(number + 1), json.dumps(SIGNATURES), "{}") for number in (1, 2)
    }
    states = [{"version": number, "state": "AVAILABLE", "code": 0, "message": ""} for number in (2, 1)]
    states.append({"version": 3, "state": "END", "code": 8, "message": "no memory"})
    model = {
        "default": 2,
        "labels": {"stable": 1},
        "hold": False,
        "versions": {str(number): {"servable": f"m/{number}", "batching": None} for number in (1, 2)},
        "status": sorted(states, key=lambda state: -state["version"]),
    }
    addresses = json.loads(server.start())
    server.apply(json.dumps({"ready": True, "reasons": [], "models": {"m": model}}), servables)
    yield RealServer(f"http://{addresses['rest']}", f"grpc://{addresses['grpc']}")
    server.stop(5.0)


@pytest.fixture
def ours(recorded: Any) -> Any:
    """Our own server with a model `m` from x to y."""
    one = ({"x": "DT_FLOAT"}, {"y": "DT_FLOAT"})
    recorded.tell("/v2", recorded.json({"name": "servable", "version": "0.1.0", "extensions": []}))
    recorded.tell("/v1/models/m/metadata", recorded.json(tf_metadata(serving_default=one, other=one)))
    recorded.tell("/v2/models/m/infer", recorded.binary(y=Y))
    return recorded


@pytest.fixture
def tfs(recorded: Any) -> Any:
    """A TensorFlow Serving with a model `m` from x to y."""
    error = recorded.raw(404, b"<html><body><h1>Not Found</h1></body></html>", {"Content-Type": "text/html"})
    recorded.tell("/v2", error)
    one = ({"x": "DT_FLOAT"}, {"y": "DT_FLOAT"})
    recorded.tell("/v1/models/m/metadata", recorded.json(tf_metadata(serving_default=one)))
    recorded.tell("/v1/models/m:predict", recorded.raw(200, b'{"outputs": [[0.25], [0.5], [Infinity]]}'))
    return recorded
