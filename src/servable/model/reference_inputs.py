"""The inputs that a version was trained on, as the user has them, for its feature statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.errors import InvalidArgument
from servable.wire.tensors import BYTES, Tensor, numpy_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from servable.model.signatures import Signature, TensorSpec

MAX_ROWS = 1_000_000
"""Of more rows so many are looked at, evenly spaced."""


def reference_inputs(value: Any, signature: Signature) -> list[tuple[TensorSpec, Tensor]]:
    """Training inputs as tensors of a signature; a missing text is b"", a missing number NaN.

    Args:
        value: One array where the signature has one input; else a dict of arrays or a DataFrame by input name. What no
            input is called is passed over: a table of training data holds the labels too.
        signature: Whose inputs they are.

    Raises:
        InvalidArgument: An input is missing, or has values of another kind.
    """
    return [(spec, _tensor(array, spec)) for spec, array in _named(value, signature)]


def _named(value: Any, signature: Signature) -> list[tuple[TensorSpec, Any]]:
    specs = signature.inputs
    has_columns = isinstance(value, Mapping) or hasattr(value, "columns")
    names = set(value if isinstance(value, Mapping) else value.columns) if has_columns else set()
    missing = [spec.name for spec in specs if spec.name not in names]
    if has_columns and not missing:
        return [(spec, value[spec.name]) for spec in specs]
    if len(specs) == 1 and not isinstance(value, Mapping):
        return [(specs[0], value)]
    what = f"no {', '.join(missing)}" if has_columns else "one array"
    raise InvalidArgument(
        f"The model takes {', '.join(spec.name for spec in specs)}; statistics= has {what}",
        hint="give the training inputs by name, as the examples",
    )


def _tensor(value: Any, spec: TensorSpec) -> Tensor:
    try:
        array = np.asarray(value)
        rows = array[:: max(1, -(-len(array) // MAX_ROWS))] if array.ndim else array.reshape(1)
        return Tensor(spec.datatype, _texts(rows) if spec.datatype == BYTES else _numbers(rows, spec))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgument(f"statistics= of '{spec.name}' are no array of {spec.datatype}: {error}") from None


def _numbers(rows: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Rounded as the model's input rounds them, so that equal values of requests are equal here too."""
    if rows.dtype.kind == "O":
        rows = np.array([np.nan if is_missing(each) else each for each in rows.ravel().tolist()], np.float64).reshape(
            rows.shape
        )
    if rows.dtype.kind not in "biufc" and rows.dtype.name != "bfloat16":
        raise TypeError(f"they have dtype {rows.dtype}")
    with np.errstate(over="ignore"):
        return rows.astype(numpy_dtype(spec.datatype)) if spec.datatype in ("FP32", "FP16") else rows


def _texts(rows: NDArray[Any]) -> NDArray[Any]:
    out = np.empty(rows.size, object)
    out[:] = [_octets(each) for each in rows.ravel().tolist()]
    return out.reshape(rows.shape)


def _octets(element: Any) -> bytes:
    if isinstance(element, bytes):
        return element
    if isinstance(element, str):
        return element.encode(errors="replace")
    if is_missing(element):
        return b""
    raise TypeError(f"found {type(element).__name__}")


def is_missing(element: Any) -> bool:
    """Whether an element of a column stands for no value: None, NaN, and the NA of pandas."""
    return element is None or type(element).__name__ == "NAType" or (isinstance(element, float) and element != element)  # noqa: PLR0124
