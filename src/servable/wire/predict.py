"""TensorFlow Serving's messages around Predict, and the records of its warm-up file.

Source: tensorflow_serving/apis/{model,predict,prediction_log}.proto.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from servable.errors import Unimplemented
from servable.wire.protobuf import Writer, fields
from servable.wire.tensors import Tensor, read_named, write_named

_OTHER_LOGS = {2: "classify_log", 3: "regress_log", 4: "multi_inference_log", 5: "session_run_log", 7: "streamed log"}


@dataclass(frozen=True)
class ModelSpec:
    """Which model, which of its versions, which signature.

    Attributes:
        name: Name of the model.
        version: Number of the version, or None for the newest or the labelled one.
        label: Label of the version; goes before `version`.
        signature: Name of the signature; empty for `serving_default`.
    """

    name: str = ""
    version: int | None = None
    label: str = ""
    signature: str = ""

    def write(self) -> Writer:
        out = Writer()
        if self.name:
            out.text(1, self.name)
        if self.label:
            out.text(4, self.label)
        elif self.version is not None:
            out.message(2, Writer().number(1, self.version))
        if self.signature:
            out.text(3, self.signature)
        return out

    @classmethod
    def read(cls, message: memoryview) -> ModelSpec:
        name, version, label, signature = "", None, "", ""
        for each in fields(message):
            match each.number:
                case 1:
                    name = each.text()
                case 2:
                    version = next((number.signed for number in fields(each.message()) if number.number == 1), 0)
                case 3:
                    signature = each.text()
                case 4:
                    label = each.text()
        return cls(name, version, label, signature)


@dataclass(frozen=True)
class PredictRequest:
    """`tensorflow.serving.PredictRequest`.

    Example:
        >>> from servable.wire.tensors import as_tensor
        >>> request = PredictRequest(ModelSpec("digits"), {"x": as_tensor([1.0])})
        >>> PredictRequest.decode(request.encode()).spec.name
        'digits'
    """

    spec: ModelSpec
    inputs: dict[str, Tensor]
    output_filter: tuple[str, ...] = ()

    def write(self) -> Writer:
        out = Writer().message(1, self.spec.write())
        for name, tensor in self.inputs.items():
            out.message(2, write_named(name, tensor))
        for name in self.output_filter:
            out.text(3, name)
        return out

    def encode(self) -> bytes:
        return self.write().to_bytes()

    @classmethod
    def decode(cls, message: bytes | memoryview) -> PredictRequest:
        """Raises InvalidArgument where the bytes are no such message; later entries of one name win."""
        spec, inputs, output_filter = ModelSpec(), {}, []
        for each in fields(message):
            match each.number:
                case 1:
                    spec = ModelSpec.read(each.message())
                case 2:
                    name, tensor = read_named(each.message())
                    inputs[name] = tensor
                case 3:
                    output_filter.append(each.text())
        return cls(spec, inputs, tuple(output_filter))


@dataclass(frozen=True)
class PredictResponse:
    """`tensorflow.serving.PredictResponse`."""

    outputs: dict[str, Tensor]
    spec: ModelSpec = field(default_factory=ModelSpec)

    def write(self) -> Writer:
        out = Writer()
        for name, tensor in self.outputs.items():
            out.message(1, write_named(name, tensor))
        return out.message(2, self.spec.write())

    def encode(self) -> bytes:
        return self.write().to_bytes()

    @classmethod
    def decode(cls, message: bytes | memoryview) -> PredictResponse:
        """Raises InvalidArgument where the bytes are no such message."""
        spec, outputs = ModelSpec(), {}
        for each in fields(message):
            if each.number == 1:
                name, tensor = read_named(each.message())
                outputs[name] = tensor
            elif each.number == 2:
                spec = ModelSpec.read(each.message())
        return cls(outputs, spec)


@dataclass(frozen=True)
class PredictionLog:
    """`tensorflow.serving.PredictionLog` with a `predict_log`: a request and, where it is known, its response."""

    request: PredictRequest
    response: PredictResponse | None = None

    def encode(self) -> bytes:
        log = Writer().message(1, self.request.write())
        if self.response is not None:
            log.message(2, self.response.write())
        return Writer().message(6, log).to_bytes()

    @classmethod
    def decode(cls, message: bytes | memoryview) -> PredictionLog:
        """Raises InvalidArgument where the bytes are no such message, Unimplemented for logs of other calls."""
        for each in fields(message):
            if each.number == 6:
                return cls._read(each.message())
            if each.number in _OTHER_LOGS:
                raise Unimplemented(f"A {_OTHER_LOGS[each.number]} among the golden examples is not supported here")
        return cls(PredictRequest(ModelSpec(), {}))

    @classmethod
    def _read(cls, log: memoryview) -> PredictionLog:
        request, response = PredictRequest(ModelSpec(), {}), None
        for each in fields(log):
            if each.number == 1:
                request = PredictRequest.decode(each.message())
            elif each.number == 2:
                response = PredictResponse.decode(each.message())
        return cls(request, response)
