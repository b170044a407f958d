"""The trees of scikit-learn's HistGradientBoosting, which skl2onnx writes wrongly or not at all.

Source: `sklearn/ensemble/_hist_gradient_boosting/{predictor,_predictor,common}.py*` of scikit-learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from servable.convert.trees import Forest, Leaf, Split, Tree

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LINKS = {"LogitLink": "sigmoid", "MultinomialLogit": "softmax", "LogLink": "exp"}
_BITS = 32


def hist_forest(model: Any) -> Forest:
    """Reads the trees of a fitted HistGradientBoostingClassifier or HistGradientBoostingRegressor.

    Its features are in an order of their own where it has categories: see `hist_columns`.
    """
    columns, encoder = hist_columns(model)
    base = np.ravel(model._baseline_prediction)  # noqa: SLF001  # scikit-learn shows its trees nowhere else
    trees = [
        _tree(predictor, columns, target)
        for iteration in model._predictors  # noqa: SLF001
        for target, predictor in enumerate(iteration)
    ]
    link = _LINKS.get(type(model._loss.link).__name__, "identity")  # noqa: SLF001
    categories = {} if encoder is None else dict(zip(columns, map(_known, encoder.categories_), strict=False))
    return Forest(trees, tuple(map(float, base)), link, categories=categories)


def hist_columns(model: Any) -> tuple[list[int], Any]:
    """For each feature of the trees the column that it is, and what numbers the categories, which come first."""
    preprocessor = getattr(model, "_preprocessor", None)
    if preprocessor is None:
        return list(range(model.n_features_in_)), None
    categorical = np.flatnonzero(model.is_categorical_).tolist()
    numeric = np.flatnonzero(~np.asarray(model.is_categorical_)).tolist()
    return categorical + numeric, preprocessor.named_transformers_["encoder"]


def _known(categories: NDArray[Any]) -> list[Any]:
    # A missing value is the last category where there was one in training; the encoder numbers it NaN all the same.
    return [each for each in categories.tolist() if each is not None and each == each]  # noqa: PLR0124  # NaN


def _tree(predictor: Any, columns: list[int], target: int) -> Tree:
    nodes: Tree = []
    for node in predictor.nodes:
        if node["is_leaf"]:
            nodes.append(Leaf({target: float(node["value"])}))
            continue
        feature, left, right = columns[node["feature_idx"]], int(node["left"]), int(node["right"])
        missing = bool(node["missing_go_to_left"])
        if node["is_categorical"]:
            words = predictor.raw_left_cat_bitsets[node["bitset_idx"]].tolist()
            members = [i for i in range(len(words) * _BITS) if words[i // _BITS] >> (i % _BITS) & 1]
            nodes.append(Split(feature, left, right, categories=tuple(members), missing=missing))
        else:
            nodes.append(Split(feature, left, right, threshold=float(node["num_threshold"]), missing=missing))
    return nodes
