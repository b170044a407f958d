"""How the answers of two versions to the same inputs differ, put together output by output."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from servable.model.compare import distances
from servable.model.tolerance import tolerance_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from servable.model.tolerance import Tolerance
    from servable.wire.tensors import Tensor

_SMALLEST = -12
_LARGEST = 12


@dataclass(slots=True)
class OutputDifference:
    """How one output differs.

    Attributes:
        output: Its name.
        datatype: Of the first version.
        values: How many values were compared.
        outside: How many of them are outside the tolerance.
        flips: How many labels differ, for integers, booleans and strings; None for other numbers.
        max_absolute: The largest `|a - b|`; infinite where only one of the two is a finite number; 0 for strings.
        sum_absolute: The sum of all finite ones.
        problem: What keeps values from being compared, like another shape; else empty.
    """

    output: str
    datatype: str
    values: int = 0
    outside: int = 0
    flips: int | None = None
    max_absolute: float = 0.0
    sum_absolute: float = 0.0
    problem: str = ""
    _decades: Counter[int] = field(default_factory=Counter)
    _equal: int = 0

    @property
    def mean_absolute(self) -> float:
        """The mean of `|a - b|` over all values; infinite ones are left out."""
        return self.sum_absolute / self.values if self.values else 0.0

    @property
    def outside_share(self) -> float:
        """Share of the values that are outside the tolerance, from 0 to 1."""
        return self.outside / self.values if self.values else 0.0

    @property
    def passed(self) -> bool:
        return not self.outside and not self.problem

    def add(self, a: Tensor, b: Tensor, limit: Tolerance) -> None:
        """Takes the answers to some inputs into account."""
        if a.datatype != b.datatype:
            self.problem = self.problem or f"is {b.datatype} instead of {a.datatype}"
            return
        if a.shape != b.shape:
            self.problem = self.problem or f"has shape {list(b.shape)} instead of {list(a.shape)}"
            return
        absolute, outside = distances(b, a, limit)
        finite = absolute[np.isfinite(absolute)]
        self.values += absolute.size
        self.outside += int(outside.sum())
        self.max_absolute = max(self.max_absolute, float(absolute.max(initial=0.0)))
        self.sum_absolute += float(finite.sum())
        if a.array.dtype.kind in "biuO" and a.datatype != "BF16":
            self.flips = (self.flips or 0) + int(outside.sum())
            return
        apart = absolute[absolute > 0]
        self._equal += absolute.size - apart.size
        with np.errstate(over="ignore"):
            decades = np.clip(np.floor(np.log10(apart)), _SMALLEST, _LARGEST).astype(int)
        self._decades.update(decades.tolist())

    def histogram(self) -> list[tuple[float, float, int]]:
        """From, up to (not with), and how many values are so far apart, a decade each; first those that are equal.

        Empty for integers and strings.
        """
        if self.flips is not None or not self.values:
            return []
        steps = [(0.0, 0.0, self._equal)]
        if self._decades:
            decades = range(min(self._decades), max(self._decades) + 1)
            steps += [(10.0**decade, _end(decade), self._decades[decade]) for decade in decades]
        return steps


def _end(decade: int) -> float:
    return math.inf if decade == _LARGEST else 10.0 ** (decade + 1)


@dataclass(slots=True)
class Differences:
    """The differences of all outputs of all signatures, by signature and output.

    Attributes:
        tolerance: How far numbers may be apart, by datatype.
        outputs: What was found.
        calls: How many calls were compared.
    """

    tolerance: Mapping[str, Tolerance]
    outputs: dict[tuple[str, str], OutputDifference] = field(default_factory=dict)
    calls: int = 0

    @property
    def passed(self) -> bool:
        """Whether something was compared, and all of it agrees."""
        return self.calls > 0 and all(each.passed for each in self.outputs.values())

    def add(self, signature: str, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
        """Compares the answers of two versions, a and b, to the same inputs."""
        self.calls += 1
        for name in {**a, **b}:
            known = a.get(name) or b[name]
            found = self.outputs.setdefault((signature, name), OutputDifference(name, known.datatype))
            if name in a and name in b:
                found.add(a[name], b[name], tolerance_of(a[name].datatype, self.tolerance))
            else:
                found.problem = f"is given by the {'first' if name in a else 'second'} version alone"
