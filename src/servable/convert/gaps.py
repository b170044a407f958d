"""What is missing in the columns of a table: None, NaN, pandas' NA.

Neither JSON nor a tensor of strings has a word for it, so that a version takes NaN for a missing number, and the empty
string for a missing string.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from servable.wire.tensors import BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

MISSING_STRING = ""


def holds_strings(array: NDArray[Any]) -> bool:
    """Whether an array holds strings, or nothing else but missing values in a column for objects.

    Example:
        >>> holds_strings(np.array(["a", None], object)), holds_strings(np.array([1, None], object))
        (True, False)
    """
    if array.dtype.kind != "O":
        return array.dtype.kind in "SUT"
    return all(isinstance(each, str | bytes) or is_missing(each) for each in array.ravel().tolist())


def without_gaps(array: NDArray[Any], datatype: str) -> NDArray[Any]:
    """An array of objects in which what is missing is NaN, or '' for the datatype BYTES; others are as they were."""
    if array.dtype.kind not in "OT":
        return array
    text = datatype == BYTES
    gap: object = MISSING_STRING if text else np.nan
    filled = [gap if is_missing(each) else each for each in array.ravel().tolist()]
    if not text and all(isinstance(each, int | float) for each in filled):
        return np.array(filled, np.float64).reshape(array.shape)
    out = np.empty(array.size, object)
    out[:] = filled
    return out.reshape(array.shape)


def is_missing(value: object) -> bool:
    """Whether a value is None, NaN, or pandas' NA."""
    if value is None or type(value).__name__ == "NAType":
        return True
    return isinstance(value, float) and value != value  # noqa: PLR0124  # only NaN is unlike itself
