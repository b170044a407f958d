"""Decision trees, of whichever framework, as one TreeEnsembleRegressor of ONNX.

Source: https://github.com/onnx/onnx/blob/main/docs/Operators-ml.md, `ai.onnx.ml.TreeEnsembleRegressor`, version 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LARGEST_CATEGORY = 1 << 24  # from there on float32 cannot tell integers apart
LESS, LESS_OR_EQUAL = "BRANCH_LT", "BRANCH_LEQ"
_EQUAL, _LEAF = "BRANCH_EQ", "LEAF"


@dataclass(frozen=True)
class Split:
    """A question about one feature; nodes are told by their position in the tree.

    Attributes:
        feature: Which column.
        yes: The node to go on with where the answer is yes.
        no: The node to go on with else.
        comparison: `LESS` or `LESS_OR_EQUAL`: how the feature is compared with the threshold.
        threshold: What it is compared with.
        categories: Instead of the two: yes where the feature is one of these numbers.
        missing: Whether NaN is a yes.
    """

    feature: int
    yes: int
    no: int
    comparison: str = LESS_OR_EQUAL
    threshold: float = 0.0
    categories: tuple[int, ...] | None = None
    missing: bool = False


@dataclass(frozen=True)
class Leaf:
    """What a tree adds: a weight for each target."""

    weights: dict[int, float]


Tree = list[Split | Leaf]
"""The first node is the root. No node has two parents."""


@dataclass(frozen=True)
class Forest:
    """Trees whose leaves are summed up.

    Attributes:
        trees: The trees.
        base: For each target, what the sum begins with.
        link: What is done to the sums, see `tree_outputs`: `identity`, `sigmoid`, `softmax`, `exp`, ...
        single: Whether numbers are cast to float32 before they are compared, as the framework does it.
        missing: A number that stands for a missing value, beside NaN.
        zero_is_missing: The features whose zeros stand for missing values as well.
        categories: For columns that hold names or other values in place of numbers: what the numbers stand for.
    """

    trees: list[Tree]
    base: tuple[float, ...]
    link: str = "identity"
    single: bool = False
    missing: float = float("nan")
    zero_is_missing: frozenset[int] = frozenset()
    categories: dict[int, list[Any]] = field(default_factory=dict)

    @property
    def targets(self) -> int:
        return len(self.base)


@dataclass(frozen=True)
class _Row:
    """One node as ONNX has it."""

    tree: int
    node: int
    mode: str
    feature: int = 0
    value: float = 0.0
    yes: int = 0
    no: int = 0
    missing: bool = False


def ensemble_attributes(forest: Forest, *, double: bool) -> dict[str, Any]:
    """The attributes of a TreeEnsembleRegressor.

    Thresholds that float32 has not are rounded down: a float32 is at most the one where it is at most the other.

    Args:
        forest: The trees.
        double: Whether features are float64.

    Raises:
        ConversionError: A category is too large a number.
    """
    from onnx import helper

    trees = forest.trees or [[Leaf({0: 0.0})]]
    rows = [row for number, tree in enumerate(trees) for row in _rows(number, tree)]
    leaves = [
        (number, node, target, weight)
        for number, tree in enumerate(trees)
        for node, leaf in enumerate(tree)
        if isinstance(leaf, Leaf)
        for target, weight in leaf.weights.items()
    ]
    values = [row.value if double else _rounded(row) for row in rows]
    weights = [weight for *_, weight in leaves]
    attributes: dict[str, Any] = {
        "n_targets": forest.targets,
        "nodes_treeids": [row.tree for row in rows],
        "nodes_nodeids": [row.node for row in rows],
        "nodes_modes": [row.mode for row in rows],
        "nodes_featureids": [row.feature for row in rows],
        "nodes_truenodeids": [row.yes for row in rows],
        "nodes_falsenodeids": [row.no for row in rows],
        "nodes_missing_value_tracks_true": [int(row.missing) for row in rows],
        "target_treeids": [leaf[0] for leaf in leaves],
        "target_nodeids": [leaf[1] for leaf in leaves],
        "target_ids": [leaf[2] for leaf in leaves],
    }
    numbers = {"nodes_values": values, "target_weights": weights, "base_values": list(forest.base)}
    if not double:
        return attributes | numbers
    as_tensors = {
        f"{name}_as_tensor": helper.make_tensor(name, helper.np_dtype_to_tensor_dtype(np.dtype(float)), [len(of)], of)
        for name, of in numbers.items()
    }
    return attributes | as_tensors


def _rounded(row: _Row) -> float:
    with np.errstate(over="ignore"):
        value = np.float32(row.value)
    if row.mode == LESS_OR_EQUAL and float(value) > row.value:
        value = np.nextafter(value, np.float32(-np.inf))
    return float(value)


def _rows(number: int, tree: Tree) -> Iterator[_Row]:
    free = len(tree)  # number of the next node that the tree itself has not
    for node, split in enumerate(tree):
        if isinstance(split, Leaf):
            yield _Row(number, node, _LEAF)
            continue
        if split.categories is not None:
            yield from _of_categories(number, node, split, free)
            free += max(len(split.categories) - 1, 0)
            continue
        yield _Row(number, node, split.comparison, split.feature, split.threshold, split.yes, split.no, split.missing)


def _of_categories(number: int, node: int, split: Split, free: int) -> Iterator[_Row]:
    """ONNX asks for one category at a time: a chain of questions whose yes is one and the same node."""
    categories: Sequence[int] = split.categories or (-1,)
    if max(categories) >= _LARGEST_CATEGORY:
        raise ConversionError(f"Category {max(categories)} is too large a number", hint="number categories from 0")
    nodes = [node, *range(free, free + len(categories) - 1)]
    for position, category in enumerate(categories):
        after = nodes[position + 1] if position + 1 < len(nodes) else split.no
        yield _Row(number, nodes[position], _EQUAL, split.feature, float(category), split.yes, after, split.missing)
