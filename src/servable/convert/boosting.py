"""Models of boosted trees for skl2onnx: XGBoost, LightGBM, and scikit-learn's HistGradientBoosting.

Their trees are read from the models themselves and written as one TreeEnsembleRegressor, so that missing values,
categories, early stopping and base scores are those of the framework. They may stand alone, or be a step of a pipeline.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.convert.graph_nodes import Nodes, is_double, is_text
from servable.convert.hist_trees import hist_forest
from servable.convert.lightgbm_trees import lightgbm_forest
from servable.convert.skl2onnx_registry import alias_of, registered
from servable.convert.trees import Forest, ensemble_attributes
from servable.convert.xgboost_trees import xgboost_forest
from servable.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

# What LightGBM takes for zero: `kZeroThreshold` in include/LightGBM/meta.h.
_ZERO = float(np.float32(1e-35))
# Package and base class -> whose trees they are.
_FAMILIES = {
    ("xgboost", "XGBModel"): "xgboost",
    ("lightgbm", "LGBMModel"): "lightgbm",
    ("sklearn", "HistGradientBoostingClassifier"): "hist",
    ("sklearn", "HistGradientBoostingRegressor"): "hist",
}


def is_boosting(model: object) -> bool:
    """Whether it is a model of boosted trees that has scikit-learn's interface; imports nothing for that."""
    return _family(model) is not None


def boosting_packages(parts: Iterable[object]) -> set[str]:
    """The packages of the models of boosted trees among these, by every name that they are installed under."""
    names = {"xgboost": {"xgboost", "xgboost-cpu"}, "lightgbm": {"lightgbm"}}
    return set().union(*(names.get(_family(part) or "", set()) for part in parts))


def _family(model: object) -> str | None:
    if hasattr(model, "servable_booster"):
        return type(model.servable_booster).__module__.split(".")[0]
    bases = ((base.__module__.split(".")[0], base.__name__) for base in type(model).__mro__)
    return next((_FAMILIES[base] for base in bases if base in _FAMILIES), None)


@contextmanager
def boosting_known(
    parts: Iterable[object], names: Mapping[int, Sequence[Any]], *, nested: bool = False
) -> Iterator[None]:
    """Has skl2onnx write boosted trees as they are written here, meanwhile.

    What a program registered for these types by itself, like the converters of onnxmltools, is there again afterwards.

    Args:
        parts: The estimators that a model consists of, at any depth.
        names: By position, the categories of those columns of the examples that are categories of pandas.
        nested: Whether another model goes on with what the trees give, and wants it in the type of its own inputs.
    """
    kinds = {type(part) for part in parts if is_boosting(part)}

    def convert(scope: Any, operator: Any, container: Any) -> None:
        forest = _forest(operator.raw_operator, names)
        raw = container.get_options(operator.raw_operator, {"raw_scores": False}, fail=False) or {}
        link = "identity" if raw.get("raw_scores") else forest.link
        _write(replace(forest, link=link), Nodes(scope, container), operator)

    def shape(operator: Any) -> None:
        _shape(operator, double=_as_double(operator, nested=nested))

    with ExitStack() as stack:
        for kind in kinds:
            # Only where decision_function is another thing than the probabilities is it asked for.
            raw = hasattr(kind, "decision_function")
            stack.enter_context(registered([kind], _parse, shape, convert, raw_scores=raw))
        yield


def _forest(model: Any, names: Mapping[int, Sequence[Any]]) -> Forest:
    booster = getattr(model, "servable_booster", None)
    match _family(model):
        case "hist":
            return hist_forest(model)
        case "lightgbm":
            return lightgbm_forest(model.booster_ if booster is None else booster, names)
    if booster is not None:
        return xgboost_forest(booster, names)
    best = getattr(model, "best_iteration", None)
    return xgboost_forest(model.get_booster(), names, None if best is None else best + 1, float(model.missing))


def _is_classifier(model: Any) -> bool:
    return hasattr(model, "predict_proba")


def _parse(scope: Any, model: Any, inputs: list[Any], custom_parsers: object = None) -> list[Any]:  # noqa: ARG001
    """Declares the outputs: label and probabilities, or predictions."""
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType

    operator = scope.declare_local_operator(alias_of(type(model)), model)
    operator.inputs = inputs
    names = ("label", "probabilities") if _is_classifier(model) else ("variable",)
    for name in names:
        kind = Int64TensorType() if name == "label" else FloatTensorType()
        operator.outputs.append(scope.declare_local_variable(name, kind))
    return list(operator.outputs)


def _as_double(operator: Any, *, nested: bool) -> bool:
    return nested and any(map(is_double, operator.inputs))


def _shape(operator: Any, *, double: bool) -> None:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType

    number = DoubleTensorType if double else FloatTensorType
    model, rows = operator.raw_operator, operator.inputs[0].get_first_dimension()
    if not _is_classifier(model):
        operator.outputs[0].type = number([rows, None])
        return
    kind = StringTensorType if _classes(model).dtype.kind == "O" else Int64TensorType
    operator.outputs[0].type = kind([rows])
    operator.outputs[1].type = number([rows, len(model.classes_)])


