"""TensorFlow Serving's REST API: requests and replies in JSON, no sockets.

Source: https://www.tensorflow.org/tfx/serving/api_rest. Values travel as text here; the binary form of the Open
Inference Protocol is smaller and faster where the server has it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from servable.client.exchange import Reply, Request
from servable.client.types import Metadata, VersionStatus
from servable.client.values import from_json, to_json
from servable.errors import Internal, ServableError
from servable.model.signatures import Signature, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from servable.client.types import Target
    from servable.wire.tensors import Tensor

_DATATYPES = {
    "DT_FLOAT": "FP32",
    "DT_DOUBLE": "FP64",
    "DT_HALF": "FP16",
    "DT_BFLOAT16": "BF16",
    "DT_STRING": "BYTES",
    "DT_BOOL": "BOOL",
    **{f"DT_{kind}{bits}": f"{kind}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)},
}


class TensorFlowServing:
    """A server of TensorFlow Serving's API alone."""

    def predict(
        self, target: Target, signature: str, inputs: Mapping[str, Tensor], _outputs: tuple[str, ...]
    ) -> Request:
        """The `:predict` request in column form. The API cannot choose outputs: all of them come."""
        values = ",".join(f"{json.dumps(name)}:{to_json(tensor)}" for name, tensor in inputs.items())
        body = f'{{"signature_name":{json.dumps(signature)},"inputs":{{{values}}}}}'
        return Request("POST", path(target) + ":predict", {"Content-Type": "application/json"}, body.encode())

    def read_predict(self, reply: Reply, signature: Signature) -> dict[str, NDArray[Any]]:
        """The outputs of a reply in column form, with the datatypes that the signature tells."""
        specs = {spec.name: spec for spec in signature.outputs}
        try:
            found = reply.json()["outputs"]
            # One output comes bare, several come by name.
            if len(specs) == 1 and not (isinstance(found, dict) and specs.keys() == found.keys()):
                found = {next(iter(specs)): found}
            return {name: from_json(value, specs[name].datatype) for name, value in found.items()}
        except (TypeError, KeyError, ValueError, AttributeError, RecursionError) as error:
            raise Internal(f"The server's answer does not fit the signature {signature}: {error!r}") from None

    def metadata(self, target: Target) -> Request:
        return Request("GET", path(target) + "/metadata")

    def read_metadata(self, target: Target, reply: Reply) -> Metadata:
        return read_metadata(target, reply)

    def ready(self, model: str | None) -> Request:
        return Request("GET", "/v1/models") if model is None else status(model)

    def not_ready(self, reply: Reply) -> str | None:
        """There is no page for readiness: an answer means a running server, a state means a model."""
        if reply.status == 400:
            return None
        try:
            states = read_status(reply.checked())
        except ServableError as error:
            return str(error)
        if any(status.state == "AVAILABLE" for status in states):
            return None
        return "; ".join(f"version {each.version} is in state {each.state}. {each.message}" for each in states)


def path(target: Target) -> str:
    """`/v1/models/NAME`, with the version or the label."""
    suffix = ""
    if target.label is not None:
        suffix = f"/labels/{quote(target.label, safe='')}"
    elif target.version is not None:
        suffix = f"/versions/{target.version}"
    return f"/v1/models/{quote(target.model, safe='')}{suffix}"


def status(model: str) -> Request:
    """The request for the states of all versions of a model."""
    return Request("GET", f"/v1/models/{quote(model, safe='')}")


def read_status(reply: Reply) -> list[VersionStatus]:
    """The states of all versions, newest first."""
    try:
        return [
            VersionStatus(
                int(entry["version"]),
                str(entry["state"]),
                str(entry.get("status", {}).get("error_code", "OK")),
                str(entry.get("status", {}).get("error_message", "")),
            )
            for entry in reply.json()["model_version_status"]
        ]
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise Internal(f"The server's status cannot be read: {error!r}") from None


def read_metadata(target: Target, reply: Reply) -> Metadata:
    """The signatures of a version; those with tensors that cannot be sent, such as resources, are left out."""
    try:
        data = reply.json()
        version = int(data["model_spec"]["version"])
        definitions = data["metadata"]["signature_def"]["signature_def"]
        signatures = {}
        for name, entry in definitions.items():
            tensors = [*entry.get("inputs", {}).values(), *entry.get("outputs", {}).values()]
            if all(tensor["dtype"] in _DATATYPES for tensor in tensors):
                signatures[name] = Signature(name, _specs(entry.get("inputs", {})), _specs(entry.get("outputs", {})))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise Internal(f"The server's metadata of {target} cannot be read: {error!r}") from None
    return Metadata(target.model, version, signatures)


def _specs(entries: dict[str, Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, _DATATYPES[entry["dtype"]], _shape(entry), entry["name"]) for name, entry in entries.items()
    )


def _shape(entry: dict[str, Any]) -> tuple[int, ...] | None:
    shape = entry.get("tensor_shape") or {}
    if shape.get("unknown_rank"):
        return None
    return tuple(int(dimension["size"]) for dimension in shape.get("dim", []))
