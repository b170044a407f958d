"""The way to a server over gRPC: TensorFlow Serving's services, with messages of our own instead of generated ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servable.client import grpc_messages as messages
from servable.client.credentials import Credentials
from servable.client.examples import grpc_request, read_grpc_classes, read_grpc_values
from servable.client.exchange import TOKEN_HINT
from servable.errors import (
    FailedPrecondition,
    ServableError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    from_status,
)
from servable.wire.predict import PredictRequest, PredictResponse

try:
    import grpc
except ImportError:
    raise FailedPrecondition(
        "A grpc:// address needs the package grpcio", hint="pip install 'servable[grpc]', or use the REST address"
    ) from None

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from servable.client.examples import Example
    from servable.client.types import Deadline, Metadata, Target, VersionStatus
    from servable.model.signatures import Signature
    from servable.wire.examples import Classes
    from servable.wire.tensors import Tensor

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_CLASSIFY = "/tensorflow.serving.PredictionService/Classify"
_REGRESS = "/tensorflow.serving.PredictionService/Regress"
_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
_HEALTH = "/grpc.health.v1.Health/Check"
_METHODS = (_PREDICT, _CLASSIFY, _REGRESS, _METADATA, _STATUS, _HEALTH)
_LARGEST_MESSAGE = (1 << 31) - 1


class Rpc:
    """A Backend over one gRPC channel. Threads may share it.

    Args:
        target: `host:port`, or `unix:/path/to.sock`.
        credentials: Token and certificates.
        secure: Whether to speak TLS.
    """

    def __init__(self, target: str, credentials: Credentials | None = None, *, secure: bool = False) -> None:
        credentials = credentials or Credentials()
        options = [
            ("grpc.max_send_message_length", _LARGEST_MESSAGE),
            ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
        ]
        self._target = target
        # As a field and not as gRPC's own credentials, which refuse to send a token in plain text, also on one machine.
        self._metadata = tuple(credentials.headers().items())
        self._channel = (
            grpc.secure_channel(target, grpc.ssl_channel_credentials(*credentials.pem()), options=options)
            if secure
            else grpc.insecure_channel(target, options=options)
        )
        self._calls = {method: self._channel.unary_unary(method) for method in _METHODS}

    def close(self) -> None:
        self._channel.close()

    def predict(
        self,
        target: Target,
        signature: Signature,
        inputs: Mapping[str, Tensor],
        outputs: tuple[str, ...],
        until: Deadline,
    ) -> dict[str, NDArray[Any]]:
        request = PredictRequest(messages.model_spec(target, signature.name), dict(inputs), outputs)
        response = PredictResponse.decode(self._call(_PREDICT, request.encode(), until))
        return {name: tensor.array for name, tensor in response.outputs.items()}

    def classify(
        self, target: Target, signature: str, examples: Sequence[Example], context: Example | None, until: Deadline
    ) -> list[Classes]:
        request = grpc_request(target, signature, examples, context)
        return read_grpc_classes(self._call(_CLASSIFY, request, until))

    def regress(
        self, target: Target, signature: str, examples: Sequence[Example], context: Example | None, until: Deadline
    ) -> NDArray[np.float32]:
        request = grpc_request(target, signature, examples, context)
        return read_grpc_values(self._call(_REGRESS, request, until))

    def metadata(self, target: Target, until: Deadline) -> Metadata:
        return messages.read_metadata(target, self._call(_METADATA, messages.metadata_request(target), until))

    def status(self, model: str, until: Deadline) -> list[VersionStatus]:
        return messages.read_status(self._call(_STATUS, messages.status_request(model), until))

    def not_ready(self, model: str | None, until: Deadline) -> str | None:
        try:
            if model is not None:
                states = self.status(model, until)
                return (
                    None if any(each.state == "AVAILABLE" for each in states) else f"No version of {model} is available"
                )
            serving = messages.read_health(self._call(_HEALTH, messages.health_request(), until))
        except Unimplemented:
            return (
                None  # TensorFlow Serving opens its port when it is ready, and has the health service off by default.
            )
        except ServableError as error:
            return str(error)
        return None if serving else "The server is not serving yet"

    def _call(self, method: str, request: bytes, until: Deadline) -> bytes:
        try:
            reply: bytes = self._calls[method](request, timeout=until.remaining(), metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._error(error, until) from None
        except ValueError as error:  # grpcio's word for a channel that is closed
            raise FailedPrecondition(str(error)) from None
        return reply

    def _error(self, error: Any, until: Deadline) -> ServableError:
        status, text = error.code(), error.details() or ""
        if status is grpc.StatusCode.DEADLINE_EXCEEDED:
            return until.exceeded()
        found = from_status(status.value[0], text or f"{self._target}: {status.name}")
        if isinstance(found, Unauthenticated):
            found.hint = TOKEN_HINT
        if isinstance(found, Unavailable):
            found.retry_after = _retry_after(error)
        return found


def _retry_after(error: Any) -> float | None:
    """Seconds, as the server said them in the header that gRPC has for it (gRPC proposal A6)."""
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-retry-pushback-ms" and str(value).isdigit() and len(value) <= 9:
            return int(value) / 1000
    return None
