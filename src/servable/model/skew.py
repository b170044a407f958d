"""Skew: how far the inputs that come are from those that a version was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from servable.model.statistics import Feature

MIN_REFERENCE_ROWS = 100
"""Statistics of fewer rows say too little to compare with."""

MIN_LIVE_ROWS = 300
"""Fewer rows of requests say too little to be compared."""

_SMOOTHING = 0.5


def population_stability_index(expected: ArrayLike, actual: ArrayLike) -> float:
    """The population stability index (PSI) of two histograms over the same bins.

    `PSI = sum over bins of (a - e) * ln(a / e)`, e and a being the shares of a bin. By custom under 0.1 is no shift,
    over 0.2 (or 0.25) a considerable one. Source: N. Siddiqi, Credit Risk Scorecards, Wiley 2006.

    Empty bins would make it infinite: half a value is added to every bin of both before shares are taken. A bin that is
    empty in both is left out.

    Args:
        expected: Values in each bin of the reference.
        actual: Values in each bin of what is compared with it.

    Example:
        >>> population_stability_index([100, 100], [100, 100])
        0.0
        >>> round(population_stability_index([900, 100], [100, 900]), 2)
        3.5
    """
    e, a = np.asarray(expected, np.float64), np.asarray(actual, np.float64)
    used = (e > 0) | (a > 0)
    if not used.any():
        return 0.0
    e, a = e[used] + _SMOOTHING, a[used] + _SMOOTHING
    e, a = e / e.sum(), a / a.sum()
    return max(float(((a - e) * np.log(a / e)).sum()), 0.0)


def psi_by_chance(bins: int, expected_rows: int, actual_rows: int) -> float:
    """The PSI to expect of two samples of the same population: `(bins - 1) * (1/n + 1/m)`.

    It is about chi-square distributed with `bins - 1` degrees of freedom, times `1/n + 1/m`. Source: B. Yurdakul,
    Statistical Properties of Population Stability Index, Western Michigan University 2018.
    """
    return (bins - 1) * (1 / max(expected_rows, 1) + 1 / max(actual_rows, 1))


def feature_psi(feature: Feature, counts: Sequence[int], missing: int) -> float:
    """The PSI of what came against the statistics of a feature. That a value is missing is a bin like the others."""
    return population_stability_index([*feature.counts, feature.missing], [*counts, missing])


def is_skewed(feature: Feature, psi: float, reference_rows: int, live_rows: int, threshold: float) -> bool:
    """Whether a PSI is over the threshold by more than chance alone would give."""
    return psi - psi_by_chance(len(feature.counts) + 1, reference_rows, live_rows) > threshold