def _classes(model: Any) -> NDArray[Any]:
    """The labels, as integers or as strings."""
    classes = np.asarray(model.classes_)
    if classes.dtype.kind in "OSUT":
        return np.array([str(each) for each in classes], object)
    if classes.dtype.kind == "f" and not np.array_equal(classes, np.trunc(classes)):
        raise ConversionError(
            f"{type(model).__name__} has labels that are neither integers nor strings",
            hint="train it with the labels' positions",
        )
    return classes.astype(np.int64)


def _write(forest: Forest, nodes: Nodes, operator: Any) -> None:
    model, features = operator.raw_operator, _features(forest, nodes, operator.inputs)
    double = _in_double(forest, operator.inputs)
    sums = nodes.add(
        "TreeEnsembleRegressor",
        [features],
        domain="ai.onnx.ml",
        aggregate_function="SUM",
        post_transform="NONE",
        **ensemble_attributes(forest, double=double),
    )
    if _is_classifier(model):
        _write_classes(forest, nodes, operator, sums)
    else:
        _give(nodes, _linked(forest.link, nodes, sums), operator.outputs[0])


def _write_classes(forest: Forest, nodes: Nodes, operator: Any, sums: str) -> None:
    classes = _classes(operator.raw_operator)
    chances = _linked("softmax" if forest.link == "argmax" else forest.link, nodes, sums)
    if forest.single and forest.link == "sigmoid" and forest.targets > 1:
        raise ConversionError(
            f"{type(operator.raw_operator).__name__} gives several labels for one row", hint="save one model for each"
        )
    if forest.targets == 1:
        chances = nodes.add("Concat", [nodes.add("Sub", [nodes.number(1.0), chances]), chances], axis=1)
    best = nodes.add("ArgMax", [chances], axis=1, keepdims=0)
    nodes.add("Gather", [nodes.constant(classes), best], output=operator.outputs[0].full_name)
    _give(nodes, chances, operator.outputs[1])


def _give(nodes: Nodes, numbers: str, output: Any) -> None:
    """An operator's output, in the type that was declared for it."""
    nodes.add("Identity", [nodes.to_float(numbers, double=is_double(output))], output=output.full_name)


def _linked(link: str, nodes: Nodes, sums: str) -> str:  # noqa: PLR0911  # a table
    """What a model makes of the sums of its leaves, of shape [rows, targets]."""
    match link:
        case "sigmoid" | "exp":
            return nodes.add(link.capitalize(), [sums])
        case "softmax":
            return nodes.add("Softmax", [sums], axis=1)
        case "log1pexp":
            return nodes.add("Softplus", [sums])
        case "signed_square":
            return nodes.add("Mul", [sums, nodes.add("Abs", [sums])])
        case "step":
            return nodes.to_float(nodes.add("Greater", [sums, nodes.number(0.0)]))
        case "argmax":
            return nodes.to_float(nodes.add("ArgMax", [sums], axis=1, keepdims=1))
    return sums


def _in_double(forest: Forest, inputs: list[Any]) -> bool:
    return not forest.single and any(is_double(given) for given in inputs)


def _features(forest: Forest, nodes: Nodes, inputs: list[Any]) -> str:
    """All columns as one table of numbers, in which NaN stands for what is missing."""
    double = _in_double(forest, inputs)
    tables, first = [], 0
    for given in inputs:
        width = given.get_second_dimension()
        encoded = {column - first: values for column, values in forest.categories.items()}
        tables.append(_table(nodes, given, {k: v for k, v in encoded.items() if 0 <= k < width}, double))
        first += width
    table = nodes.concatenated(tables)
    gap = nodes.number(np.nan, double=double)
    if not np.isnan(forest.missing):
        missing = nodes.add("Equal", [table, nodes.number(forest.missing, double=double)])
        table = nodes.add("Where", [missing, gap, table])
    if forest.zero_is_missing:
        limits = [[_ZERO if column in forest.zero_is_missing else -1.0 for column in range(first)]]
        limit = nodes.constant(np.array(limits, np.float64 if double else np.float32))
        missing = nodes.add("LessOrEqual", [nodes.add("Abs", [table]), limit])
        table = nodes.add("Where", [missing, gap, table])
    return table


def _table(nodes: Nodes, given: Any, categories: dict[int, list[Any]], double: bool) -> str:
    if not categories:
        if is_text(given):
            raise ConversionError(
                f"Column '{given.raw_name}' holds strings, and the model has no names of categories",
                hint="train it on a DataFrame whose column has the dtype category, or put a OneHotEncoder first",
            )
        return nodes.to_float(given.full_name, double=double)
    columns = []
    for position in range(given.get_second_dimension()):
        name = nodes.columns(given.full_name, [position])
        if position in categories:
            codes = {category: float(code) for code, category in enumerate(categories[position])}
            name = nodes.encode(given, name, codes, float("nan"))
        columns.append(nodes.to_float(name, double=double))
    return nodes.concatenated(columns)
