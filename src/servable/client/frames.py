"""DataFrames of pandas or polars as inputs. Neither is imported: who has a DataFrame has its library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from servable.errors import InvalidArgument
from servable.wire.tensors import BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from servable.model.signatures import Signature, TensorSpec


def is_frame(x: Any) -> bool:
    """Whether `x` has named columns, as a DataFrame."""
    return hasattr(x, "columns") and hasattr(x, "to_numpy") and hasattr(x, "__getitem__")


def columns(frame: Any, signature: Signature) -> Any:
    """What a DataFrame stands for.

    Args:
        frame: A DataFrame. Cells may be numbers, strings, or lists and arrays of one shape. A missing number is NaN.
        signature: What the model takes.

    Returns:
        Its columns as arrays by name: of shape `[rows]`, or `[rows, 1]` where the signature has a second dimension of
        1. For a signature with one input that no column is named after, the matrix of all columns.

    Raises:
        InvalidArgument: Numbers are missing where the model takes integers, or a cell cannot be read.

    Example:
        >>> columns(pd.DataFrame({"a": [1.0], "b": [2.0]}), signature)  # doctest: +SKIP
        {'a': array([1.]), 'b': array([2.])}
    """
    specs = {spec.name: spec for spec in signature.inputs}
    names = [str(name) for name in frame.columns]
    if len(specs) == 1 and not specs.keys() & set(names):
        spec = next(iter(specs.values()))
        return _numbers(frame.to_numpy(), spec) if spec.datatype != BYTES else frame.to_numpy()
    if len(set(names)) != len(names):
        raise InvalidArgument("Two columns of the DataFrame have the same name")
    return {name: _column(frame[key], specs.get(name)) for name, key in zip(names, frame.columns, strict=True)}


def _column(column: Any, spec: TensorSpec | None) -> NDArray[Any]:
    array = np.asarray(column.to_numpy())
    if spec is None:
        return array
    if array.dtype.kind == "O" and array.size and isinstance(array[0], list | tuple | np.ndarray):
        try:
            array = np.stack([np.asarray(cell) for cell in array])
        except ValueError as error:
            raise InvalidArgument(f"The cells of the column '{spec.name}' differ in shape: {error}") from None
    elif spec.datatype != BYTES:
        array = _numbers(array, spec)
    if array.ndim == 1 and spec.shape is not None and len(spec.shape) == 2 and spec.shape[1] == 1:
        return array[:, np.newaxis]
    return array


def _numbers(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Numbers that came as objects, because some are missing or the columns are of several kinds."""
    if array.dtype.kind == "O":
        # pandas has a word for what is missing that no float() takes.
        missing = np.array([cell is None or type(cell).__name__ in ("NAType", "NaTType") for cell in array.flat], bool)
    else:
        missing = np.isnan(array) if array.dtype.kind == "f" else np.zeros(0, bool)
    if missing.any() and not spec.datatype.startswith(("FP", "BF")):
        hint = "fill them in, as with fillna"
        raise InvalidArgument(f"Values of '{spec.name}' are missing, and {spec.datatype} has no NaN", hint=hint)
    if array.dtype.kind != "O":
        return array
    cells = [np.nan if gone else cell for cell, gone in zip(array.flat, missing, strict=True)]
    try:
        return np.array(cells).reshape(array.shape) if cells else np.zeros(array.shape)
    except ValueError as error:
        raise InvalidArgument(f"'{spec.name}' has cells that are no numbers: {error}") from None
