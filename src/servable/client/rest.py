"""The way to a server over HTTP: connections, and which of the dialects it speaks."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import httpx2

from servable.client import examples as messages
from servable.client import tfs
from servable.client.credentials import Credentials
from servable.client.exchange import Reply, Request
from servable.client.oip import Oip, Servable
from servable.client.tfs import TensorFlowServing
from servable.errors import FailedPrecondition, InvalidArgument, ResourceExhausted, ServableError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from servable.client.examples import Example
    from servable.client.types import Deadline, Dialect, Metadata, Target, VersionStatus
    from servable.model.signatures import Signature
    from servable.wire.examples import Classes
    from servable.wire.tensors import Tensor

_LARGEST_ANSWER = 2 << 30
_MOST_CONNECTIONS = 256


class Rest:
    """A Backend over HTTP/1.1. Threads may share it: connections are pooled.

    Args:
        url: `http://host:port` or `https://host:port`, with the path of a prefix where a gateway has one.
        dialect: `auto` asks the server once; `servable`, `oip` and `tfs` do not.
        credentials: Token and certificates.
    """

    def __init__(self, url: str, dialect: str, credentials: Credentials | None = None) -> None:
        credentials = credentials or Credentials()
        self._url = url.rstrip("/")
        self._dialect: Dialect | None = None if dialect == "auto" else _dialect(dialect)
        # The system's certificates take a tenth of a second to load. Plain HTTP needs none, and trusts none.
        plain = url.startswith("http:")
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else credentials.ssl_context()
        limits = httpx2.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_MOST_CONNECTIONS)
        headers = {"Accept-Encoding": "identity"} | credentials.headers()
        self._http = httpx2.Client(verify=verify, limits=limits, headers=headers)

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, until: Deadline) -> Reply:
        """Any page of the server, such as `/metrics`, whatever its status."""
        return self._send(Request("GET", path), until)

    def send(self, request: Request, until: Deadline, body: Iterator[bytes] | None = None) -> Reply:
        """Sends a request; where there is a `body`, in its pieces. The reply is a success, else its error is raised."""
        return self._send(request, until, body).checked()

    def predict(
        self,
        target: Target,
        signature: Signature,
        inputs: Mapping[str, Tensor],
        outputs: tuple[str, ...],
        until: Deadline,
    ) -> dict[str, NDArray[Any]]:
        dialect = self._spoken(until)
        reply = self._send(dialect.predict(target, signature.name, inputs, outputs), until).checked()
        return dialect.read_predict(reply, signature)

    def classify(
        self, target: Target, signature: str, examples: Sequence[Example], context: Example | None, until: Deadline
    ) -> list[Classes]:
        request = messages.rest_request("classify", target, signature, examples, context)
        return messages.read_rest_classes(self._send(request, until).checked())

    def regress(
        self, target: Target, signature: str, examples: Sequence[Example], context: Example | None, until: Deadline
    ) -> NDArray[np.float32]:
        request = messages.rest_request("regress", target, signature, examples, context)
        return messages.read_rest_values(self._send(request, until).checked())

    def metadata(self, target: Target, until: Deadline) -> Metadata:
        dialect = self._spoken(until)
        return dialect.read_metadata(target, self._send(dialect.metadata(target), until).checked())

    def status(self, model: str, until: Deadline) -> list[VersionStatus]:
        return tfs.read_status(self._send(tfs.status(model), until).checked())

    def not_ready(self, model: str | None, until: Deadline) -> str | None:
        try:
            dialect = self._spoken(until)
            return dialect.not_ready(self._send(dialect.ready(model), until))
        except ServableError as error:
            return str(error)

    def _spoken(self, until: Deadline) -> Dialect:
        if self._dialect is None:
            reply = self._send(Request("GET", "/v2"), until)
            if reply.status in (400, 404, 405):
                self._dialect = TensorFlowServing()
            else:
                name = reply.checked().json()
                ours = isinstance(name, dict) and name.get("name") == "servable"
                self._dialect = Servable() if ours else Oip()
        return self._dialect

    def _send(self, request: Request, until: Deadline, body: Iterator[bytes] | None = None) -> Reply:
        try:
            with self._http.stream(
                request.method,
                self._url + request.path,
                headers=dict(request.headers),
                content=request.body if body is None else body,
                timeout=until.remaining(),
            ) as response:
                content = _read(response, until)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Reply(response.status_code, headers, content)
        except RuntimeError as error:  # the library's word for a client that is closed
            raise FailedPrecondition(str(error)) from None
        except httpx2.TimeoutException:
            raise until.exceeded() from None
        except httpx2.ConnectError as error:
            hint = "is the server running? servable serve starts one"
            raise Unavailable(f"Cannot reach {self._url}: {error}", hint=hint) from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Unavailable(f"The connection to {self._url} broke: {error or type(error).__name__}") from None


def _dialect(name: str) -> Dialect:
    dialects: dict[str, type[Dialect]] = {"servable": Servable, "oip": Oip, "tfs": TensorFlowServing}
    if name not in dialects:
        raise InvalidArgument(f"Unknown dialect '{name}'", hint=f"one of auto, {', '.join(dialects)}")
    return dialects[name]()


def _read(response: httpx2.Response, until: Deadline) -> bytearray:
    """The whole body, as long as time and memory allow: the library's timeouts start anew with every chunk."""
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        until.remaining()
        if len(body) > _LARGEST_ANSWER:
            raise ResourceExhausted(f"The answer is larger than {_LARGEST_ANSWER} bytes")
    return body
