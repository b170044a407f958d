"""Compares answers with expected ones, and says where and by how much they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.model.tolerance import EXACT, tolerance_of
from servable.wire.tensors import BYTES, Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from servable.model.tolerance import Tolerance

_MAX_TEXT = 24


@dataclass(frozen=True)
class Difference:
    """How one output differs from what was expected.

    Attributes:
        output: Name of the output.
        datatype: The expected datatype.
        values: How many values were compared.
        outside: How many of them are outside the tolerance.
        max_absolute: The largest `|a - b|`; infinite where only one of the two is a finite number; 0 for strings.
        max_relative: The largest `|a - b| / |b|`, b being the expected value.
        worst: The value that is furthest off, as text: where, expected, answered. Empty where none is outside.
        problem: What keeps the values from being compared at all, like another shape; else empty.
    """

    output: str
    datatype: str
    values: int = 0
    outside: int = 0
    max_absolute: float = 0.0
    max_relative: float = 0.0
    worst: tuple[str, str, str] | tuple[()] = ()
    problem: str = ""

    @property
    def passed(self) -> bool:
        return not self.outside and not self.problem

    def __add__(self, other: Difference) -> Difference:
        """Of the same output in two sets of answers together."""
        worse = other if other.outside and other.max_absolute >= self.max_absolute else self
        return Difference(
            self.output,
            self.datatype,
            self.values + other.values,
            self.outside + other.outside,
            max(self.max_absolute, other.max_absolute),
            max(self.max_relative, other.max_relative),
            worse.worst or self.worst or other.worst,
            self.problem or other.problem,
        )


@dataclass(frozen=True)
class Report:
    """The differences of all outputs."""

    differences: tuple[Difference, ...]

    @property
    def passed(self) -> bool:
        return all(difference.passed for difference in self.differences)

    def table(self) -> str:
        """One line for each output, aligned, with a heading."""
        heading = ("output", "datatype", "outside", "largest", "relative", "at", "expected", "answered")
        rows = [heading, *(_row(difference) for difference in self.differences)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(heading))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        problems = [f"{each.output}: {each.problem}" for each in self.differences if each.problem]
        return "\n".join(lines + problems)


def _row(difference: Difference) -> tuple[str, ...]:
    counts = f"{difference.outside} of {difference.values}"
    largest, relative = f"{difference.max_absolute:.3g}", f"{difference.max_relative:.3g}"
    at = difference.worst or ("-", "-", "-")
    return (difference.output, difference.datatype, counts, largest, relative, *at)


def compare(
    answered: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: Mapping[str, Tolerance] | None = None
) -> Report:
    """Compares every expected output; outputs that nothing is expected of are passed over.

    NaN agrees with NaN. Two outputs of another datatype or shape differ, whatever their values.
    """
    found = []
    for name, want in expected.items():
        got = answered.get(name)
        if got is None:
            found.append(Difference(name, want.datatype, problem="is missing from the answer"))
        else:
            found.append(_difference(name, got, want, tolerance_of(want.datatype, tolerance)))
    return Report(tuple(found))


def join(reports: Iterable[Report]) -> Report:
    """One report of many: one difference for each output."""
    by_output: dict[str, Difference] = {}
    for report in reports:
        for each in report.differences:
            by_output[each.output] = by_output[each.output] + each if each.output in by_output else each
    return Report(tuple(by_output.values()))


def _difference(name: str, got: Tensor, want: Tensor, limit: Tolerance) -> Difference:
    if got.datatype != want.datatype:
        return Difference(name, want.datatype, problem=f"is {got.datatype} instead of {want.datatype}")
    if got.shape != want.shape:
        problem = f"has shape {list(got.shape)} instead of {list(want.shape)}"
        return Difference(name, want.datatype, problem=problem)
    absolute, outside = distances(got, want, limit)
    if not absolute.size:
        return Difference(name, want.datatype)
    return Difference(
        name,
        want.datatype,
        values=absolute.size,
        outside=int(outside.sum()),
        max_absolute=float(absolute.max()),
        max_relative=_max_relative(absolute, want),
        worst=_worst(absolute, outside, got, want),
    )


def distances(got: Tensor, want: Tensor, limit: Tolerance) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How far apart two tensors of one datatype and shape are: `|a - b|`, and where it is outside the tolerance.

    Infinite where only one of the two is a finite number; 0 for strings, which are outside where they differ.
    """
    if got.datatype == BYTES:
        outside = np.asarray(got.array != want.array, np.bool_)
        return np.zeros(outside.shape), outside
    exact = np.asarray(got.array == want.array, np.bool_)
    a, b = numbers(got), numbers(want)
    same = exact if limit == EXACT else (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", over="ignore"):
        absolute = np.where(same, 0.0, np.abs(a - b))
    absolute[~np.isfinite(absolute)] = np.inf
    finite = np.isfinite(a) & np.isfinite(b)
    near = finite & (absolute <= limit.absolute + limit.relative * np.abs(np.where(finite, b, 0)))
    return absolute, ~same & ~near if limit != EXACT else ~same


def numbers(tensor: Tensor) -> NDArray[Any]:
    """The values of a tensor of numbers as float64, or as complex128."""
    array = tensor.array
    if tensor.datatype == "BF16" and array.dtype == np.uint16:
        array = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _max_relative(absolute: NDArray[np.float64], want: Tensor) -> float:
    if want.datatype == BYTES:
        return 0.0
    size = np.abs(numbers(want))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(absolute == 0, 0.0, absolute / size)
    return float(np.nan_to_num(relative, nan=np.inf, posinf=np.inf).max())


def _worst(
    absolute: NDArray[np.float64], outside: NDArray[np.bool_], got: Tensor, want: Tensor
) -> tuple[str, str, str] | tuple[()]:
    if not outside.any():
        return ()
    at = np.unravel_index(int(np.where(outside, absolute, -1.0).argmax()), absolute.shape)
    where = str([int(index) for index in at])
    return where, _text(want.array[at]), _text(got.array[at])


def _text(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."
