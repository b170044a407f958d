"""TensorFlow Serving's messages around Classify, Regress and MultiInference: rows come as `tf.Example`s.

Sources: tensorflow_serving/apis/{input,classification,regression,inference,prediction_log}.proto and
tensorflow/core/example/{example,feature}.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.errors import InvalidArgument, Unimplemented
from servable.wire.predict import ModelSpec
from servable.wire.protobuf import FIXED32, Writer, fields, varint

if TYPE_CHECKING:
    from collections.abc import Sequence

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
_CLASSIFY_LOG, _REGRESS_LOG, _MULTI_INFERENCE_LOG = 2, 3, 4
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3
# A small file must not stand for much memory: a context is repeated for each example.
_MAX_BYTES = 1 << 30

# The classes of one row: label (empty where the model gives none) and score.
Classes = list[tuple[str, float]]


def encode_example(features: Mapping[str, Any]) -> bytes:
    """A serialized `tf.Example`.

    Args:
        features: By name: a value, or a list or array of values of one kind. Integers and bools make an int64 feature,
            floats a float feature, str and bytes a bytes feature; an empty list makes a feature without values.

    Raises:
        InvalidArgument: Values of different kinds, or of none of these.

    Example:
        >>> encode_example({"age": 7}).hex()
        '0a0e0a0c0a0361676512051a030a0107'
    """
    if not isinstance(features, Mapping):
        raise InvalidArgument(f"An example is a dict of features, not {type(features).__name__}")
    out = Writer()
    for name, value in features.items():
        out.message(1, Writer().text(1, name).message(2, _feature(name, feature_values(value))))
    return Writer().message(1, out).to_bytes() if features else b""


def feature_values(value: Any) -> list[Any]:
    """The values of a feature as a plain list."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return list(value) if isinstance(value, list | tuple) else [value]


def _feature(name: str, values: list[Any]) -> Writer:
    kinds = {_kind(name, value) for value in values}
    if not kinds:
        return Writer()
    if len(kinds) > 1:
        raise InvalidArgument(f"Feature '{name}' has values of different kinds", hint="give all as floats, or as str")
    kind = kinds.pop()
    inner = Writer()
    if kind == _BYTES_LIST:
        for value in values:
            inner.data(1, value.encode() if isinstance(value, str) else bytes(value))
    elif kind == _FLOAT_LIST:
        inner.data(1, np.asarray(values, "<f4").tobytes())
    else:
        inner.data(1, b"".join(varint(int(value)) for value in values))
    return Writer().message(kind, inner)


def _kind(name: str, value: Any) -> int:
    if isinstance(value, str | bytes):
        return _BYTES_LIST
    if isinstance(value, float | np.floating):
        return _FLOAT_LIST
    if isinstance(value, int | np.integer) and -(1 << 63) <= value < 1 << 63:
        return _INT64_LIST
    raise InvalidArgument(f"Feature '{name}' has the value {value!r}", hint="int64, float, str and bytes can be sent")


def write_input(examples: Sequence[bytes], context: bytes | None = None) -> Writer:
    """An `Input` of serialized examples, with or without a context that all of them get."""
    out = Writer()
    for example in examples:
        out.data(1, example)
    if context is None:
        return Writer().message(1, out)
    return Writer().message(2, out.data(2, context))


def read_input(message: memoryview) -> list[bytes]:
    """The serialized examples of an `Input`, each behind the context."""
    kind, examples, context = 0, list[bytes](), b""
    for field in fields(message):
        if field.number not in (1, 2):
            continue
        if field.number != kind:
            kind, examples, context = field.number, [], b""
        for part in fields(field.message()):
            if part.number == 1:
                examples.append(bytes(part.message()))
            elif part.number == 2 and kind == 2:
                context += bytes(part.message())
    if len(context) * len(examples) > _MAX_BYTES:
        raise InvalidArgument(f"The examples with their context are over the limit of {_MAX_BYTES >> 20} MiB")
    return [context + example for example in examples]


def read_classes(message: memoryview) -> list[Classes]:
    """The rows of a `ClassificationResult`."""
    return [
        [_class(each.message()) for each in fields(row.message()) if each.number == 1]
        for row in fields(message)
        if row.number == 1
    ]


def _class(message: memoryview) -> tuple[str, float]:
    label, score = "", 0.0
    for field in fields(message):
        if field.number == 1:
            label = field.text()
        elif field.number == 2 and field.kind == FIXED32:
            score = _float(field.data)
    return label, score


