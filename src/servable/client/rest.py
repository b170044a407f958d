"""What a client asks of a server over HTTP, whatever the dialect. No sockets here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servable.client import examples as messages
from servable.client import tfs
from servable.client.exchange import Failed, Reply, Request
from servable.client.oip import Oip, Servable
from servable.client.retry import sending
from servable.client.steps import Send
from servable.client.tfs import TensorFlowServing
from servable.errors import InvalidArgument, ServableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from servable.client.examples import Example
    from servable.client.retry import Retry
    from servable.client.steps import Steps
    from servable.client.types import Deadline, Dialect, Metadata, Target, VersionStatus
    from servable.model.signatures import Signature
    from servable.wire.examples import Classes
    from servable.wire.tensors import Tensor

_BINARY = "binary_tensor_data"


class Rest:
    """A Backend over HTTP/1.1.

    Args:
        dialect: `auto` asks the server once; `servable`, `oip` and `tfs` do not.
        retry: What is sent again.
        binary: Whether tensors of the Open Inference Protocol travel in binary; None where the server can, as far as
            it says.
    """

    def __init__(self, dialect: str, retry: Retry, *, binary: bool | None = None) -> None:
        self._retry = retry
        self._binary = binary
        self._dialect: Dialect | None = None if dialect == "auto" else _dialect(dialect, binary=binary is not False)

    def send(
        self, request: Request, until: Deadline, *, repeatable: bool = False, body: Iterator[bytes] | None = None
    ) -> Steps[Reply]:
        """Sends a request; where there is a `body`, in its pieces. The reply is a success, else its error is raised."""
        reply: Reply = yield from sending(Send(request, until, repeatable, body), self._retry)
        return reply.checked()

    def predict(
        self,
        target: Target,
        signature: Signature,
        inputs: Mapping[str, Tensor],
        outputs: tuple[str, ...],
        until: Deadline,
    ) -> Steps[dict[str, NDArray[Any]]]:
        dialect = yield from self._spoken(until)
        request = dialect.predict(target, signature.name, inputs, outputs)
        return dialect.read_predict((yield from self.send(request, until, repeatable=True)), signature)

    def classify(
        self, target: Target, signature: str, examples: Sequence[Example], context: Example | None, until: Deadline
    ) -> Steps[list[Classes]]:
        request = messages.rest_request("classify", target, signature, examples, context)
        return messages.read_rest_classes((yield from self.send(request, until, repeatable=True)))

    def regress(
        self, target: Target, signature: str, examples: Sequence[Example], context: Example | None, until: Deadline
    ) -> Steps[NDArray[np.float32]]:
        request = messages.rest_request("regress", target, signature, examples, context)
        return messages.read_rest_values((yield from self.send(request, until, repeatable=True)))

    def metadata(self, target: Target, until: Deadline) -> Steps[Metadata]:
        dialect = yield from self._spoken(until)
        return dialect.read_metadata(target, (yield from self.send(dialect.metadata(target), until, repeatable=True)))

    def status(self, model: str, until: Deadline) -> Steps[list[VersionStatus]]:
        return tfs.read_status((yield from self.send(tfs.status(model), until, repeatable=True)))

    def not_ready(self, model: str | None, until: Deadline) -> Steps[str | None]:
        try:
            dialect = self._dialect or self._heard((yield Send(Request("GET", "/v2"), until)))
            reply: Reply = yield Send(dialect.ready(model), until)
        except Failed as failed:
            return str(failed)
        except ServableError as error:
            return str(error)
        return dialect.not_ready(reply)

    def change(self, _model: str | None, _until: Deadline) -> Steps[bool]:
        return False
        yield  # a generator as the others, though HTTP has nothing that tells of changes

    def _spoken(self, until: Deadline) -> Steps[Dialect]:
        if self._dialect is None:
            reply = yield from sending(Send(Request("GET", "/v2"), until, repeatable=True), self._retry)
            return self._heard(reply)
        return self._dialect

    def _heard(self, reply: Reply) -> Dialect:
        """The dialect of a server by its answer to `GET /v2`, which is kept."""
        if reply.status in (400, 404, 405):
            self._dialect = TensorFlowServing()
        else:
            told = reply.checked().json()
            told = told if isinstance(told, dict) else {}
            ours = told.get("name") == "servable"
            extensions = told.get("extensions")
            can = ours or (isinstance(extensions, list) and _BINARY in extensions)
            self._dialect = _dialect(
                "servable" if ours else "oip", binary=can if self._binary is None else self._binary
            )
        return self._dialect


def _dialect(name: str, *, binary: bool) -> Dialect:
    if name == "servable" and binary:
        return Servable()
    if name == "oip":
        return Oip(binary=binary)
    if name in ("tfs", "servable"):
        return TensorFlowServing()
    raise InvalidArgument(f"Unknown dialect '{name}'", hint="one of auto, servable, oip, tfs")
