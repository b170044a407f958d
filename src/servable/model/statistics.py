"""Feature statistics: what the inputs of a version looked like where it was trained.

A feature is an input with one value a row, or one column of an input of `[rows, columns]` with at most 256 columns.
Larger inputs, like images, are one feature each: all their values together.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.model.compare import numbers
from servable.wire.tensors import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from servable.model.golden import GoldenExample
    from servable.model.signatures import TensorSpec

MAX_FEATURES = 512
MAX_COLUMNS = 256
MAX_CATEGORIES = 100
MAX_TEXT = 64
"""Longest text, in characters, that is a category of its own; longer ones are among the others."""

_ROW_VALUES = 4096
_FEW_NUMBERS = 20
_TIMES_SEEN = 5
_GLANCE = 1000
_QUANTILES = 10

Category = str | int | float
Values = list[str] | Any  # texts, or numbers as a float64 array of one dimension


@dataclass(frozen=True)
class Feature:
    """The statistics of one feature.

    Attributes:
        input: Name of the input.
        column: The column of the input, from 0; None where all its values are this feature.
        count: Values that were there.
        missing: Values that were not: NaN, None, an empty text.
        counts: Values in each bin. Bins are the categories and, last, all others; or, of numbers, up to and with each
            of `edges` and, last, all above.
        edges: Of numbers: the different deciles, rising.
        categories: The most frequent values first; of numbers, where there are few different ones.
        mean: Of finite numbers; None for texts, and where there are none.
        deviation: Standard deviation of the population, likewise.
        minimum: Likewise.
        maximum: Likewise.
        quantiles: The minimum, the nine deciles, the maximum; likewise, else empty.
    """

    input: str
    column: int | None
    count: int
    missing: int
    counts: tuple[int, ...]
    edges: tuple[float, ...] = ()
    categories: tuple[Category, ...] = ()
    mean: float | None = None
    deviation: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    quantiles: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """`age`, or `x[3]` for column 3 of `x`."""
        return self.input if self.column is None else f"{self.input}[{self.column}]"

    @property
    def missing_ratio(self) -> float:
        """Share of the values that are missing, from 0 to 1."""
        return self.missing / max(self.count + self.missing, 1)


@dataclass(frozen=True)
class SignatureStatistics:
    """The statistics of all inputs of one signature.

    Attributes:
        rows: How many rows were looked at.
        features: At most 512; inputs of complex numbers have none.
    """

    rows: int
    features: tuple[Feature, ...]


class Bins:
    """Counts values into the bins of a feature."""

    def __init__(self, edges: Sequence[float] = (), categories: Sequence[Category] = ()) -> None:
        self._size = (len(categories) or len(edges)) + 1
        self._edges = np.asarray(edges, np.float64)
        self._places = {category: place for place, category in enumerate(categories)}

    def count(self, values: Values) -> NDArray[np.int64]:
        """How many of the values (see `present_values`) fall into each bin."""
        if self._places:
            return self._count_categories(values)
        if isinstance(values, list):  # texts where numbers were
            return np.bincount([self._size - 1], [len(values)], self._size).astype(np.int64)
        return np.bincount(np.searchsorted(self._edges, values, side="left"), minlength=self._size)

    def _count_categories(self, values: Values) -> NDArray[np.int64]:
        if isinstance(values, list):
            found = Counter(values)
        else:
            different, times = np.unique(values, return_counts=True)
            found = Counter(dict(zip(different.tolist(), times.tolist(), strict=True)))
        counts = np.zeros(self._size, np.int64)
        for value, times_seen in found.items():
            counts[self._places.get(value, self._size - 1)] += times_seen
        return counts


def feature_values(tensor: Tensor, column: int | None) -> NDArray[Any]:
    """The values of a feature in a tensor, flat; none where it has no such column.

    Of a row with many values, like an image, at most 4096 are looked at, evenly spaced.
    """
    array = tensor.array
    if tensor.datatype == "BF16":
        array = numbers(tensor)
    if array.ndim < 2:
        return array.reshape(-1) if column in (None, 0) else array[:0].reshape(-1)
    rows = array.reshape(len(array), -1) if array.size else array.reshape(0, 0)
    if column is None:
        return rows[:, :: max(1, -(-rows.shape[1] // _ROW_VALUES))].reshape(-1)
    return rows[:, column] if column < rows.shape[1] else rows[:0].reshape(-1)


def present_values(values: NDArray[Any]) -> tuple[Values, int]:
    """What is there, as texts or as float64, and how many values are missing."""
    if values.dtype.kind == "O":
        texts = [value.decode(errors="replace") for value in values.tolist() if value]
        return texts, len(values) - len(texts)
    found = values.astype(np.float64)
    there = found[~np.isnan(found)]
    return there, len(found) - len(there)


def describe_tensors(inputs: Iterable[tuple[TensorSpec, Tensor]]) -> SignatureStatistics:
    """The statistics of the inputs of a signature.

    Args:
        inputs: What each input takes, and rows of it. Texts are bytes; b"" stands for a missing one.

    Example:
        >>> from servable.model.signatures import TensorSpec
        >>> ages = Tensor("FP32", np.array([20, 30, np.nan, 40], np.float32))
        >>> [age] = describe_tensors([(TensorSpec("age", "FP32", (-1,)), ages)]).features
        >>> age.mean, age.missing, age.minimum, age.maximum
        (30.0, 1, 20.0, 40.0)
    """
    features: list[Feature] = []
    rows = 0
    for spec, tensor in inputs:
        if spec.datatype.startswith("COMPLEX") or len(features) == MAX_FEATURES:
            continue
        rows = max(rows, tensor.shape[0] if tensor.shape else 1)
        integers = spec.datatype[:2] not in ("FP", "BF")
        for column in _columns(spec, tensor, MAX_FEATURES - len(features)):
            values, missing = present_values(feature_values(tensor, column))
            features.append(_describe(spec.name, column, values, missing, integers=integers))
    return SignatureStatistics(rows, tuple(features))


def _columns(spec: TensorSpec, tensor: Tensor, most: int) -> Sequence[int | None]:
    """The columns that are features of their own; None for all values together."""
    is_table = len(tensor.shape) == 2 and (spec.shape is None or spec.shape[-1] != -1)
    if is_table and 1 < tensor.shape[1] <= min(MAX_COLUMNS, most):
        return range(tensor.shape[1])
    return [None]


def _describe(name: str, column: int | None, values: Values, missing: int, *, integers: bool) -> Feature:
    if isinstance(values, list):
        return _describe_texts(name, column, values, missing)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Feature(name, column, len(values), missing, (len(values),))
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers near the largest there are
        quantiles = tuple(np.quantile(finite, np.linspace(0, 1, _QUANTILES + 1)).tolist())
        mean, deviation = (_finite(float(found)) for found in (finite.mean(), finite.std()))
    categories = _number_categories(values, integers=integers)
    edges = () if categories else _edges(quantiles)
    return Feature(
        name,
        column,
        len(values),
        missing,
        tuple(Bins(edges, categories).count(values).tolist()),
        edges,
        categories,
        mean,
        deviation,
        quantiles[0],
        quantiles[-1],
        quantiles,
    )


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None


def _edges(quantiles: tuple[float, ...]) -> tuple[float, ...]:
    edges = np.unique(quantiles[1:-1]).tolist()
    if edges[0] == quantiles[0]:
        # The lowest value is so frequent that nothing would tell it from what lies below it.
        edges.insert(0, float(np.nextafter(quantiles[0], -np.inf)))
    return tuple(edge for edge in edges if np.isfinite(edge))


def _number_categories(values: NDArray[np.float64], *, integers: bool) -> tuple[Category, ...]:
    """The different numbers, the most frequent first, where they are few enough to be taken for names of classes."""
    few = MAX_CATEGORIES if integers else _FEW_NUMBERS
    if len(np.unique(values[:_GLANCE])) > few:  # spares sorting a million numbers
        return ()
    different, times = np.unique(values, return_counts=True)
    if len(different) > few or len(different) * _TIMES_SEEN > len(values) or not np.isfinite(different).all():
        return ()
    found = different[np.argsort(-times, kind="stable")].tolist()
    return tuple(int(number) for number in found) if integers else tuple(found)


def _describe_texts(name: str, column: int | None, texts: list[str], missing: int) -> Feature:
    short = Counter(text for text in texts if len(text) <= MAX_TEXT)
    categories = tuple(text for text, _ in short.most_common(MAX_CATEGORIES))
    counts = tuple(Bins(categories=categories).count(texts).tolist())
    return Feature(name, column, len(texts), missing, counts, categories=categories)


def describe_examples(
    examples: Iterable[GoldenExample], specs: dict[str, tuple[TensorSpec, ...]]
) -> dict[str, SignatureStatistics]:
    """The statistics of golden examples, by signature. Inputs whose rows differ in shape are passed over.

    Args:
        examples: Whose inputs are looked at.
        specs: The inputs of each signature.
    """
    calls: dict[str, list[GoldenExample]] = {}
    for example in examples:
        calls.setdefault(example.signature, []).append(example)
    return {name: describe_tensors(_joined(found, specs[name])) for name, found in calls.items() if name in specs}


def _joined(calls: list[GoldenExample], specs: tuple[TensorSpec, ...]) -> list[tuple[TensorSpec, Tensor]]:
    joined = []
    for spec in specs:
        tensors = [call.inputs[spec.name] for call in calls if spec.name in call.inputs]
        if len({(tensor.datatype, tensor.shape[1:]) for tensor in tensors}) == 1 and tensors[0].shape:
            joined.append((spec, Tensor(spec.datatype, np.concatenate([tensor.array for tensor in tensors]))))
    return joined
