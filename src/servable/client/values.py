"""Between what a caller passes, tensors, and their values in JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.client.frames import columns, is_frame
from servable.errors import InvalidArgument
from servable.wire.tensors import BYTES, Tensor, as_tensor, numpy_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from servable.model.signatures import Signature


def to_tensors(x: Any, signature: Signature) -> dict[str, Tensor]:
    """The inputs by name, each with the datatype that the signature tells.

    Args:
        x: A dict of arrays by input name; a DataFrame; or one array, number, string or nested list for a signature with
            one input.
        signature: Where names and datatypes come from. Names that it does not have are passed on as they are: the
            server's refusal says more than ours could.

    Raises:
        InvalidArgument: Several inputs are needed, or a value cannot become the datatype without changing.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    if is_frame(x):
        x = columns(x, signature)
    if not isinstance(x, Mapping):
        if len(specs) != 1:
            names = ", ".join(specs) or "none"
            raise InvalidArgument(
                f"The signature '{signature.name}' has {len(specs)} inputs ({names}), but one array was given",
                hint="pass a dict from the name of an input to its array",
            )
        x = {next(iter(specs)): x}
    return {
        str(name): _tensor(str(name), value, specs[name].datatype if name in specs else None)
        for name, value in x.items()
    }


def _tensor(name: str, value: Any, datatype: str | None) -> Tensor:
    if datatype == BYTES and not isinstance(value, np.ndarray):
        value = np.array(value, object)  # numpy cannot mix str and bytes
    try:
        return as_tensor(value, datatype)
    except InvalidArgument as error:
        raise InvalidArgument(f"Input '{name}': {error}", hint=error.hint) from None


def to_floats(tensor: Tensor) -> NDArray[Any]:
    """The array itself; bfloat16, which may be here as bit patterns, as float32."""
    if tensor.datatype != "BF16":
        return tensor.array
    return (tensor.array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def to_json(tensor: Tensor) -> str:
    """JSON of nested lists of numbers; strings as `{"b64": ...}`, since they may be any bytes.

    Example:
        >>> to_json(as_tensor([[0.5, 2.0]], "FP32"))
        '[[0.5,2]]'
    """
    array = to_floats(tensor)
    if tensor.datatype != BYTES:
        return json_numbers(array)
    return json.dumps(_encoded(array.tolist()))


def json_numbers(array: NDArray[Any]) -> str:
    """JSON of nested lists of numbers, with NaN and Infinity as Python writes them."""
    small = array.dtype in (np.float32, np.float16)
    if not small or not array.size or not np.isfinite(array).all():
        return json.dumps(array.tolist())
    # Nine digits tell every float32 from every other. Of the float64 that json would see it writes seventeen, and takes
    # three times as long.
    form = "%.9g"
    for size in reversed(array.shape):
        form = "[" + ",".join([form] * size) + "]"
    return form % tuple(array.ravel().tolist())


def from_json(value: Any, datatype: str) -> NDArray[Any]:
    """The array of nested lists of numbers, of strings or of `{"b64": ...}`; ValueError where it is none."""
    if datatype == BYTES:
        return as_tensor(np.array(_decoded(value), object)).array
    if datatype == "BF16":
        return as_tensor(np.array(value, np.float32), datatype).array
    return np.array(value, numpy_dtype(datatype))


def _encoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_encoded(each) for each in value]
    return {"b64": base64.b64encode(value).decode()}


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(each) for each in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
