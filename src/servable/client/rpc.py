"""What a client asks of a server over gRPC: TensorFlow Serving's services, in messages of our own. No sockets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from servable.client import grpc_messages as messages
from servable.client.examples import grpc_request, read_grpc_classes, read_grpc_values
from servable.client.exchange import TOKEN_HINT, Failed
from servable.client.retry import sending
from servable.client.steps import Send, Watch
from servable.errors import (
    ResourceExhausted,
    ServableError,
    Unauthenticated,
    Unavailable,
    from_status,
)
from servable.wire.predict import PredictRequest, PredictResponse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from servable.client.examples import Example
    from servable.client.retry import Retry
    from servable.client.steps import Steps
    from servable.client.types import Deadline, Metadata, Target, VersionStatus
    from servable.model.signatures import Signature
    from servable.wire.examples import Classes
    from servable.wire.tensors import Tensor

PREDICT = "/tensorflow.serving.PredictionService/Predict"
CLASSIFY = "/tensorflow.serving.PredictionService/Classify"
REGRESS = "/tensorflow.serving.PredictionService/Regress"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
HEALTH = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"

_OK, _RESOURCE_EXHAUSTED, _UNIMPLEMENTED, _UNAVAILABLE = 0, 8, 12, 14


@dataclass(frozen=True, slots=True)
class RpcRequest:
    """One call: the path of the method and the message."""

    method: str
    message: bytes


@dataclass(frozen=True, slots=True)
class RpcReply:
    """What came of a call.

    Attributes:
        status: Canonical status number, 0 for success.
        text: What the server says about it.
        message: The answer of a call that succeeded.
        pushback: Value of the trailer `grpc-retry-pushback-ms` (gRPC proposal A6), or None.
    """

    status: int
    text: str = ""
    message: bytes = b""
    pushback: str | None = None

    @property
    def refused(self) -> bool:
        """Whether the server did not take the request now, and may take it later.

        RESOURCE_EXHAUSTED means a message that is too large as well, which stays so: it is tried again only where the
        server says when. A pushback below zero asks not to come back (gRPC proposal A6).
        """
        if self.pushback is not None and self.retry_after is None:
            return False
        return self.status == _UNAVAILABLE or (self.status == _RESOURCE_EXHAUSTED and self.pushback is not None)

    @property
    def unsure(self) -> bool:
        """Never: a connection that broke is no reply."""
        return False

    @property
    def retry_after(self) -> float | None:
        """Seconds that the server asks to wait for, if it does."""
        text = self.pushback or ""
        return int(text) / 1000 if text.isascii() and text.isdigit() and len(text) <= 9 else None

    def checked(self) -> bytes:
        """The message of a call that succeeded, else its error is raised."""
        if self.status == _OK:
            return self.message
        error = from_status(self.status, self.text)
        if isinstance(error, Unauthenticated):
            error.hint = TOKEN_HINT
        if isinstance(error, Unavailable | ResourceExhausted):
            error.retry_after = self.retry_after
        raise error


class Rpc:
    """A Backend over gRPC.

    Args:
        retry: What is sent again.
    """

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._watchable = True

    def predict(
        self,
        target: Target,
        signature: Signature,
        inputs: Mapping[str, Tensor],
        outputs: tuple[str, ...],
        until: Deadline,
    ) -> Steps[dict[str, NDArray[Any]]]:
        request = PredictRequest(messages.model_spec(target, signature.name), dict(inputs), outputs)
        response = PredictResponse.decode((yield from self._call(PREDICT, request.encode(), until)))
        return {name: tensor.array for name, tensor in response.outputs.items()}

    def classify(
        self, target: Target, signature: str, examples: Sequence[Example], context: Example | None, until: Deadline
    ) -> Steps[list[Classes]]:
        request = grpc_request(target, signature, examples, context)
        return read_grpc_classes((yield from self._call(CLASSIFY, request, until)))

    def regress(
        self, target: Target, signature: str, examples: Sequence[Example], context: Example | None, until: Deadline
    ) -> Steps[NDArray[np.float32]]:
        request = grpc_request(target, signature, examples, context)
        return read_grpc_values((yield from self._call(REGRESS, request, until)))

    def metadata(self, target: Target, until: Deadline) -> Steps[Metadata]:
        message = yield from self._call(METADATA, messages.metadata_request(target), until)
        return messages.read_metadata(target, message)

    def status(self, model: str, until: Deadline) -> Steps[list[VersionStatus]]:
        return messages.read_status((yield from self._call(STATUS, messages.status_request(model), until)))

    def not_ready(self, model: str | None, until: Deadline) -> Steps[str | None]:
        if model is None:
            request = RpcRequest(HEALTH, messages.health_request())
        else:
            request = RpcRequest(STATUS, messages.status_request(model))
        try:
            reply: RpcReply = yield Send(request, until)
            if model is None and reply.status == _UNIMPLEMENTED:
                # TensorFlow Serving opens its port when it is ready, and has the health service off by default.
                return None
            message = reply.checked()
        except Failed as failed:
            return str(failed)
        except ServableError as error:
            return str(error)
        if model is None:
            return None if messages.read_health(message) else "The server is not serving yet"
        available = any(each.state == "AVAILABLE" for each in messages.read_status(message))
        return None if available else f"No version of {model} is available"

    def change(self, model: str | None, until: Deadline) -> Steps[bool]:
        """Our server tells of its models by their names as services; others do not know them and say so at once."""
        if not self._watchable:
            return False
        request = RpcRequest(WATCH, messages.health_request(model or ""))
        try:
            reply: RpcReply = yield Watch(request, until, messages.is_settled)
        except (Failed, ServableError):
            return False
        self._watchable = reply.status != _UNIMPLEMENTED
        return reply.status == _OK and messages.read_health(reply.message)

    def _call(self, method: str, message: bytes, until: Deadline) -> Steps[bytes]:
        send = Send(RpcRequest(method, message), until, repeatable=True)
        reply: RpcReply = yield from sending(send, self._retry)
        return reply.checked()
