"""Requests as bytes, and a check that an answer holds the right numbers.

Written here by hand, from the published field numbers, so that a fault in servable's own codecs cannot hide:

- TF Serving REST: https://www.tensorflow.org/tfx/serving/api_rest
- tensorflow_serving/apis/predict.proto, model.proto; tensorflow/core/framework/tensor.proto, tensor_shape.proto
- Open Inference Protocol v2: https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.models import INPUT

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTH_DELIMITED = 2
DT_FLOAT, DT_STRING = 1, 7


@dataclass(frozen=True)
class Payload:
    """One request, the same every time.

    Attributes:
        protocol: "rest" or "grpc".
        path: Of the URL; for gRPC /package.Service/Method.
        body: The HTTP body; for gRPC the message without its 5 bytes of frame header.
    """

    protocol: str
    path: str
    body: bytes

    @property
    def framed(self) -> bytes:
        """The gRPC message behind its frame header: not compressed, length in 4 bytes."""
        return struct.pack(">BI", 0, len(self.body)) + self.body


def tfs_rest(model: str, inputs: NDArray[np.float32]) -> Payload:
    body = json.dumps({"instances": _numbers(inputs)})
    return Payload("rest", f"/v1/models/{model}:predict", body.encode())


def oip_rest(model: str, inputs: NDArray[np.float32]) -> Payload:
    tensor = {
        "name": INPUT,
        "datatype": "FP32",
        "shape": list(inputs.shape),
        "data": _numbers(inputs.reshape(1, -1))[0],
    }
    body = json.dumps({"inputs": [tensor]})
    return Payload("rest", f"/v2/models/{model}/infer", body.encode())


def tfs_grpc(model: str, inputs: NDArray[np.float32]) -> Payload:
    """PredictRequest with tensor_content."""
    shape = b"".join(_message(2, _integer(1, size)) for size in inputs.shape)
    tensor = _integer(1, DT_FLOAT) + _message(2, shape) + _message(4, inputs.tobytes())
    entry = _message(1, INPUT.encode()) + _message(2, tensor)
    body = _message(1, _message(1, model.encode())) + _message(2, entry)
    return Payload("grpc", "/tensorflow.serving.PredictionService/Predict", body)


def oip_grpc(model: str, inputs: NDArray[np.float32]) -> Payload:
    """ModelInferRequest with raw_input_contents."""
    shape = _message(3, b"".join(_varint(size) for size in inputs.shape))
    tensor = _message(1, INPUT.encode()) + _message(2, b"FP32") + shape
    body = _message(1, model.encode()) + _message(5, tensor) + _message(7, inputs.tobytes())
    return Payload("grpc", "/inference.GRPCInferenceService/ModelInfer", body)


def strings_rest(model: str, rows: list[Any]) -> Payload:
    return Payload("rest", f"/v1/models/{model}:predict", json.dumps({"instances": rows}).encode())


def strings_grpc(model: str, values: list[str], sizes: list[int]) -> Payload:
    """PredictRequest with the values of a string tensor of these sizes."""
    shape = b"".join(_message(2, _integer(1, size)) for size in sizes)
    tensor = _integer(1, DT_STRING) + _message(2, shape) + b"".join(_message(8, value.encode()) for value in values)
    entry = _message(1, INPUT.encode()) + _message(2, tensor)
    body = _message(1, _message(1, model.encode())) + _message(2, entry)
    return Payload("grpc", "/tensorflow.serving.PredictionService/Predict", body)


def classify_rest(model: str, inputs: NDArray[np.float32]) -> Payload:
    examples = [{INPUT: row} for row in _numbers(inputs)]
    return Payload("rest", f"/v1/models/{model}:classify", json.dumps({"examples": examples}).encode())


def classify_grpc(model: str, inputs: NDArray[np.float32]) -> Payload:
    """ClassificationRequest with one tf.Example a row."""
    examples = b"".join(_message(1, example(row)) for row in inputs)
    body = _message(1, _message(1, model.encode())) + _message(2, _message(1, examples))
    return Payload("grpc", "/tensorflow.serving.PredictionService/Classify", body)


def example(row: NDArray[np.float32]) -> bytes:
    """A tf.Example with one feature of floats (tensorflow/core/example/example.proto, feature.proto)."""
    floats = _message(2, _message(1, row.tobytes()))
    entry = _message(1, INPUT.encode()) + _message(2, floats)
    return _message(1, _message(1, entry))


def holds(answer: bytes, expected: NDArray[np.float32], protocol: str) -> bool:
    """Whether the numbers are in the answer, to 1e-4: anywhere in JSON, or as 4-byte floats in a protobuf message."""
    if protocol == "rest":
        return any(_close(numbers, expected) for numbers in _lists(json.loads(answer)))
    size = expected.nbytes
    packed = (answer[start : start + size] for start in range(len(answer) - size + 1))
    return any(_close(np.frombuffer(piece, "<f4"), expected) for piece in packed)


def _lists(document: object) -> list[NDArray[np.float64]]:
    """Every list of numbers in a JSON document, nested ones flattened."""
    if isinstance(document, dict):
        return [numbers for value in document.values() for numbers in _lists(value)]
    if not isinstance(document, list):
        return []
    try:
        return [np.array(document, np.float64).reshape(-1)]
    except (TypeError, ValueError):
        return [numbers for value in document for numbers in _lists(value)]


def _close(numbers: NDArray[np.floating], expected: NDArray[np.float32]) -> bool:
    return numbers.size == expected.size and bool(np.allclose(numbers, expected.reshape(-1), atol=1e-4))


def _numbers(rows: NDArray[np.float32]) -> list[list[float]]:
    """Rows of the shortest numbers that read back as the same float32."""
    return [[float(str(value)) for value in row] for row in rows]


def _message(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | LENGTH_DELIMITED) + _varint(len(content)) + content


def _integer(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    """Seven bits a byte, low bits first (https://protobuf.dev/programming-guides/encoding/). value >= 0."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)
