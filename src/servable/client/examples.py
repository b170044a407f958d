"""Classify and Regress: rows of named features as requests, and replies as classes and values. No sockets here.

Sources: https://www.tensorflow.org/tfx/serving/api_rest and tensorflow_serving/apis/{classification,regression}.proto.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.client.exchange import Reply, Request
from servable.client.grpc_messages import model_spec
from servable.client.tfs import path
from servable.errors import Internal, InvalidArgument
from servable.wire.examples import Classes, encode_example, feature_values, read_classes, read_values, write_input
from servable.wire.protobuf import Writer, fields

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from servable.client.types import Target

# A row: its features by name, or a serialized `tf.Example`.
Example = Mapping[str, Any] | bytes


def check_examples(examples: Any) -> Sequence[Example]:
    """The examples, if they are a list; InvalidArgument for anything else, such as one example alone."""
    if isinstance(examples, Sequence) and not isinstance(examples, str | bytes):
        return examples
    kind = type(examples).__name__
    raise InvalidArgument(f"Examples are a list of dicts, not {kind}", hint="put one example into a list")


def rest_request(
    verb: str, target: Target, signature: str, examples: Sequence[Example], context: Example | None
) -> Request:
    """The request of `:classify` or `:regress`.

    Raises:
        InvalidArgument: An example is serialized already, or has a value that JSON cannot carry.
    """
    body: dict[str, Any] = {"signature_name": signature, "examples": [_to_json(example) for example in examples]}
    if context is not None:
        body["context"] = _to_json(context)
    try:
        data = json.dumps(body).encode()
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"An example cannot be sent as JSON: {error}") from None
    return Request("POST", f"{path(target)}:{verb}", {"Content-Type": "application/json"}, data)


def _to_json(example: Example) -> dict[str, Any]:
    if not isinstance(example, Mapping):
        hint = "pass a dict of features, or use a grpc:// address for serialized examples"
        raise InvalidArgument(f"REST takes examples as dicts, not {type(example).__name__}", hint=hint)
    return {name: [_value(each) for each in feature_values(value)] for name, value in example.items()}


def _value(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def read_rest_classes(reply: Reply) -> list[Classes]:
    try:
        return [[(str(label), float(score)) for label, score in row] for row in reply.json()["results"]]
    except (TypeError, KeyError, ValueError) as error:
        raise Internal(f"The server's answer holds no classes: {error!r}") from None


def read_rest_values(reply: Reply) -> NDArray[np.float32]:
    try:
        return np.array([float(value) for value in reply.json()["results"]], np.float32)
    except (TypeError, KeyError, ValueError) as error:
        raise Internal(f"The server's answer holds no values: {error!r}") from None


def grpc_request(target: Target, signature: str, examples: Sequence[Example], context: Example | None) -> bytes:
    """A ClassificationRequest or a RegressionRequest, which look alike.

    Raises:
        InvalidArgument: A feature has values of no kind that can be sent.
    """
    given = write_input([_to_bytes(each) for each in examples], None if context is None else _to_bytes(context))
    return Writer().message(1, model_spec(target, signature).write()).message(2, given).to_bytes()


def _to_bytes(example: Example) -> bytes:
    return example if isinstance(example, bytes) else encode_example(example)


def read_grpc_classes(message: bytes) -> list[Classes]:
    return read_classes(_result(message))


def read_grpc_values(message: bytes) -> NDArray[np.float32]:
    return np.array(read_values(_result(message)), np.float32)


def _result(response: bytes) -> memoryview:
    return next((field.message() for field in fields(response) if field.number == 1), memoryview(b""))
