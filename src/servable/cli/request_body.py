"""JSON request bodies of TensorFlow Serving, read for a client that speaks any protocol.

Source: https://www.tensorflow.org/tfx/serving/api_rest, "Predict API".
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from servable.errors import InvalidArgument

_FORMS = '{"instances": [...]}, {"inputs": ...}, or a list of instances'


@dataclass(frozen=True, slots=True)
class Body:
    """What a body says.

    Attributes:
        x: Values by input name, or the values of the only input.
        rows: Whether it was in row form: a list of instances.
        signature: The signature that it names, or None.
    """

    x: Any
    rows: bool
    signature: str | None = None


def read_body(content: bytes) -> Body:
    """Reads a body, or a plain list of instances.

    Raises:
        InvalidArgument: It is not JSON, or none of these forms.

    Example:
        >>> read_body(b'{"instances": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]}').x
        {'a': [1, 3], 'b': [2, 4]}
    """
    try:
        return _body(json.loads(content.decode("utf-8-sig")))
    except RecursionError:
        raise InvalidArgument("The JSON is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"The JSON is not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise InvalidArgument(f"This is not JSON: {error}", hint=f"write {_FORMS}") from None


def read_lines(content: bytes) -> Body:
    r"""Reads JSON lines: an instance on each.

    Raises:
        InvalidArgument: A line is not JSON; says which.

    Example:
        >>> read_lines(b'{"a": 1, "b": 2}\n{"a": 3, "b": 4}').x
        {'a': [1, 3], 'b': [2, 4]}
    """
    rows: list[Any] = []
    number = 0
    try:
        for line in content.decode("utf-8-sig").split("\n"):
            number += 1
            if line.strip():
                rows.append(json.loads(line))
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"The JSON is not UTF-8: {error.reason} at byte {error.start}") from None
    except (json.JSONDecodeError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InvalidArgument(f"Line {number} is not JSON: {reason}", hint="write an instance on each line") from None
    return Body(_columns(rows), rows=True)


def _body(value: Any) -> Body:
    match value:
        case list():
            return Body(_columns(value), rows=True)
        case {"instances": _, "inputs": _}:
            raise InvalidArgument('A body has "instances" or "inputs", not both')
        case {"instances": list(rows)}:
            return Body(_columns(rows), rows=True, signature=_signature(value))
        case {"inputs": dict(inputs)} if not _is_binary(inputs):
            return Body(
                {name: _decoded(each) for name, each in inputs.items()}, rows=False, signature=_signature(value)
            )
        case {"inputs": inputs}:
            return Body(_decoded(inputs), rows=False, signature=_signature(value))
    raise InvalidArgument("The JSON is no request", hint=f"write {_FORMS}")


def _signature(body: dict[str, Any]) -> str | None:
    name = body.get("signature_name")
    if name is not None and not isinstance(name, str):
        raise InvalidArgument('"signature_name" must be a string')
    return name or None


def _columns(rows: list[Any]) -> Any:
    """From a list of instances to values by input name, or to those of the only input."""
    if not rows:
        raise InvalidArgument("There are no instances")
    named = [isinstance(row, dict) and not _is_binary(row) for row in rows]
    if not any(named):
        return _decoded(rows)
    if not all(named) or any(row.keys() != rows[0].keys() for row in rows):
        raise InvalidArgument("All instances must have the same names")
    return {name: [_decoded(row[name]) for row in rows] for name in rows[0]}


def _is_binary(value: dict[str, Any]) -> bool:
    return value.keys() == {"b64"}


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(each) for each in value]
    if not isinstance(value, dict):
        return value
    if not _is_binary(value) or not isinstance(value["b64"], str):
        raise InvalidArgument('Within values only {"b64": "..."} may be an object')
    try:
        return base64.b64decode(value["b64"], validate=True)
    except ValueError as error:
        raise InvalidArgument(f'A "b64" is not base64: {error}') from None
