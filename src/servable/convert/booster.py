"""Makes a version of a Booster of XGBoost or LightGBM, by way of ONNX. Their estimators are those of `sklearn`."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from servable.convert import sklearn
from servable.errors import ConversionError

if TYPE_CHECKING:
    from servable.convert.conversion import Conversion
    from servable.convert.draft import Draft


def takes(model: object) -> bool:
    """Whether it is a Booster; without importing anything."""
    kinds = (getattr(sys.modules.get(name), "Booster", None) for name in ("xgboost", "lightgbm"))
    return any(kind is not None and isinstance(model, kind) for kind in kinds)


def convert(conversion: Conversion) -> Draft:
    """Writes a Booster as `model.onnx`, with its own answers, as `predictions`.

    Args:
        conversion: Its model is a fitted Booster; its examples are columns, or an array of two dimensions: no DMatrix
            and no Dataset.

    Raises:
        ConversionError: See `servable.convert.sklearn.convert`; and where scikit-learn is not installed.
    """
    try:
        from servable.convert.booster_estimator import BoosterEstimator
    except ImportError as error:
        raise ConversionError(
            f"{error.name} is needed to save a Booster", hint='pip install "servable[sklearn]"'
        ) from error
    return sklearn.convert(replace(conversion, model=BoosterEstimator(conversion.model)))
