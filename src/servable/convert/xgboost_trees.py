"""The trees of an XGBoost model.

Source: https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html and `src/tree/regtree.h` of XGBoost.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.convert.trees import LESS, Forest, Leaf, Split
from servable.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# What an objective does to the sum of the leaves, and how the base score, which is given in terms of the answer,
# becomes a part of that sum.
_LINKS = {
    "binary:logistic": "sigmoid",
    "reg:logistic": "sigmoid",
    "multi:softprob": "softmax",
    "multi:softmax": "argmax",
    "binary:hinge": "step",
    "count:poisson": "exp",
    "reg:gamma": "exp",
    "reg:tweedie": "exp",
    "survival:cox": "exp",
    "survival:aft": "exp",
}
_TO_MARGIN: dict[str, Callable[[float], float]] = {
    "sigmoid": lambda score: math.log(score / (1 - score)),
    "exp": math.log,
}


def xgboost_forest(
    booster: Any,
    names: Mapping[int, Sequence[Any]],
    iterations: int | None = None,
    missing: float = float("nan"),
) -> Forest:
    """Reads the trees of a Booster.

    Args:
        booster: A fitted `xgboost.Booster`.
        names: By column, the categories of the examples' own dtype.
        iterations: How many rounds of boosting count; None for all.
        missing: A number that stands for a missing value.

    Raises:
        ConversionError: It is no model of trees, or the names of its categories are lost.
    """
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    boosting = learner["gradient_booster"]
    if boosting["name"] not in ("gbtree", "dart"):
        raise ConversionError(
            f"XGBoost's booster={boosting['name']!r} has no trees to write",
            hint='train with booster="gbtree", or a linear model of scikit-learn',
        )
    drop = boosting.get("weight_drop")
    model = boosting["gbtree"]["model"] if boosting["name"] == "dart" else boosting["model"]
    link = _LINKS.get(learner["objective"]["name"], "identity")
    base = _base(learner["learner_model_param"], link)
    count = len(model["trees"]) if iterations is None else model["iteration_indptr"][iterations]
    trees = [
        list(_nodes(tree, target, 1.0 if drop is None else drop[number]))
        for number, (tree, target) in enumerate(zip(model["trees"][:count], model["tree_info"], strict=False))
    ]
    return Forest(trees, base, link, single=True, missing=missing, categories=_categories(model.get("cats"), names))


def _base(parameters: dict[str, str], link: str) -> tuple[float, ...]:
    targets = max(int(parameters["num_class"]), int(parameters.get("num_target", 1)), 1)
    told = json.loads(parameters["base_score"])
    scores = [float(score) for score in (told if isinstance(told, list) else [told])]
    if len(scores) == 1:
        scores *= targets
    return tuple(_TO_MARGIN.get(link, float)(score) for score in scores)


def _nodes(tree: dict[str, Any], target: int, factor: float) -> Iterator[Split | Leaf]:
    sets = _category_sets(tree)
    width = int(tree["tree_param"]["size_leaf_vector"])
    for node, left in enumerate(tree["left_children"]):
        right, value = tree["right_children"][node], tree["split_conditions"][node]
        if left == -1 and width > 1:
            weights = tree["leaf_weights"][right * width : (right + 1) * width]
            yield Leaf({index: weight * factor for index, weight in enumerate(weights)})
        elif left == -1:
            yield Leaf({target: value * factor})
        elif tree["split_type"][node] == 1:
            # Those in the set go right. Whatever else there is, goes left.
            to_right = not tree["default_left"][node]
            yield Split(tree["split_indices"][node], right, left, categories=sets[node], missing=to_right)
        else:
            to_left = bool(tree["default_left"][node])
            yield Split(tree["split_indices"][node], left, right, LESS, value, missing=to_left)


def _category_sets(tree: dict[str, Any]) -> dict[int, tuple[int, ...]]:
    parts = zip(tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True)
    return {node: tuple(tree["categories"][start : start + size]) for node, start, size in parts}


def _categories(cats: dict[str, Any] | None, names: Mapping[int, Sequence[Any]]) -> dict[int, list[Any]]:
    """What the numbers of categories stand for, by feature. Names are one string of bytes with offsets."""
    found: dict[int, list[Any]] = {}
    for feature, encoded in enumerate((cats or {}).get("enc", ())):
        values, offsets = encoded.get("values", ()), encoded.get("offsets")
        if offsets is None:
            found[feature] = list(values)
        elif offsets:
            octets = np.array(values, np.int16).astype(np.uint8).tobytes()
            found[feature] = _names(octets, offsets, names.get(feature, ()))
    return {feature: values for feature, values in found.items() if values}


def _names(octets: bytes, offsets: Sequence[int], names: Sequence[Any]) -> list[str]:
    """The names of categories.

    XGBoost counts characters where it should count bytes, so that from the first letter on that is not ASCII its names
    are cut in the wrong places. The examples' own dtype then has the right ones, where XGBoost would cut them the same.
    """
    if octets.isascii():
        return [octets[start:end].decode() for start, end in pairwise(offsets)]
    joined = "".join(map(str, names))
    same = [len(str(name)) for name in names] == [end - start for start, end in pairwise(offsets)]
    if same and joined.encode()[: len(octets)] == octets:
        return [str(name) for name in names]
    raise ConversionError(
        "XGBoost does not keep the names of categories that are not ASCII",
        hint="give a DataFrame with the dtypes of training as examples, or rename the categories",
    )
