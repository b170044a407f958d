"""The Open Inference Protocol over REST, tensors in binary or as JSON: requests and replies, no sockets.

Sources: https://github.com/kserve/open-inference-protocol (Predict Protocol, version 2) and its extension "Binary
tensor data" (https://docs.nvidia.com/deeplearning/triton-inference-server, Binary Tensor Data Extension).
"""

from __future__ import annotations

import itertools
import json
import math
import struct
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from servable.client import tfs
from servable.client.exchange import Reply, Request, error_of, read_json
from servable.client.types import DEFAULT_SIGNATURE, Metadata
from servable.client.values import from_json, json_numbers, to_floats
from servable.errors import Internal, InvalidArgument
from servable.model.signatures import Signature, TensorSpec
from servable.wire.tensors import BYTES, numpy_dtype, octets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from servable.client.types import Target
    from servable.wire.tensors import Tensor

_AS_BINARY = "Client(..., binary=True), where the server can"
_HEADER_LENGTH = "Inference-Header-Content-Length"


class Oip:
    """Any server of the protocol: models and versions, but neither labels nor several signatures.

    Args:
        binary: Whether tensors travel in binary, which is an extension of the protocol, or as JSON.
    """

    def __init__(self, *, binary: bool = True) -> None:
        self._write = _infer if binary else _infer_json

    def predict(
        self, target: Target, signature: str, inputs: Mapping[str, Tensor], outputs: tuple[str, ...]
    ) -> Request:
        """The `infer` request."""
        if signature != DEFAULT_SIGNATURE:
            raise InvalidArgument("This server speaks the Open Inference Protocol, which has one signature for a model")
        return self._write(self._path(target) + "/infer", {}, inputs, outputs)

    def read_predict(self, reply: Reply, _signature: Signature) -> dict[str, NDArray[Any]]:
        """The outputs of an `infer` reply."""
        return read_outputs(reply.headers.get(_HEADER_LENGTH.lower()), reply.body)

    def metadata(self, target: Target) -> Request:
        return Request("GET", self._path(target))

    def read_metadata(self, target: Target, reply: Reply) -> Metadata:
        try:
            data = reply.json()
            signature = Signature(DEFAULT_SIGNATURE, _specs(data["inputs"]), _specs(data["outputs"]))
        except (TypeError, KeyError, InvalidArgument) as error:
            raise Internal(f"The server's metadata of {target} cannot be read: {error}") from None
        return Metadata(target.model, target.version, {DEFAULT_SIGNATURE: signature})

    def ready(self, model: str | None) -> Request:
        return Request("GET", "/v2/health/ready" if model is None else f"/v2/models/{quote(model, safe='')}/ready")

    def not_ready(self, reply: Reply) -> str | None:
        return None if reply.status == 200 else str(error_of(reply))

    def _path(self, target: Target) -> str:
        if target.label is not None:
            raise InvalidArgument("This server speaks the Open Inference Protocol, which has no labels")
        version = "" if target.version is None else f"/versions/{target.version}"
        return f"/v2/models/{quote(target.model, safe='')}{version}"


class Servable(Oip):
    """Our own server: the protocol's binary form, with TensorFlow Serving's labels and signatures.

    As JSON our server is spoken to like a TensorFlow Serving, whose JSON carries infinity, any bytes, and labels.
    """

    def predict(
        self, target: Target, signature: str, inputs: Mapping[str, Tensor], outputs: tuple[str, ...]
    ) -> Request:
        parameters = {} if signature == DEFAULT_SIGNATURE else {"signature_name": signature}
        path = self._path(target) + "/infer" if target.label is None else tfs.path(target) + ":predict"
        return _infer(path, parameters, inputs, outputs)

    def metadata(self, target: Target) -> Request:
        return Request("GET", tfs.path(target) + "/metadata")

    def read_metadata(self, target: Target, reply: Reply) -> Metadata:
        return tfs.read_metadata(target, reply)


def _specs(entries: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec.from_json(entry) for entry in entries)


def _infer_json(
    path: str, _parameters: dict[str, Any], inputs: Mapping[str, Tensor], outputs: tuple[str, ...]
) -> Request:
    entries = []
    for name, tensor in inputs.items():
        entry = json.dumps({"name": name, "shape": tensor.shape, "datatype": tensor.datatype})
        entries.append(f'{entry[:-1]}, "data": {_values(name, tensor)}}}')
    chosen = f', "outputs": {json.dumps([{"name": name} for name in outputs])}' if outputs else ""
    body = f'{{"inputs": [{", ".join(entries)}]{chosen}}}'
    return Request("POST", path, {"Content-Type": "application/json"}, body.encode())


