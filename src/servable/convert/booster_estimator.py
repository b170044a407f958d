"""XGBoost's and LightGBM's own Boosters with the interface of scikit-learn. Imports scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator

if TYPE_CHECKING:
    from numpy.typing import NDArray


class BoosterEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A fitted Booster that answers as an estimator does.

    Attributes:
        servable_booster: The Booster.
        feature_names_in_: The names of its columns, where it was trained on a table.
    """

    def __init__(self, servable_booster: Any) -> None:
        self.servable_booster = servable_booster
        names = list(self._feature_names())
        if names:
            self.feature_names_in_ = names

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, value: Any, target: Any = None) -> BoosterEstimator:  # noqa: ARG002
        """Nothing: it is fitted. A pipeline takes only what has this method."""
        return self

    def predict(self, value: Any) -> NDArray[Any]:
        """What the Booster's own `predict` gives for an array or a DataFrame."""
        booster = self.servable_booster
        if not _is_xgboost(booster):
            answer: NDArray[Any] = booster.predict(value)
            return answer
        import xgboost

        # A table says itself which of its columns are categories.
        types = None if hasattr(value, "columns") else booster.feature_types
        names = None if hasattr(value, "columns") else booster.feature_names
        matrix = xgboost.DMatrix(value, feature_names=names, feature_types=types, enable_categorical=True)
        predicted: NDArray[Any] = booster.predict(matrix)
        return predicted

    def _feature_names(self) -> list[str]:
        booster = self.servable_booster
        return list((booster.feature_names if _is_xgboost(booster) else booster.feature_name()) or ())


def _is_xgboost(booster: object) -> bool:
    return type(booster).__module__.startswith("xgboost")
