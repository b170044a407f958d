"""Sockets over HTTP/1.1, blocking and with asyncio. Connections are kept and used again; redirects are not followed."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, NoReturn

import httpcore2
import httpx2

from servable.client.credentials import Credentials
from servable.client.exchange import Failed, Reply, Request
from servable.client.pool import Current, Pool
from servable.errors import FailedPrecondition, ResourceExhausted, Unimplemented

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from servable.client.steps import Send, Watch
    from servable.client.types import Deadline

_LARGEST_ANSWER = 2 << 30
_MOST_CONNECTIONS = 256


class Http:
    """A Transport. Threads may share it.

    Args:
        url: `http://host:port` or `https://host:port`, with the path of a prefix where a gateway has one.
        credentials: Token and certificates.
        largest_answer: Bytes of an answer's body at most.
    """

    def __init__(self, url: str, credentials: Credentials | None = None, largest_answer: int = _LARGEST_ANSWER) -> None:
        self._url = url.rstrip("/")
        self._largest = largest_answer
        self._current = Current()
        options = _options(url, credentials)
        self._http = httpx2.Client(**options, transport=Pool(options["verify"], options["limits"], self._current))

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, until: Deadline) -> Reply:
        """Any page of the server, such as `/metrics`, whatever its status; Unavailable where no answer comes."""
        from servable.client.steps import Send

        try:
            return self.send(Send(Request("GET", path), until))
        except Failed as failed:
            raise failed.error() from None

    def send(self, send: Send) -> Reply:
        body = _Body(self._largest)
        self._current.until = send.until
        try:
            with self._http.stream(**_arguments(self._url, send, send.body)) as response:
                for chunk in response.iter_bytes():
                    body.add(chunk)
                return _reply(response, body)
        except _ALL as error:
            _fail(error, self._url, send.until)

    def watch(self, _watch: Watch) -> NoReturn:
        raise Unimplemented("HTTP has nothing to watch")


class AsyncHttp:
    """An AsyncTransport, for one event loop. Arguments are those of `Http`."""

    def __init__(self, url: str, credentials: Credentials | None = None, largest_answer: int = _LARGEST_ANSWER) -> None:
        self._url = url.rstrip("/")
        self._largest = largest_answer
        self._http = httpx2.AsyncClient(**_options(url, credentials))

    async def close(self) -> None:
        await self._http.aclose()

    async def send(self, send: Send) -> Reply:
        import asyncio

        body = _Body(self._largest)
        pieces = None if send.body is None else _in_thread(send.body)
        try:
            async with (
                asyncio.timeout(send.until.remaining()),
                self._http.stream(**_arguments(self._url, send, pieces)) as response,
            ):
                async for chunk in response.aiter_bytes():
                    body.add(chunk)
                return _reply(response, body)
        except TimeoutError:
            raise send.until.exceeded() from None
        except _ALL as error:
            _fail(error, self._url, send.until)

    async def watch(self, _watch: Watch) -> NoReturn:
        raise Unimplemented("HTTP has nothing to watch")


class _Body:
    def __init__(self, largest: int) -> None:
        self.content = bytearray()
        self._largest = largest

    def add(self, chunk: bytes) -> None:
        self.content += chunk
        if len(self.content) > self._largest:
            raise ResourceExhausted(f"The answer is larger than {self._largest} bytes")


def _options(url: str, credentials: Credentials | None) -> dict[str, Any]:
    credentials = credentials or Credentials()
    # The system's certificates take a tenth of a second to load. Plain HTTP needs none, and trusts none.
    plain = url.startswith("http:")
    return {
        "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else credentials.ssl_context(),
        "limits": httpx2.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_MOST_CONNECTIONS),
        "headers": {"Accept-Encoding": "identity"} | credentials.headers(),
    }


def _arguments(url: str, send: Send, pieces: Any) -> dict[str, Any]:
    request: Request = send.request
    return {
        "method": request.method,
        "url": url + request.path,
        "headers": dict(request.headers),
        "content": request.body if pieces is None else pieces,
        "timeout": send.until.remaining(),
    }


def _reply(response: httpx2.Response, body: _Body) -> Reply:
    return Reply(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body.content)


_TIMEOUTS = (httpx2.TimeoutException, httpcore2.TimeoutException)
_UNREACHED = (httpx2.ConnectError, httpcore2.ConnectError)
_ALL = (
    RuntimeError,
    httpx2.HTTPError,
    httpx2.InvalidURL,
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
)


def _fail(error: Exception, url: str, until: Deadline) -> NoReturn:
    if isinstance(error, _TIMEOUTS):
        raise until.exceeded() from None
    if isinstance(error, _UNREACHED):
        hint = "is the server running? servable serve starts one"
        raise Failed(f"Cannot reach {url}: {error}", sent=False, hint=hint) from None
    if isinstance(error, RuntimeError):  # the library's word for a client that is closed
        raise FailedPrecondition(str(error)) from None
    raise Failed(f"The connection to {url} broke: {error or type(error).__name__}", sent=True) from None


async def _in_thread(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Pieces that take time to read, without keeping the event loop from its other work."""
    import asyncio

    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
