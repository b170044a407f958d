"""The skew of a server's versions, read from its metrics page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from servable.cli.metrics_page import samples

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class FeatureSkew:
    """How one feature of live inputs compares with training; see `servable.server.skew`.

    Attributes:
        signature: Name of the signature.
        feature: Its name: `age`, `x[3]`.
        psi: Its population stability index.
        missing_ratio: Share of its values that are missing.
        skewed: Whether it is over the server's threshold.
    """

    signature: str
    feature: str
    psi: float
    missing_ratio: float
    skewed: bool


def skew_of(page: str) -> dict[tuple[str, str], list[FeatureSkew]]:
    """By model and version, the highest index first."""
    missing, skewed = (
        {tuple(sorted(labels.items())): value for labels, value in samples(page, name)}
        for name in ("servable_feature_missing_ratio", "servable_feature_skewed")
    )
    found: dict[tuple[str, str], list[FeatureSkew]] = {}
    for labels, psi in samples(page, "servable_feature_psi"):
        key = tuple(sorted(labels.items()))
        feature = FeatureSkew(
            labels.get("signature", ""),
            labels.get("feature", ""),
            psi,
            missing.get(key, 0.0),
            bool(skewed.get(key)),
        )
        found.setdefault((labels.get("model", ""), labels.get("version", "")), []).append(feature)
    return {key: sorted(features, key=lambda each: -each.psi) for key, features in found.items()}


def skew_note(features: Sequence[FeatureSkew]) -> str:
    """What to tell of them; empty where none is over the threshold.

    Example:
        >>> skew_note([FeatureSkew("serving_default", "age", 0.531, 0.1, True)])
        'skew: age PSI 0.53, 10 % missing'
    """
    skewed = [each for each in features if each.skewed]
    named = [_text(each) for each in skewed[:_MOST_NAMED]]
    more = f" and {len(skewed) - _MOST_NAMED} more" if len(skewed) > _MOST_NAMED else ""
    return f"skew: {'; '.join(named)}{more}" if skewed else ""


def _text(each: FeatureSkew) -> str:
    missing = f", {each.missing_ratio * 100:.2g} % missing" if each.missing_ratio else ""
    return f"{each.feature} PSI {each.psi:.2f}{missing}"
