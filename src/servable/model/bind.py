"""What a caller gives, as the inputs of a signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.errors import InvalidArgument
from servable.model.reference_inputs import is_missing
from servable.wire.tensors import BYTES, Tensor, as_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from servable.model.signatures import Signature, TensorSpec


def bind(x: Any, signature: Signature) -> dict[str, Tensor]:
    """Inputs by name, in the datatypes of the signature.

    Args:
        x: One array where the signature has one input; else a dict of arrays by input name. Or a DataFrame of pandas or
            polars: its columns are the inputs, or, where the signature has one input of another name, all together the
            columns of that.
        signature: What is called.

    Raises:
        InvalidArgument: Wrong input names, datatypes or shapes.

    Example:
        >>> from servable.model.signatures import Signature, TensorSpec
        >>> bind([[1, 2]], Signature("serving_default", (TensorSpec("x", "FP32", (-1, 2)),), ()))["x"].array
        array([[1., 2.]], dtype=float32)
    """
    expected = [spec.name for spec in signature.inputs]
    if hasattr(x, "columns") and not isinstance(x, Mapping):
        return _bind_table(x, signature)
    if not isinstance(x, Mapping):
        if len(expected) != 1:
            raise InvalidArgument(f"Takes {len(expected)} inputs", hint=f"give a dict with {', '.join(expected)}")
        return {expected[0]: _tensor(x, signature.inputs[0])}
    if set(x) != set(expected):
        given = ", ".join(map(str, x)) or "nothing"
        raise InvalidArgument(f"Takes {', '.join(expected)}, given {given}")
    return {spec.name: _tensor(x[spec.name], spec) for spec in signature.inputs}


def _bind_table(table: Any, signature: Signature) -> dict[str, Tensor]:
    names, specs = list(table.columns), signature.inputs
    if set(names) == {spec.name for spec in specs}:
        return {spec.name: _column(table[spec.name], spec) for spec in specs}
    if len(specs) == 1 and specs[0].name not in names:
        return {specs[0].name: _tensor(table, specs[0])}
    raise InvalidArgument(
        f"Takes the columns {', '.join(spec.name for spec in specs)}, given {', '.join(map(str, names))}",
        hint=f"choose them: table[{[spec.name for spec in specs]}]",
    )


def _column(column: Any, spec: TensorSpec) -> Tensor:
    """A column as `[rows]`, or `[rows, 1]` where the input has it so."""
    array = np.asarray(column)
    if spec.datatype != BYTES and array.dtype.kind == "O":
        array = _numbers(array, spec)
    tensor = _tensor(array, spec)
    if spec.shape is not None and len(spec.shape) == 2 and spec.shape[1] in (1, -1) and tensor.array.ndim == 1:
        return Tensor(tensor.datatype, tensor.array.reshape(-1, 1))
    return tensor


def _numbers(column: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """A column of numbers, of which some may be missing; or of lists of one length."""
    try:
        array = np.array([np.nan if is_missing(each) else each for each in column.tolist()])
    except ValueError as error:
        raise InvalidArgument(f"Input '{spec.name}': {error}") from None
    if array.dtype.kind not in "biufc":
        raise InvalidArgument(f"Input '{spec.name}': the column holds more than numbers")
    return array


def _tensor(value: Any, spec: TensorSpec) -> Tensor:
    try:
        return as_tensor(value, spec.datatype)
    except InvalidArgument as error:
        raise InvalidArgument(f"Input '{spec.name}': {error}", hint=error.hint) from error
