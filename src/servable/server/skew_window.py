"""The last rows of live inputs that were looked at, counted into the bins of the training.

The window is the last 10,000 rows, in ten blocks: the oldest block goes when a new one begins.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from servable.model.skew import MIN_LIVE_ROWS, feature_psi, is_skewed
from servable.model.statistics import Bins, feature_values, present_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from servable.model.statistics import Feature, SignatureStatistics
    from servable.wire.tensors import Tensor

BLOCK_ROWS = 1_000
BLOCKS = 10
# A feature whose warning was given counts as skewed until it is well below the threshold, or it would come and go.
_CALM = 0.8


@dataclass(frozen=True, slots=True)
class Finding:
    """How one feature of live inputs compares with training.

    Attributes:
        feature: Its statistics in training.
        psi: The population stability index of the window.
        missing_ratio: Share of the values in the window that are missing.
        skewed: Whether it is over the threshold.
    """

    feature: Feature
    psi: float
    missing_ratio: float
    skewed: bool


class Window:
    """The last rows of one signature, counted into the bins of its statistics."""

    def __init__(self, reference: SignatureStatistics) -> None:
        self._reference = reference
        self._bins = [Bins(feature.edges, feature.categories) for feature in reference.features]
        sizes = [len(feature.counts) + 1 for feature in reference.features]
        self._ends = np.cumsum(sizes)
        self._blocks: deque[NDArray[np.int64]] = deque(maxlen=BLOCKS)
        self._block_rows: deque[int] = deque(maxlen=BLOCKS)
        self._found: list[Finding] = []
        self._is_counted = True

    @property
    def rows(self) -> int:
        """How many rows are in it."""
        return sum(self._block_rows)

    def add(self, inputs: Mapping[str, Tensor]) -> None:
        """Counts rows; inputs without statistics, and columns that there were none of, are passed over."""
        if not self._blocks or self._block_rows[-1] >= BLOCK_ROWS:
            self._blocks.append(np.zeros(int(self._ends[-1]), np.int64))
            self._block_rows.append(0)
        block = self._blocks[-1]
        self._is_counted = False
        self._block_rows[-1] += max((tensor.shape[0] if tensor.shape else 1 for tensor in inputs.values()), default=0)
        for feature, bins, end in zip(self._reference.features, self._bins, self._ends, strict=True):
            if feature.input in inputs:
                values, missing = present_values(feature_values(inputs[feature.input], feature.column))
                block[end - len(feature.counts) - 1 : end - 1] += bins.count(values)
                block[end - 1] += missing

    def findings(self, threshold: float) -> list[Finding]:
        """One for each feature; none before there are 300 rows."""
        if self._is_counted or self.rows < MIN_LIVE_ROWS:
            return self._found
        skewed = [each.skewed for each in self._found] or [False] * len(self._bins)
        total = np.sum(self._blocks, axis=0)
        parts = np.split(total, self._ends[:-1])
        self._found = [
            self._finding(feature, counts.tolist(), threshold * (_CALM if was_skewed else 1.0))
            for feature, counts, was_skewed in zip(self._reference.features, parts, skewed, strict=True)
        ]
        self._is_counted = True
        return self._found

    def _finding(self, feature: Feature, counts: Sequence[int], threshold: float) -> Finding:
        *present, missing = counts
        psi = feature_psi(feature, present, missing)
        skewed = is_skewed(feature, psi, self._reference.rows, self.rows, threshold)
        return Finding(feature, psi, missing / max(sum(counts), 1), skewed)
