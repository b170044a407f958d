"""The examples that a user gives to `save`: an array, a dict of arrays, or a DataFrame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.errors import ConversionError, InvalidArgument
from servable.wire.tensors import Tensor, as_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from servable.model.signatures import Signature, TensorSpec

MAX_ROWS = 1024
# Rows in one golden example. A batch of the size that a server forms, and small enough to be quick.
ROWS_PER_RECORD = 32


@dataclass(frozen=True)
class Examples:
    """Examples in the form the framework takes them, and as named arrays.

    Attributes:
        value: What the model is called with: as given, but lists are arrays.
        arrays: By input name; one entry for a plain array.
        single: Whether a plain array was given.
    """

    value: Any
    arrays: dict[str, NDArray[Any]]
    single: bool

    @property
    def rows(self) -> int | None:
        """How many instances there are; None where the arrays do not agree on a first size."""
        sizes = {array.shape[0] if array.ndim else None for array in self.arrays.values()}
        return sizes.pop() if len(sizes) == 1 else None

    def split(self, size: int = ROWS_PER_RECORD) -> list[Examples]:
        """The examples in pieces of at most `size` rows; whole where rows cannot be told."""
        if self.rows is None or self.rows <= size:
            return [self]
        return [self._take(slice(start, start + size)) for start in range(0, self.rows, size)]

    def first_row(self) -> list[Examples]:
        """The first row alone, in a list; none where there are no others, or rows cannot be told.

        It proves a model that was traced with another number of rows.
        """
        return [self._take(slice(1))] if self.rows and self.rows > 1 else []

    def _take(self, rows: slice) -> Examples:
        arrays = {name: array[rows] for name, array in self.arrays.items()}
        if self.single:
            return Examples(next(iter(arrays.values())), arrays, single=True)
        value = arrays if isinstance(self.value, Mapping) else self.value[rows]
        return Examples(value, arrays, single=False)


def take_examples(value: Any, input_name: str = "inputs") -> Examples:
    """Reads what the user gave.

    Args:
        value: An array (or nested lists), a dict of arrays by input name, or a DataFrame of pandas or polars, whose
            columns become the inputs.
        input_name: What to call the input of a plain array.

    Raises:
        InvalidArgument: No rows, too many, or something else altogether.

    Example:
        >>> take_examples([[1.0, 2.0]]).rows
        1
    """
    if isinstance(value, Mapping):
        arrays = {_name(name): _array(each) for name, each in value.items()}
        examples = Examples(arrays, arrays, single=False)
    elif hasattr(value, "columns") and hasattr(value, "__getitem__"):
        arrays = {_name(name): _array(value[name]) for name in value.columns}
        examples = Examples(value, arrays, single=False)
    else:
        array = _array(value)
        examples = Examples(array, {input_name: array}, single=True)
    few = "a handful of real inputs is best: examples=x[:8]"
    if not examples.arrays or any(array.ndim and not array.size for array in examples.arrays.values()):
        raise InvalidArgument("There are no examples", hint=few)
    if (examples.rows or 0) > MAX_ROWS:
        raise InvalidArgument(f"{examples.rows} rows of examples are over the limit of {MAX_ROWS}", hint=few)
    return examples


def _name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidArgument(f"Inputs are named by text, not by {name!r}", hint="rename the columns")
    return name


def _array(value: Any) -> NDArray[Any]:
    if callable(getattr(value, "detach", None)):  # a tensor of PyTorch, which may be on a GPU or know its gradient
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InvalidArgument(f"The examples are no array: {error}", hint="rows must have the same length") from None
    if array.dtype.kind == "O" and array.ndim == 0:
        raise InvalidArgument(
            f"Examples of type {type(value).__name__} cannot be read",
            hint="give an array, a dict of arrays or a DataFrame",
        )
    return array


def is_text(array: NDArray[Any]) -> bool:
    """Whether an array holds strings of str; False for bytes and for numbers."""
    if array.dtype.kind in "UT":
        return True
    return array.dtype.kind == "O" and any(isinstance(element, str) for element in array.ravel().tolist())


def bind_inputs(examples: Examples, signature: Signature) -> dict[str, Tensor]:
    """The examples as the inputs of a signature, in its datatypes.

    Raises:
        ConversionError: They have other names, or values of another kind.
    """
    names = [spec.name for spec in signature.inputs]
    arrays = examples.arrays
    if examples.single and len(names) == 1:
        arrays = {names[0]: next(iter(arrays.values()))}
    elif examples.single or set(arrays) != set(names):
        given = "one array" if examples.single else ", ".join(sorted(arrays))
        raise ConversionError(
            f"The model takes {', '.join(sorted(names))}; the examples are {given}",
            hint="give a dict of arrays by input name",
        )
    return {spec.name: _tensor(spec, arrays[spec.name]) for spec in signature.inputs}


def _tensor(spec: TensorSpec, array: NDArray[Any]) -> Tensor:
    try:
        return as_tensor(array, spec.datatype)
    except InvalidArgument as error:
        raise ConversionError(f"Examples of '{spec.name}': {error}", hint=error.hint) from error
