"""The trees of a LightGBM model.

Source: `Booster.dump_model` and `include/LightGBM/tree.h` of LightGBM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servable.convert.trees import Forest, Leaf, Split, Tree
from servable.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Collection

_LINKS = {
    "multiclass": "softmax",
    "poisson": "exp",
    "gamma": "exp",
    "tweedie": "exp",
    "binary": "sigmoid",
    "multiclassova": "sigmoid",
    "cross_entropy": "sigmoid",
    "cross_entropy_lambda": "log1pexp",
}


def lightgbm_forest(booster: Any, category_columns: Collection[int] = ()) -> Forest:
    """Reads the trees of a Booster, up to its best iteration where it has one.

    Args:
        booster: A fitted `lightgbm.Booster`.
        category_columns: Positions of the columns that are categories of pandas.

    Raises:
        ConversionError: Its leaves hold linear models, or it knows other categories than the examples have.
    """
    dump = booster.dump_model()
    width = dump["num_tree_per_iteration"]
    count = max(len(dump["tree_info"]) // width, 1)
    name, factor, root = _objective(dump.get("objective", ""))
    # What is averaged is divided here; the factor of the logistic function is multiplied here.
    scale = (factor if _LINKS.get(name) == "sigmoid" else 1.0) / (count if dump["average_output"] else 1)
    trees = [_tree(info["tree_structure"], number % width, scale) for number, info in enumerate(dump["tree_info"])]
    link = "signed_square" if root else _LINKS.get(name, "identity")
    names = booster.pandas_categorical or []
    if len(names) != len(category_columns):
        raise ConversionError(
            f"LightGBM was trained on {len(names)} columns of the dtype category, and gets {len(category_columns)}",
            hint="give a DataFrame with the dtypes of training as examples, or encode the categories before the trees",
        )
    return Forest(
        trees,
        (0.0,) * width,
        link,
        zero_is_missing=frozenset().union(*(_zero_is_missing(info["tree_structure"]) for info in dump["tree_info"])),
        categories=dict(zip(category_columns, names, strict=True)),
    )


def _objective(told: str) -> tuple[str, float, bool]:
    """Name, factor of the logistic function, and whether targets were square roots: `binary sigmoid:1`."""
    name, *rest = told.split() or [""]
    factor = next((float(word.split(":")[1]) for word in rest if word.startswith("sigmoid:")), 1.0)
    return name, factor, "sqrt" in rest


def _zero_is_missing(root: dict[str, Any]) -> set[int]:
    """The features of which LightGBM takes zeros for missing; it is the same in all of a feature's splits."""
    splits = [node for node in _nodes(root) if "split_feature" in node]
    return {node["split_feature"] for node in splits if node["missing_type"] == "Zero"}


def _nodes(root: dict[str, Any]) -> list[dict[str, Any]]:
    """All nodes, level by level: deep trees need no deep stack. Children lie in the order in which parents do."""
    order = [root]  # grows while it is walked through
    for node in order:
        if "split_feature" in node:
            order += [node["left_child"], node["right_child"]]
    return order


def _tree(root: dict[str, Any], target: int, scale: float) -> Tree:
    nodes: Tree = []
    free = 1  # number of the next child
    for node in _nodes(root):
        if "split_feature" in node:
            nodes.append(_split(node, free, free + 1))
            free += 2
            continue
        if node.get("leaf_features"):
            raise ConversionError(
                "LightGBM's linear trees have no equivalent in ONNX", hint="train with linear_tree=False"
            )
        nodes.append(Leaf({target: node["leaf_value"] * scale}))
    return nodes


def _split(node: dict[str, Any], yes: int, no: int) -> Split:
    feature, missing = node["split_feature"], node["missing_type"]
    if node["decision_type"] == "==":
        categories = tuple(int(each) for each in str(node["threshold"]).split("||"))
        return Split(feature, yes, no, categories=categories)  # NaN is in no set
    threshold = float(node["threshold"])
    # Without a type of missing values NaN is taken for 0.
    to_yes = threshold >= 0 if missing == "None" else bool(node["default_left"])
    return Split(feature, yes, no, threshold=threshold, missing=to_yes)
