"""scikit-learn's SimpleImputer, OrdinalEncoder and OneHotEncoder for skl2onnx, whose own ones lose missing values.

Its imputer knows no missing strings and no float64; its encoders take a missing value for the string "nan". Here what
is missing is NaN among numbers and '' among strings, as everywhere in a version.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.convert.gaps import MISSING_STRING, is_missing
from servable.convert.graph_nodes import Nodes, is_text
from servable.convert.skl2onnx_registry import alias_of, registered
from servable.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray


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
        written = write(operator.raw_operator, nodes, operator.inputs, double)
        nodes.add("Identity", [nodes.concatenated(written)], operator.outputs[0].full_name)

    return convert


def _impute(model: Any, nodes: Nodes, inputs: list[Any], double: bool) -> list[str]:
    """All columns of one input at a time."""
    tables, masks, first = [], [], 0
    for given in inputs:
        width = given.get_second_dimension()
        fills = model.statistics_.tolist()[first : first + width]
        first += width
        table = given.full_name if is_text(given) else nodes.to_float(given.full_name, double=double)
        mask = _gaps(nodes, given, table, model.missing_values, double)
        masks.append(mask)
        filled = nodes.add("Where", [mask, _fills(nodes, given, fills, double), table])
        # A column of which nothing was there in training is left out.
        kept = [at for at, fill in enumerate(fills) if not is_missing(fill) or model.strategy == "constant"]
        tables.append(filled if len(kept) == width else nodes.columns(filled, kept))
    if model.indicator_ is None:
        return tables
    if any(map(is_text, inputs)):
        raise ConversionError(
            "SimpleImputer(add_indicator=True) gives strings and numbers in one table",
            hint="put a MissingIndicator beside the imputer, in a ColumnTransformer",
        )
    mask = nodes.concatenated([nodes.to_float(mask, double=double) for mask in masks])
    return [*tables, nodes.columns(mask, model.indicator_.features_.tolist())]


def _fills(nodes: Nodes, given: Any, values: list[Any], double: bool) -> str:
    """A row of what columns are filled with."""
    if is_text(given):
        return nodes.constant(
            np.array([[MISSING_STRING if is_missing(value) else str(value) for value in values]], object)
        )
    if any(isinstance(value, str) for value in values):
        raise ConversionError("SimpleImputer fills a column of numbers with a string", hint="fill it with a number")
    return nodes.constant(np.array([values], np.float64 if double else np.float32))


def _gaps(nodes: Nodes, given: Any, table: str, missing: Any, double: bool) -> str:
    """Which values are missing, as booleans."""
    if is_text(given):
        return nodes.equals_string(table, MISSING_STRING if is_missing(missing) else str(missing))
    if is_missing(missing):
        return nodes.add("IsNaN", [table])
    if isinstance(missing, str):
        raise ConversionError("SimpleImputer looks for a string in a column of numbers", hint="missing_values=np.nan")
    return nodes.add("Equal", [table, nodes.number(missing, double=double)])


def _encode_ordinal(model: Any, nodes: Nodes, inputs: list[Any], double: bool) -> list[str]:
    unknown = np.nan if model.handle_unknown == "error" else float(model.unknown_value)
    written = []
    for position, (given, name) in enumerate(_columns(nodes, inputs)):
        categories = model.categories_[position].tolist()
        codes = Codes(categories, _groups(model, position).astype(float).tolist(), unknown, unknown)
        if is_missing(categories[-1]):
            codes = replace(codes, missing=float(model.encoded_missing_value))
        written.append(nodes.to_float(codes.write(nodes, given, name), double=double))
    return written


def _encode_one_hot(model: Any, nodes: Nodes, inputs: list[Any], double: bool) -> list[str]:
    written = []
    for position, (given, name) in enumerate(_columns(nodes, inputs)):
        categories, groups = model.categories_[position].tolist(), _groups(model, position).tolist()
        drop = _dropped(model, position)
        width = max(groups) + 1 - (drop is not None)
        # The position among the outputs of this column; -1 is none of them.
        places = [-1.0 if group == drop else float(group - (drop is not None and group > drop)) for group in groups]
        infrequent = model.handle_unknown in ("infrequent_if_exist", "warn") and _has_infrequent(model, position)
        unknown = float(width - 1) if infrequent else -1.0
        codes = Codes(categories, places, unknown, places[-1] if is_missing(categories[-1]) else unknown)
        if width:
            outputs = nodes.constant(np.arange(width, dtype=np.float32)[None])
            hot = nodes.add("Equal", [codes.write(nodes, given, name), outputs])
            written.append(nodes.to_float(hot, double=double))
    return written


def _columns(nodes: Nodes, inputs: list[Any]) -> Iterator[tuple[Any, str]]:
    """Each column: the variable of skl2onnx that it comes from, and the name of its values, [rows, 1]."""
    for given in inputs:
        width = given.get_second_dimension()
        for position in range(width):
            yield given, given.full_name if width == 1 else nodes.columns(given.full_name, [position])


@dataclass(frozen=True)
class Codes:
    """What the values of one column become.

    Attributes:
        categories: The known values.
        values: The number of each.
        unknown: The number of any other value.
        missing: The number of what is missing.
    """

    categories: Sequence[Any]
    values: Sequence[float]
    unknown: float
    missing: float

    def write(self, nodes: Nodes, given: Any, name: str) -> str:
        """The numbers, as float32 of shape [rows, 1]."""
        pairs = zip(self.categories, self.values, strict=True)
        known = {category: value for category, value in pairs if not is_missing(category)}
        if is_text(given):
            known.setdefault(MISSING_STRING, self.missing)
            return nodes.encode(given, name, known, self.unknown)
        code = nodes.encode(given, name, known, self.unknown)
        return nodes.add("Where", [nodes.add("IsNaN", [nodes.to_float(name)]), nodes.number(self.missing), code])


def _groups(model: Any, position: int) -> NDArray[Any]:
    """For each category of a column its number, the infrequent ones having the last one together."""
    groups = None
    if getattr(model, "_infrequent_enabled", False):
        groups = model._default_to_infrequent_mappings[position]  # noqa: SLF001  # shown nowhere else
    count = len(model.categories_[position])
    if groups is None:
        return np.arange(count)
    # OrdinalEncoder does not number what is missing, its last category.
    return np.append(groups, [np.max(groups) + 1] * (count - len(groups)))


def _has_infrequent(model: Any, position: int) -> bool:
    return bool(getattr(model, "_infrequent_enabled", False)) and model.infrequent_categories_[position] is not None


def _dropped(model: Any, position: int) -> int | None:
    dropped = None if model.drop_idx_ is None else model._drop_idx_after_grouping[position]  # noqa: SLF001
    return None if dropped is None else int(dropped)
