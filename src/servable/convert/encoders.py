"""scikit-learn's SimpleImputer, OrdinalEncoder and OneHotEncoder for skl2onnx, whose own ones lose missing values.

Its imputer knows no missing strings and no float64; its encoders take a missing value for the string "nan". Here what is
missing is NaN among numbers and '' among strings, as everywhere in a version.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.convert.gaps import MISSING_STRING, is_missing
from servable.convert.graph_nodes import Nodes, is_text
from servable.convert.skl2onnx_registry import alias_of, registered
from servable.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

# One column of one operator: the variable of skl2onnx that it comes from, and the name of its values, [rows, 1].
_Column = tuple[Any, str]


@contextmanager
def encoders_known(*, double: bool) -> Iterator[None]:
    """Has skl2onnx write imputers and encoders as they are written here, meanwhile.

    Args:
        double: Whether numbers are float64.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

    writers = {SimpleImputer: _impute, OrdinalEncoder: _encode_ordinal, OneHotEncoder: _encode_one_hot}
    with ExitStack() as stack:
        for kind, write in writers.items():
            stack.enter_context(registered([kind], _parse, _shape(double=double), _converter(write, double=double)))
        yield


def _parse(scope: Any, model: Any, inputs: list[Any], custom_parsers: object = None) -> list[Any]:  # noqa: ARG001
    operator = scope.declare_local_operator(alias_of(type(model)), model)
    operator.inputs = inputs
    operator.outputs.append(scope.declare_local_variable("encoded", _type(model, inputs, double=False)))
    return list(operator.outputs)


def _type(model: Any, inputs: list[Any], *, double: bool, shape: list[Any] | None = None) -> Any:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    if type(model).__name__ == "SimpleImputer" and any(map(is_text, inputs)):
        return StringTensorType(shape)
    return (DoubleTensorType if double else FloatTensorType)(shape)


def _shape(*, double: bool) -> Callable[[Any], None]:
    def shape(operator: Any) -> None:
        model = operator.raw_operator
        rows, width = operator.inputs[0].get_first_dimension(), len(model.get_feature_names_out())
        operator.outputs[0].type = _type(model, operator.inputs, double=double, shape=[rows, width])

    return shape


def _converter(write: Callable[..., list[str]], *, double: bool) -> Callable[[Any, Any, Any], None]:
    def convert(scope: Any, operator: Any, container: Any) -> None:
        nodes = Nodes(scope, container)
        columns = [column for given in operator.inputs for column in _columns(nodes, given)]
        written = write(operator.raw_operator, nodes, columns, double)
        nodes.add("Concat", written, operator.outputs[0].full_name, axis=1)

    return convert


def _columns(nodes: Nodes, given: Any) -> list[_Column]:
    width = given.get_second_dimension()
    if width == 1:
        return [(given, given.full_name)]
    return [(given, nodes.column(given.full_name, position)) for position in range(width)]


def _impute(model: Any, nodes: Nodes, columns: list[_Column], double: bool) -> list[str]:
    written, masks = [], []
    for (given, name), fill in zip(columns, model.statistics_.tolist(), strict=True):
        value = name if is_text(given) else nodes.to_float(name, double=double)
        mask = _gaps(nodes, given, value, model.missing_values, double)
        masks.append(mask)
        if is_missing(fill):
            if model.keep_empty_features or model.strategy == "constant":
                written.append(value)
            continue  # a column of which nothing was there in training is left out
        filled = nodes.constant(_one(fill, text=is_text(given), double=double))
        written.append(nodes.add("Where", [mask, filled, value]))
    if model.indicator_ is None:
        return written
    if any(is_text(given) for given, _ in columns):
        raise ConversionError(
            "SimpleImputer(add_indicator=True) gives strings and numbers in one table",
            hint="make a MissingIndicator of its own, beside the imputer, in a ColumnTransformer",
        )
    return written + [nodes.to_float(masks[position], double=double) for position in model.indicator_.features_]