def _values(name: str, tensor: Tensor) -> str:
    """JSON of the elements, row by row. The protocol's JSON is strict: no infinity, and strings are text."""
    array = to_floats(tensor).ravel()
    if tensor.datatype != BYTES:
        if not np.isfinite(array).all():
            raise InvalidArgument(f"Input '{name}' has NaN or infinity, which JSON cannot carry here", hint=_AS_BINARY)
        return json_numbers(array)
    try:
        return json.dumps([element.decode() for element in array.tolist()])
    except UnicodeDecodeError:
        raise InvalidArgument(
            f"Input '{name}' has bytes that are no text, which JSON cannot carry here", hint=_AS_BINARY
        ) from None


def _infer(path: str, parameters: dict[str, Any], inputs: Mapping[str, Tensor], outputs: tuple[str, ...]) -> Request:
    header: dict[str, Any] = {"parameters": {**parameters, "binary_data_output": True}, "inputs": []}
    chunks = [b""]
    for name, tensor in inputs.items():
        chunks.append(_binary(tensor))
        header["inputs"].append(
            {
                "name": name,
                "shape": list(tensor.shape),
                "datatype": tensor.datatype,
                "parameters": {"binary_data_size": len(chunks[-1])},
            }
        )
    if outputs:
        header["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    chunks[0] = json.dumps(header, separators=(",", ":")).encode()
    headers = {_HEADER_LENGTH: str(len(chunks[0])), "Content-Type": "application/octet-stream"}
    return Request("POST", path, headers, b"".join(chunks))


def _binary(tensor: Tensor) -> bytes:
    if tensor.datatype != BYTES:
        return octets(tensor.array).tobytes()
    elements = tensor.array.ravel().tolist()
    return b"".join(itertools.chain.from_iterable((struct.pack("<I", len(each)), each) for each in elements))


def read_outputs(header_length: str | None, body: bytearray) -> dict[str, NDArray[Any]]:
    """The outputs of an infer reply, binary and JSON ones mixed as the server likes.

    Arrays of numbers share the memory of `body`; strings come as object arrays of bytes.

    Args:
        header_length: Value of the header `Inference-Header-Content-Length`, or None for a reply all in JSON.
        body: The whole body.

    Raises:
        Internal: The reply is not of the protocol.
    """
    view = memoryview(body)
    length = len(view) if header_length is None else _length(header_length, len(view))
    header = read_json(view[:length])
    try:
        return dict(_outputs(header["outputs"], view[length:]))
    except (TypeError, KeyError, ValueError, AttributeError, RecursionError, struct.error) as error:
        raise Internal(f"The server's answer is not of the Open Inference Protocol: {error!r}") from None


def _outputs(entries: list[dict[str, Any]], binary: memoryview) -> Iterator[tuple[str, NDArray[Any]]]:
    at = 0
    for entry in entries:
        size = (entry.get("parameters") or {}).get("binary_data_size")
        if size is None:
            yield entry["name"], from_json(entry["data"], entry["datatype"]).reshape(entry["shape"])
        else:
            yield entry["name"], _array(binary[at : at + size], size, entry["datatype"], entry["shape"])
            at += size


def _length(text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= most):
        raise Internal(f"The server's header {_HEADER_LENGTH} is {text!r}, with a body of {most} bytes")
    return int(text)


def _array(data: memoryview, size: int, datatype: str, shape: list[int]) -> NDArray[Any]:
    if len(data) != size or size < 0:
        raise ValueError(f"{len(data)} bytes where {size} are announced")
    if datatype == BYTES:
        return _strings(data, math.prod(shape)).reshape(shape)
    array = np.frombuffer(data, numpy_dtype(datatype)).reshape(shape)
    return array if array.flags.aligned else array.copy()


def _strings(data: memoryview, count: int) -> NDArray[Any]:
    if not 0 <= count <= len(data) // 4:
        raise ValueError(f"{count} strings cannot be in {len(data)} bytes")
    out, at = np.empty(count, object), 0
    for index in range(count):
        (size,) = struct.unpack_from("<I", data, at)
        if at + 4 + size > len(data):
            raise ValueError("a string is cut short")
        out[index] = bytes(data[at + 4 : at + 4 + size])
        at += 4 + size
    if at != len(data):
        raise ValueError("bytes are left over after the last string")
    return out
