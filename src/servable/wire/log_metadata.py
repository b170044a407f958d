"""`tensorflow.serving.LogMetadata`: what a record of a request log says about itself.

Source: tensorflow_serving/core/logging.proto.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from servable.wire.predict import ModelSpec
from servable.wire.protobuf import FIXED64, fields

_METADATA, _PREDICT, _CLASSIFY, _REGRESS = 1, 6, 2, 3


@dataclass(frozen=True, slots=True)
class LogMetadata:
    """What answered a logged request, and when.

    Attributes:
        model: Name of the model; empty where nothing says it.
        version: The version that answered; None where the log does not say.
        signature: Name of the signature; empty where the log does not say.
        sampling_rate: Share of the requests that was logged; 0 where the log does not say.
        time: Seconds since 1970; 0 where the log does not say.
    """

    model: str = ""
    version: int | None = None
    signature: str = ""
    sampling_rate: float = 0.0
    time: int = 0


def read_metadata(record: bytes | memoryview) -> LogMetadata:
    """The metadata of a serialized `PredictionLog`; without one, what the request itself says.

    Raises:
        InvalidArgument: The bytes are no such message.
    """
    spec, rate, time = ModelSpec(), 0.0, 0
    asked = ModelSpec()
    for field in fields(record):
        if field.number == _METADATA:
            spec, rate, time = _read(field.message())
        elif field.number in (_PREDICT, _CLASSIFY, _REGRESS):
            asked = _spec_of_request(field.message())
    named = spec if spec.name else asked
    return LogMetadata(named.name, spec.version, named.signature, rate, time)


def _read(message: memoryview) -> tuple[ModelSpec, float, int]:
    spec, rate, time = ModelSpec(), 0.0, 0
    for field in fields(message):
        if field.number == 1:
            spec = ModelSpec.read(field.message())
        elif field.number == 2:
            rate = _sampling_rate(field.message())
        elif field.number == 4:
            time = field.signed
    return spec, rate, time


def _sampling_rate(message: memoryview) -> float:
    found = [field.data for field in fields(message) if field.number == 1 and field.kind == FIXED64]
    return float(struct.unpack("<d", found[-1])[0]) if found else 0.0


def _spec_of_request(log: memoryview) -> ModelSpec:
    for field in fields(log):
        if field.number == 1:
            specs = (each.message() for each in fields(field.message()) if each.number == 1)
            return next((ModelSpec.read(spec) for spec in specs), ModelSpec())
    return ModelSpec()
