"""A request that can be copied into a shell and works as it stands."""

from __future__ import annotations

import json
import math
import shlex
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from servable.model.signatures import Signature, TensorSpec

_MOST_VALUES_WRITTEN_OUT = 16
_ZEROS: dict[str, Any] = {"BOOL": False, "BYTES": "text"}


def curl_line(rest: str, model: str, signature: Signature) -> str:
    r"""A curl command that asks a model about one instance of zeros.

    Args:
        rest: The URL of REST.
        model: Its name.
        signature: What is asked; its name is passed on where it is not the default one.

    Example:
        >>> from servable.model.signatures import Signature, TensorSpec
        >>> spec = TensorSpec("x", "FP32", (-1, 2))
        >>> curl_line("http://127.0.0.1:8501", "half", Signature("serving_default", (spec,), (spec,)))
        'curl -d \'{"instances": [[0.0, 0.0]]}\' http://127.0.0.1:8501/v1/models/half:predict'
    """
    url = shlex.quote(f"{rest}/v1/models/{quote(model, safe='')}:predict")
    shapes = {spec.name: _shape(spec) for spec in signature.inputs}
    if sum(math.prod(shape) for shape in shapes.values()) <= _MOST_VALUES_WRITTEN_OUT:
        values = {spec.name: _nested(_zero(spec), shapes[spec.name]) for spec in signature.inputs}
        return f"curl -d {shlex.quote(json.dumps(_body(signature, values)))} {url}"
    # Too long to be copied: let Python write it.
    marks = {spec.name: f"\0{spec.name}\0" for spec in signature.inputs}
    program = json.dumps(_body(signature, marks))
    for spec in signature.inputs:
        program = program.replace(json.dumps(marks[spec.name]), _repeated(_zero(spec), shapes[spec.name]))
    program = f"import json; print(json.dumps({program}))"
    return f"python3 -c {shlex.quote(program)} | curl -d @- {url}"


def _body(signature: Signature, values: dict[str, Any]) -> dict[str, Any]:
    """In column form, which every signature has; in row form, which is what people know, where there is one input."""
    body: dict[str, Any] = {} if signature.name == "serving_default" else {"signature_name": signature.name}
    if len(values) == 1:
        form = "instances" if signature.batch_axis == 0 else "inputs"
        return body | {form: next(iter(values.values()))}
    return body | {"inputs": values}


def _zero(spec: TensorSpec) -> Any:
    if spec.datatype in _ZEROS:
        return _ZEROS[spec.datatype]
    return 0 if "INT" in spec.datatype else 0.0


def _shape(spec: TensorSpec) -> list[int]:
    return [max(size, 1) for size in spec.shape or ()]


def _nested(value: Any, shape: list[int]) -> Any:
    for size in reversed(shape):
        value = [value] * size
    return value


def _repeated(value: Any, shape: list[int]) -> str:
    text = repr(value)
    for size in reversed(shape):
        text = f"[{text}]" if size == 1 else f"[{text}] * {size}"
    return text
