"""Makes a version of a fitted scikit-learn estimator or pipeline, by way of ONNX.

What the version takes: one input (`inputs`) where the examples are an array, else one input for each column. Numbers
are float32 unless asked otherwise, strings stay strings. What it gives:

    classifiers          label, and probabilities (or scores, where the estimator has no probabilities)
    clusterers           label, and scores: what `transform` gives
    outlier detectors    label, and scores: what `decision_function` gives
    regressors, others with `predict`             predictions
    transformers         outputs
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.convert.boosting import boosting_packages
from servable.convert.draft import Draft
from servable.convert.gaps import holds_strings, without_gaps
from servable.convert.onnx_file import FILE
from servable.convert.sklearn_onnx import WRAP, first_line, parts_of, title, write_graph
from servable.errors import ConversionError, InvalidArgument
from servable.model.formats import format_of
from servable.model.golden import GoldenExample
from servable.model.origin import package_versions
from servable.wire.tensors import BYTES, Tensor, as_tensor, datatype_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from servable.convert.conversion import Conversion
    from servable.model.examples import Examples

# Kind of estimator -> names of outputs, and the methods that answer for them; the first method that is there counts.
_METHODS: dict[str, list[tuple[str, str]]] = {
    "classifier": [("label", "predict"), ("probabilities", "predict_proba"), ("scores", "decision_function")],
    "clusterer": [("label", "predict"), ("scores", "transform")],
    "outlier_detector": [("label", "predict"), ("scores", "decision_function")],
    "": [("predictions", "predict"), ("outputs", "transform")],
}
_MAX_OUTPUTS = {"": 1}


def takes(model: object) -> bool:
    """Whether it is an estimator of scikit-learn; without importing it."""
    base = sys.modules.get("sklearn.base")
    return base is not None and isinstance(model, base.BaseEstimator)


def convert(conversion: Conversion) -> Draft:
    """Writes an estimator as `model.onnx`, with its own answers to the examples.

    Args:
        conversion: Its model is a fitted estimator or pipeline; its examples are columns, or an array of two dimensions
            (of one, for text). `preprocess` is a fitted transformer that comes before it.

    Raises:
        ConversionError: It is not fitted, does not take the examples, has a step without an equivalent in ONNX, or
            skl2onnx is not installed.
    """
    conversion.allow("onnx", preprocess=True)
    model, examples, datatype = _with_preprocessing(conversion), conversion.examples, conversion.datatype
    if datatype not in ("FP32", "FP64"):
        raise ConversionError(f"Numbers become FP32 or FP64, not {datatype}")
    datatypes_in = _datatypes(examples, datatype)
    inputs = _inputs(examples, datatypes_in)
    answers = ask(model, examples)
    rim = write_graph(model, examples, inputs)
    pairs = list(zip(answers.items(), rim.tensors, strict=False))
    if not pairs:
        raise ConversionError(f"{title(model)} has no output that ONNX can carry", hint=WRAP)
    datatypes = {name: _datatype(output) for (name, _), output in pairs}
    rim.give([(name, value.ndim == 1 and _rank(output) == 2) for (name, value), output in pairs])
    (conversion.folder / FILE).write_bytes(rim.finish())
    return Draft(
        format_of("onnx", FILE),
        [_record(model, part, datatypes_in, datatypes) for part in examples.split()],
        frameworks=package_versions("scikit-learn", "skl2onnx", "onnx", "numpy", *boosting_packages(parts_of(model))),
        hint=_hint(inputs),
    )


def _with_preprocessing(conversion: Conversion) -> Any:
    before = conversion.preprocess
    if before is None:
        return conversion.model
    if not hasattr(before, "get_params") or not hasattr(before, "transform"):
        raise ConversionError(
            f"ONNX cannot hold {_described(before)} that comes before a model of scikit-learn",
            hint=f"preprocess= takes a fitted transformer, like a ColumnTransformer; for code of your own, {WRAP}",
        )
    from sklearn.pipeline import Pipeline

    return Pipeline([("preprocess", before), ("model", conversion.model)])


def _described(before: object) -> str:
    kind = type(before).__name__
    return f"the function {getattr(before, '__name__', kind)}" if callable(before) else f"an object of type {kind}"


def _hint(inputs: dict[str, Tensor]) -> str:
    if any(tensor.datatype == "FP32" for tensor in inputs.values()):
        return 'datatype="FP64" computes as scikit-learn does; tolerance= allows more'
    return f"ONNX computes a step in another way; {WRAP}"


def ask(model: Any, examples: Examples) -> dict[str, NDArray[Any]]:
    """What an estimator itself answers, by output name.

    An output that is no array, like the probabilities of a classifier with several labels, ends the list.

    Raises:
        ConversionError: It raises an error on the examples, or has neither predict nor transform.
    """
    kind = _kind(model)
    value = _value(model, examples)
    answers: dict[str, NDArray[Any]] = {}
    for name, method in _METHODS[kind]:
        if not hasattr(model, method) or len(answers) == _MAX_OUTPUTS.get(kind, 2):
            continue
        try:
            answer = getattr(model, method)(value)
        except Exception as error:
            raise ConversionError(f"{method} of {title(model)} fails on the examples: {first_line(error)}") from error
        if isinstance(answer, list):
            break
        answers[name] = np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)
    if not answers:
        raise ConversionError(f"{title(model)} has neither predict nor transform")
    return answers


def _kind(model: Any) -> str:
    from sklearn import base

    for kind in ("classifier", "clusterer", "outlier_detector"):
        test = getattr(base, f"is_{kind}", None)
        if test is not None and test(model):
            return kind
    return ""


def _value(model: Any, examples: Examples) -> Any:
    """The examples as the estimator takes them: a dict of columns becomes a table."""
    if examples.single or not isinstance(examples.value, dict):
        return examples.value
    if not hasattr(model, "feature_names_in_"):
        return np.column_stack(list(examples.arrays.values()))
    try:
        import pandas as pd
    except ImportError:
        raise ConversionError(
            f"{title(model)} was fitted on a DataFrame, and pandas is not installed", hint="pip install pandas"
        ) from None
    return pd.DataFrame(examples.arrays)


def _inputs(examples: Examples, datatypes: Mapping[str, str]) -> dict[str, Tensor]:
    """The examples as they are sent, in these datatypes. What is missing is NaN among numbers, and '' among strings."""
    inputs: dict[str, Tensor] = {}
    for name, array in examples.arrays.items():
        try:
            inputs[name] = as_tensor(without_gaps(array, datatypes[name]), datatypes[name])
        except InvalidArgument as error:
            raise ConversionError(f"Examples of '{name}': {error}", hint=error.hint) from error
    return inputs


def _datatypes(examples: Examples, number: str) -> dict[str, str]:
    """By input what it is sent as: strings, booleans, or `number`."""
    if examples.rows is None:
        lengths = ", ".join(f"{name} {list(array.shape)}" for name, array in examples.arrays.items())
        raise ConversionError(f"The columns have different lengths: {lengths}")
    for name, array in examples.arrays.items():
        if not examples.single and array.ndim != 1:
            raise ConversionError(f"Column '{name}' has {array.ndim} dimensions", hint="columns have one dimension")
    return {name: _sent_as(array, number) for name, array in examples.arrays.items()}


def _sent_as(array: NDArray[Any], number: str) -> str:
    if holds_strings(array):
        return BYTES
    return "BOOL" if array.dtype.kind == "b" else number


def _record(model: Any, part: Examples, inputs: Mapping[str, str], datatypes: Mapping[str, str]) -> GoldenExample:
    answers = ask(model, part)
    outputs = {name: _served(name, answers[name], served) for name, served in datatypes.items()}
    return GoldenExample(_inputs(part, inputs), outputs)


def _served(name: str, value: NDArray[Any], datatype: str) -> Tensor:
    """An answer in the datatype in which it is served; labels like 1.0 are served as integers."""
    if value.dtype.kind == "f" and datatype == "INT64" and np.array_equal(value.astype(np.int64), value):
        value = value.astype(np.int64)
    try:
        return as_tensor(value, datatype)
    except InvalidArgument as error:
        raise ConversionError(f"Output '{name}': {error}", hint=error.hint) from error


def _datatype(output: Any) -> str:
    from onnx import helper

    return datatype_of(np.empty(0, helper.tensor_dtype_to_np_dtype(output.type.tensor_type.elem_type)))


def _rank(output: Any) -> int:
    return len(output.type.tensor_type.shape.dim)