def _one(value: Any, *, text: bool, double: bool) -> NDArray[Any]:
    if text:
        return np.array([str(value)], object)
    if isinstance(value, str):
        raise ConversionError(
            f"SimpleImputer fills a column of numbers with the string '{value}'", hint="fill it with a number"
        )
    return np.array([value], np.float64 if double else np.float32)


def _gaps(nodes: Nodes, given: Any, value: str, missing: Any, double: bool) -> str:
    """Which values are missing, as booleans."""
    if is_text(given):
        return nodes.equals_string(value, MISSING_STRING if is_missing(missing) else str(missing))
    if is_missing(missing):
        return nodes.add("IsNaN", [value])
    if isinstance(missing, str):
        raise ConversionError("SimpleImputer looks for a string in a column of numbers", hint="missing_values=np.nan")
    return nodes.add("Equal", [value, nodes.number(missing, double=double)])


def _encode_ordinal(model: Any, nodes: Nodes, columns: list[_Column], double: bool) -> list[str]:
    unknown = np.nan if model.handle_unknown == "error" else float(model.unknown_value)
    written = []
    for position, (given, name) in enumerate(columns):
        codes = _groups(model, position).astype(float).tolist()
        missing = unknown
        if is_missing(model.categories_[position].tolist()[-1]):
            missing = codes[-1] = float(model.encoded_missing_value)
        written.append(_codes(nodes, given, name, model.categories_[position], codes, unknown, missing))
    return [nodes.to_float(code, double=True) if double else code for code in written]


def _encode_one_hot(model: Any, nodes: Nodes, columns: list[_Column], double: bool) -> list[str]:
    written = []
    for position, (given, name) in enumerate(columns):
        groups = _groups(model, position)
        drop = _dropped(model, position)
        # The position among the outputs of this column; -1 is none of them.
        codes = [-1.0 if group == drop else float(group - (drop is not None and group > drop)) for group in groups]
        width = int(groups.max()) + 1 - (drop is not None)
        unknown = -1.0
        if model.handle_unknown in ("infrequent_if_exist", "warn") and _has_infrequent(model, position):
            unknown = float(width - 1)
        missing = codes[-1] if is_missing(model.categories_[position].tolist()[-1]) else unknown
        code = _codes(nodes, given, name, model.categories_[position], codes, unknown, missing)
        if width:
            places = nodes.constant(np.arange(width, dtype=np.float32)[None])
            written.append(nodes.to_float(nodes.add("Equal", [code, places]), double=double))
    return written


def _groups(model: Any, position: int) -> NDArray[Any]:
    """For each category of a column its number, the infrequent ones having the last one together."""
    groups = None
    if getattr(model, "_infrequent_enabled", False):
        groups = model._default_to_infrequent_mappings[position]
    return np.arange(len(model.categories_[position])) if groups is None else np.asarray(groups)


def _has_infrequent(model: Any, position: int) -> bool:
    return bool(getattr(model, "_infrequent_enabled", False)) and model.infrequent_categories_[position] is not None


def _dropped(model: Any, position: int) -> int | None:
    dropped = None if model.drop_idx_ is None else model._drop_idx_after_grouping[position]
    return None if dropped is None else int(dropped)


def _codes(
    nodes: Nodes, given: Any, name: str, categories: NDArray[Any], codes: list[float], unknown: float, missing: float
) -> str:
    """The code of each value, as float32 of shape [rows, 1]."""
    known = {category: code for category, code in zip(categories.tolist(), codes, strict=True)}
    known = {category: code for category, code in known.items() if not is_missing(category)}
    if is_text(given):
        known.setdefault(MISSING_STRING, missing)
        return nodes.encode(given, name, known, unknown)
    code = nodes.encode(given, name, known, unknown)
    return nodes.add("Where", [nodes.add("IsNaN", [nodes.to_float(name)]), nodes.number(missing), code])