def read_values(message: memoryview) -> list[float]:
    """The rows of a `RegressionResult`."""
    return [_value(row.message()) for row in fields(message) if row.number == 1]


def _value(message: memoryview) -> float:
    found = [_float(field.data) for field in fields(message) if field.number == 1 and field.kind == FIXED32]
    return found[-1] if found else 0.0


def _float(data: memoryview) -> float:
    return float(np.frombuffer(data, "<f4")[0])


@dataclass(frozen=True)
class ExamplesCall:
    """One call of Classify or Regress, or one task of a MultiInference.

    Attributes:
        spec: Which model, version and signature.
        method: CLASSIFY or REGRESS.
        examples: Serialized `tf.Example`s.
        classes: The answer of CLASSIFY, where it is known.
        values: The answer of REGRESS, where it is known.
    """

    spec: ModelSpec
    method: str
    examples: tuple[bytes, ...]
    classes: list[Classes] | None = None
    values: list[float] | None = None


def read_examples_log(record: bytes | memoryview) -> list[ExamplesCall] | None:
    """The calls in a `PredictionLog` with a classify_log, regress_log or multi_inference_log; None for any other.

    Raises:
        InvalidArgument: The bytes are no such message.
        Unimplemented: A task is neither classify nor regress.
    """
    for field in fields(record):
        if field.number in (_CLASSIFY_LOG, _REGRESS_LOG, _MULTI_INFERENCE_LOG):
            request, response = _request_and_response(field.message())
            if field.number == _MULTI_INFERENCE_LOG:
                return _tasks(request, response)
            return [_call(CLASSIFY if field.number == _CLASSIFY_LOG else REGRESS, request, response)]
    return None


def _request_and_response(log: memoryview) -> tuple[memoryview, memoryview | None]:
    request, response = memoryview(b""), None
    for field in fields(log):
        if field.number == 1:
            request = field.message()
        elif field.number == 2:
            response = field.message()
    return request, response


def _call(method: str, request: memoryview, response: memoryview | None) -> ExamplesCall:
    spec, examples = ModelSpec(), list[bytes]()
    for field in fields(request):
        if field.number == 1:
            spec = ModelSpec.read(field.message())
        elif field.number == 2:
            examples = read_input(field.message())
    if response is None:
        return ExamplesCall(spec, method, tuple(examples))
    result = next((field.message() for field in fields(response) if field.number == 1), memoryview(b""))
    return _answered(ExamplesCall(spec, method, tuple(examples)), result)


def _answered(call: ExamplesCall, result: memoryview) -> ExamplesCall:
    if call.method == CLASSIFY:
        return ExamplesCall(call.spec, call.method, call.examples, classes=read_classes(result))
    return ExamplesCall(call.spec, call.method, call.examples, values=read_values(result))


def _tasks(request: memoryview, response: memoryview | None) -> list[ExamplesCall]:
    tasks, examples = list[tuple[ModelSpec, str]](), list[bytes]()
    for field in fields(request):
        if field.number == 1:
            tasks.append(_task(field.message()))
        elif field.number == 2:
            examples = read_input(field.message())
    if len(tasks) * len(examples) * 8 > _MAX_BYTES:
        raise InvalidArgument(f"A multi_inference_log has {len(tasks)} tasks for {len(examples)} examples")
    calls = [ExamplesCall(spec, method, tuple(examples)) for spec, method in tasks]
    if response is None:
        return calls
    results = [_result(field.message()) for field in fields(response) if field.number == 1]
    if len(results) != len(calls):
        raise InvalidArgument(f"A multi_inference_log has {len(calls)} tasks and {len(results)} results")
    return [_answered(call, result) for call, result in zip(calls, results, strict=True)]


def _task(message: memoryview) -> tuple[ModelSpec, str]:
    spec, method = ModelSpec(), ""
    for field in fields(message):
        if field.number == 1:
            spec = ModelSpec.read(field.message())
        elif field.number == 2:
            method = field.text()
    if method not in (CLASSIFY, REGRESS):
        raise Unimplemented(f"Unsupported signature method_name: {method}")
    return spec, method


def _result(message: memoryview) -> memoryview:
    return next((field.message() for field in fields(message) if field.number in (2, 3)), memoryview(b""))
