"""`PredictionLog` from protobuf's own JSON form, in which a request log of JSON lines holds it.

Source: https://protobuf.dev/programming-guides/json/. `native/dataplane/src/request_log/json.rs` writes what is read
here; the declarations are those of `proto/`.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from typing import TYPE_CHECKING, Any

from servable.errors import InvalidArgument
from servable.wire.protobuf import Writer, varint

if TYPE_CHECKING:
    from collections.abc import Mapping

# Message -> field -> its number and kind: a scalar or a message; `*` behind it marks a list, `map:` a map from text.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "PredictionLog": {
        "logMetadata": (1, "LogMetadata"),
        "classifyLog": (2, "ClassifyLog"),
        "regressLog": (3, "RegressLog"),
        "multiInferenceLog": (4, "MultiInferenceLog"),
        "predictLog": (6, "PredictLog"),
    },
    "LogMetadata": {"modelSpec": (1, "ModelSpec"), "samplingConfig": (2, "Sampling"), "timestampSecs": (4, "int")},
    "Sampling": {"samplingRate": (1, "double")},
    "ModelSpec": {
        "name": (1, "text"), "version": (2, "wrapped"), "signatureName": (3, "text"), "versionLabel": (4, "text"),
    },
    "PredictLog": {"request": (1, "PredictRequest"), "response": (2, "PredictResponse")},
    "PredictRequest": {"modelSpec": (1, "ModelSpec"), "inputs": (2, "map:Tensor"), "outputFilter": (3, "text*")},
    "PredictResponse": {"outputs": (1, "map:Tensor"), "modelSpec": (2, "ModelSpec")},
    "Tensor": {
        "dtype": (1, "int"), "tensorShape": (2, "Shape"), "versionNumber": (3, "int"), "tensorContent": (4, "bytes"),
        "floatVal": (5, "float*"), "doubleVal": (6, "double*"), "intVal": (7, "int*"), "stringVal": (8, "bytes*"),
        "scomplexVal": (9, "float*"), "int64Val": (10, "int*"), "boolVal": (11, "bool*"),
        "dcomplexVal": (12, "double*"), "halfVal": (13, "int*"), "uint32Val": (16, "int*"), "uint64Val": (17, "int*"),
    },
    "Shape": {"dim": (2, "Dim*"), "unknownRank": (3, "bool")},
    "Dim": {"size": (1, "int"), "name": (2, "text")},
    "ClassifyLog": {"request": (1, "ExamplesRequest"), "response": (2, "ClassificationResponse")},
    "RegressLog": {"request": (1, "ExamplesRequest"), "response": (2, "RegressionResponse")},
    "ExamplesRequest": {"modelSpec": (1, "ModelSpec"), "input": (2, "Input")},
    "ClassificationResponse": {"result": (1, "Classifications"), "modelSpec": (2, "ModelSpec")},
    "RegressionResponse": {"result": (1, "Regressions"), "modelSpec": (2, "ModelSpec")},
    "Classifications": {"classifications": (1, "Classes*")},
    "Classes": {"classes": (1, "Class*")},
    "Class": {"label": (1, "text"), "score": (2, "float")},
    "Regressions": {"regressions": (1, "Regression*")},
    "Regression": {"value": (1, "float")},
    "MultiInferenceLog": {"request": (1, "MultiInferenceRequest"), "response": (2, "MultiInferenceResponse")},
    "MultiInferenceRequest": {"tasks": (1, "Task*"), "input": (2, "Input")},
    "Task": {"modelSpec": (1, "ModelSpec"), "methodName": (2, "text")},
    "MultiInferenceResponse": {"results": (1, "Result*")},
    "Result": {
        "modelSpec": (1, "ModelSpec"), "classificationResult": (2, "Classifications"),
        "regressionResult": (3, "Regressions"),
    },
    "Input": {"exampleList": (1, "ExampleList"), "exampleListWithContext": (2, "ExampleListWithContext")},
    "ExampleList": {"examples": (1, "Example*")},
    "ExampleListWithContext": {"examples": (1, "Example*"), "context": (2, "Example")},
    "Example": {"features": (1, "Features")},
    "Features": {"feature": (1, "map:Feature")},
    "Feature": {"bytesList": (1, "BytesList"), "floatList": (2, "FloatList"), "int64List": (3, "Int64List")},
    "BytesList": {"value": (1, "bytes*")},
    "FloatList": {"value": (1, "float*")},
    "Int64List": {"value": (1, "int*")},
}  # fmt: skip
_FIXED = {"float": (5, struct.Struct("<f")), "double": (1, struct.Struct("<d"))}


def record_of_line(line: bytes) -> bytes:
    """The serialized `PredictionLog` of one line. Fields that are not known are passed over.

    Raises:
        InvalidArgument: It is no JSON, or no such message.

    Example:
        >>> record_of_line(b'{"predictLog": {"request": {"modelSpec": {"name": "m"}}}}').hex()
        '32070a050a030a016d'
    """
    try:
        return _message("PredictionLog", json.loads(line)).to_bytes()
    except RecursionError:
        raise InvalidArgument("A line of the log is nested too deeply") from None
    except (AttributeError, TypeError, ValueError, OverflowError, struct.error, binascii.Error) as error:
        raise InvalidArgument(f"A line of the log is no PredictionLog in JSON: {error}") from None


def _message(name: str, value: Mapping[str, Any]) -> Writer:
    known, out = _MESSAGES[name], Writer()
    for key, given in value.items():
        if key in known and given is not None:
            number, kind = known[key]
            _put(out, number, kind, given)
    return out


def _put(out: Writer, number: int, kind: str, value: Any) -> None:
    if kind.startswith("map:"):
        for key, each in value.items():
            out.message(number, Writer().text(1, key).message(2, _message(kind[4:], each)))
    elif not kind.endswith("*"):
        _put_one(out, number, kind, value)
    elif kind[:-1] in _FIXED:
        pack = _FIXED[kind[:-1]][1].pack
        out.data(number, b"".join(pack(float(each)) for each in value))
    elif kind in ("int*", "bool*"):
        out.data(number, b"".join(varint(int(each)) for each in value))
    else:
        for each in value:
            _put_one(out, number, kind[:-1], each)


def _put_one(out: Writer, number: int, kind: str, value: Any) -> None:
    if kind in _MESSAGES:
        out.message(number, _message(kind, value))
    elif kind == "text":
        out.text(number, value)
    elif kind == "bytes":
        out.data(number, base64.b64decode(value, validate=True))
    elif kind == "wrapped":
        out.message(number, Writer().number(1, int(value)))
    elif kind in _FIXED:
        wire_type, form = _FIXED[kind]
        out.fixed(number, wire_type, form.pack(float(value)))
    else:
        out.number(number, int(value))
