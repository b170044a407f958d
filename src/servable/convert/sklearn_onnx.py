"""Has skl2onnx write an estimator, with what it lacks added."""

from __future__ import annotations

import warnings
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.convert.boosting import boosting_known, is_boosting
from servable.convert.encoders import encoders_known
from servable.convert.sklearn_graph import Rim
from servable.errors import ConversionError
from servable.wire.tensors import BYTES, Tensor

if TYPE_CHECKING:
    from servable.model.examples import Examples

# Old enough for any ONNX Runtime of the last years, new enough for all that skl2onnx writes.
_OPSETS = {"": 18, "ai.onnx.ml": 3}
# Without this the tokens of text are lower-cased by the rules of en_US, which small containers do not have.
_LOCALE = "C.UTF-8"
# scikit-learn's words, and the same in the words of RE2: skl2onnx knows them of ASCII only, and of one letter too.
_PYTHONS_WORDS, _WORDS = r"(?u)\b\w\w+\b", r"[\pL\pN_]{2,}"
# What skl2onnx writes for float32 only.
_ONLY_SINGLE = {"Binarizer", "PolynomialFeatures", "PowerTransformer"}
WRAP = "wrap it in a class with predict, save and load, and save an object of that"


def title(model: Any) -> str:
    """What to call an estimator in messages: its class, and of a pipeline those of its steps.

    Example:
        >>> title(3)
        'int'
    """
    steps = " > ".join(type(step).__name__ for _, step in getattr(model, "steps", []))
    return f"{type(model).__name__} ({steps})" if steps else type(model).__name__


def first_line(error: Exception) -> str:
    """What an error says in its first line; those of skl2onnx go on for pages."""
    text = " ".join(str(error).strip().split("\n")[0].split())
    return text[:300] or type(error).__name__


def write_graph(model: Any, examples: Examples, inputs: dict[str, Tensor]) -> Rim:
    """The ONNX model with inputs as they are to be served; outputs are still missing.

    Args:
        model: A fitted estimator.
        examples: What it takes.
        inputs: The examples as they are to be served.

    Raises:
        ConversionError: skl2onnx is not installed, or has no way for a step of the model.
    """
    model = _convertible(model)
    number = "FP64" if _needs_double(model, examples) else _number(inputs)
    inside = {name: BYTES if tensor.datatype == BYTES else number for name, tensor in inputs.items()}
    sent = {name: tensor.datatype for name, tensor in inputs.items()}
    if examples.single:
        rim = _run_skl2onnx(model, {name: (inside[name], t.shape[1:]) for name, t in inputs.items()}, examples)
        rim.take_array(*next(iter(sent.items())))
        return rim
    mixed = len(set(inside.values())) > 1
    if _selects_columns(model) or (mixed and _takes_mixed(_first(model))):
        rim = _run_skl2onnx(model, {name: (kind, (1,)) for name, kind in inside.items()}, examples)
        rim.take_columns(sent)
        return rim
    if mixed:
        raise ConversionError(
            f"{title(model)} takes one table, and the columns are of several kinds",
            hint="put a ColumnTransformer first",
        )
    names = list(getattr(model, "feature_names_in_", inputs))
    rim = _run_skl2onnx(model, {"table": (inside[names[0]], (len(names),))}, examples)
    rim.take_table({name: sent[name] for name in names})
    return rim


def _number(inputs: dict[str, Tensor]) -> str:
    return "FP64" if any(tensor.datatype == "FP64" for tensor in inputs.values()) else "FP32"


def _needs_double(model: Any, examples: Examples) -> bool:
    """Whether what comes before the trees has to be computed in float64, as scikit-learn does it.

    Trees ask on which side of a value that they have seen another value is, so that the last bit counts.
    """
    if not getattr(model, "steps", None) or not is_boosting(_last(model)) or _all_single(examples):
        return False
    return not any(type(part).__name__ in _ONLY_SINGLE for part in parts_of(model))


def _all_single(examples: Examples) -> bool:
    return all(array.dtype == np.float32 for array in examples.arrays.values() if array.dtype.kind in "fiub")


