"""Feature statistics in a manifest: to JSON and back, every limit checked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from servable.errors import ManifestError
from servable.model.statistics import MAX_CATEGORIES, MAX_FEATURES, Feature, SignatureStatistics

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_SIGNATURES = 64
_MAX_EDGES = 16
_MAX_COUNT = 1 << 53  # what a float64 still counts


def statistics_to_json(statistics: Mapping[str, SignatureStatistics]) -> dict[str, Any]:
    """By signature: `{"rows": ..., "features": [...]}`; what a feature has not is left out."""
    return {
        name: {"rows": each.rows, "features": [_feature_to_json(feature) for feature in each.features]}
        for name, each in statistics.items()
    }


def _feature_to_json(feature: Feature) -> dict[str, Any]:
    return {name: value for name, value in vars(feature).items() if value is not None and value != ()}


def statistics_from_json(data: Mapping[str, Any]) -> dict[str, SignatureStatistics]:
    """Reads what `statistics_to_json` gives.

    Raises:
        ManifestError: It has another form, or is over a limit.
    """
    if len(data) > _MAX_SIGNATURES:
        raise ManifestError(f"'statistics' are of more than {_MAX_SIGNATURES} signatures")
    read = {}
    for name, each in data.items():
        match each:
            case {"rows": int(rows), "features": list(features)} if (
                0 <= rows <= _MAX_COUNT and len(features) <= MAX_FEATURES
            ):
                read[name] = SignatureStatistics(rows, tuple(_feature(feature, name) for feature in features))
            case _:
                raise ManifestError(f"The statistics of '{name}' need 'rows' and at most {MAX_FEATURES} 'features'")
    return read


def _feature(data: Any, signature: str) -> Feature:
    match data:
        case {"input": str(name), "count": int(count), "missing": int(missing), "counts": list(counts)}:
            edges, categories = data.get("edges", []), data.get("categories", [])
            quantiles, column = data.get("quantiles", []), data.get("column")
            moments = [data.get(key) for key in ("mean", "deviation", "minimum", "maximum")]
            good = (
                all(type(number) is int and 0 <= number <= _MAX_COUNT for number in (count, missing, *counts))
                and (column is None or (type(column) is int and column >= 0))
                and _numbers(edges, _MAX_EDGES)
                and edges == sorted(edges)
                and _numbers(quantiles, _MAX_EDGES)
                and _numbers([moment for moment in moments if moment is not None], len(moments))
                and _categories(categories)
                and len(counts) == (len(categories) or len(edges)) + 1
            )
            if good:
                found = (tuple(counts), tuple(edges), tuple(categories), *moments, tuple(quantiles))
                return Feature(name, column, count, missing, *found)
    raise ManifestError(f"The statistics of '{signature}' hold a feature that cannot be read")


def _numbers(values: Any, most: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= most
        and all(type(value) in (int, float) and _is_finite(value) for value in values)
    )


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _categories(values: Any) -> bool:
    return (
        isinstance(values, list) and len(values) <= MAX_CATEGORIES and all(isinstance(value, str) for value in values)
    ) or _numbers(values, MAX_CATEGORIES)