def _convertible(model: Any) -> Any:
    """The same for skl2onnx, without what keeps it from writing what answers."""
    while hasattr(model, "best_estimator_"):
        model = model.best_estimator_  # a search answers as the best that it found
    if getattr(model, "steps", None):
        *before, (name, last) = model.steps
        if (other := _convertible(last)) is not last:
            model = copy(model)
            model.steps = [*before, (name, other)]
    elif type(model).__name__ in ("VotingClassifier", "VotingRegressor"):
        model = copy(model)
        model.flatten_transform = False  # which only `transform` asks for
        if model.weights is not None:
            pairs = zip(model.estimators, model.weights, strict=True)
            model.weights = np.array([weight for (_, part), weight in pairs if part != "drop"], np.float64)
    return model


def _selects_columns(model: Any) -> bool:
    return any(type(part).__name__ == "ColumnTransformer" for part in parts_of(model))


def _takes_mixed(model: Any) -> bool:
    """Whether it may have numbers and strings side by side."""
    return is_boosting(model) or type(model).__name__ in ("OneHotEncoder", "OrdinalEncoder")


def _first(model: Any) -> Any:
    while getattr(model, "steps", None):
        model = model.steps[0][1]
    return model


def _last(model: Any) -> Any:
    while getattr(model, "steps", None):
        model = model.steps[-1][1]
    return model


def parts_of(model: Any) -> list[Any]:
    """A model and the estimators that it consists of, fitted or not, at any depth."""
    found: dict[int, Any] = {}
    waiting = [model]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list | tuple):
            waiting += part
        elif hasattr(part, "get_params") and not isinstance(part, type) and id(part) not in found:
            found[id(part)] = part
            waiting += vars(part).values()
    return list(found.values())


def _category_names(examples: Examples) -> dict[int, list[Any]]:
    """By position, the categories of the columns whose dtype is pandas' category."""
    dtypes = getattr(examples.value, "dtypes", ())
    return {at: list(dtype.categories) for at, dtype in enumerate(dtypes) if str(dtype) == "category"}


def _run_skl2onnx(model: Any, inputs: dict[str, tuple[str, tuple[int, ...]]], examples: Examples) -> Rim:
    try:
        from skl2onnx.common import data_types
    except ImportError as error:
        raise ConversionError(
            f"{error.name} is needed to save scikit-learn models", hint='pip install "servable[sklearn]"'
        ) from error
    kinds = {
        BYTES: data_types.StringTensorType,
        "FP32": data_types.FloatTensorType,
        "FP64": data_types.DoubleTensorType,
    }
    types = [(name, kinds[datatype]([None, *shape])) for name, (datatype, shape) in inputs.items()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Rim(_call_skl2onnx(model, types, examples))
        except ConversionError:
            raise
        except Exception as error:
            raise ConversionError(
                f"{title(model)} cannot be written as ONNX: {first_line(error)}", hint=WRAP
            ) from error


def _call_skl2onnx(model: Any, types: list[Any], examples: Examples) -> Any:
    import skl2onnx

    options = _options(parts_of(model), examples)
    # Probabilities as one tensor, not as a list of maps. A NameError says that the estimator has no such option.
    with_tensor = options | {id(model): {"zipmap": False}}
    double = any(type(kind).__name__ == "DoubleTensorType" for _, kind in types)
    # Behind other steps the columns are no longer those of the examples.
    names = _category_names(examples) if is_boosting(model) else {}
    nested = not is_boosting(_last(model))
    with boosting_known(parts_of(model), names, nested=nested), encoders_known(double=double):
        try:
            return skl2onnx.convert_sklearn(model, initial_types=types, options=with_tensor, target_opset=_OPSETS)
        except NameError:
            return skl2onnx.convert_sklearn(model, initial_types=types, options=options, target_opset=_OPSETS)


def _options(parts: list[Any], examples: Examples) -> dict[Any, dict[str, Any]]:
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.preprocessing import MaxAbsScaler, RobustScaler, StandardScaler

    # Scaled as scikit-learn does it, to the last bit: trees ask on which side of a value that they have seen it is.
    division = {"div": "div" if _all_single(examples) else "div_cast"}
    vectorizers = {kind: {"locale": _LOCALE} for kind in (CountVectorizer, TfidfVectorizer)}
    words = {id(part): {"locale": _LOCALE, "tokenexp": _WORDS} for part in parts if _splits_words(part)}
    return vectorizers | words | dict.fromkeys((StandardScaler, RobustScaler, MaxAbsScaler), division)


def _splits_words(part: object) -> bool:
    return getattr(part, "analyzer", None) == "word" and getattr(part, "token_pattern", None) == _PYTHONS_WORDS
