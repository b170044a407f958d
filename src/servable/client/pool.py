"""Connections whose every read and write ends at the deadline of the call that makes it.

The library's timeouts start anew with every read, so a server that sends a byte now and then could
hold a call for ever.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import httpcore2
import httpx2

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from servable.client.types import Deadline

_PIECE = 1 << 18


class Current(threading.local):
    """The deadline of the call that this thread makes."""

    until: Deadline | None = None

    def left(self, timeout: float | None) -> float | None:
        return timeout if self.until is None else self.until.remaining()


class Pool(httpx2.BaseTransport):
    """The transport of an `httpx2.Client`. Errors are those of httpcore2, DeadlineExceeded among them.

    Args:
        context: What is trusted over TLS.
        limits: How many connections are open, and how many are kept.
        current: Where the caller says when its call has to end.
    """

    def __init__(self, context: ssl.SSLContext, limits: httpx2.Limits, current: Current) -> None:
        self._pool = httpcore2.ConnectionPool(
            ssl_context=context,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_Backend(current),
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        url, body = request.url, request.stream
        if not isinstance(body, httpx2.SyncByteStream):
            raise TypeError("the body has to be read without an event loop")
        reply = self._pool.handle_request(
            httpcore2.Request(
                method=request.method,
                url=httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=body,
                extensions=request.extensions,
            )
        )
        return httpx2.Response(
            status_code=reply.status, headers=reply.headers, stream=_Body(reply.stream), extensions=reply.extensions
        )

    def close(self) -> None:
        self._pool.close()


class _Body(httpx2.SyncByteStream):
    def __init__(self, pieces: Any) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces

    def close(self) -> None:
        self._pieces.close()


class _Backend(httpcore2.SyncBackend):
    def __init__(self, current: Current) -> None:
        self._current = current

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any) -> _Stream:  # type: ignore[override]
        return _Stream(super().connect_tcp(host, port, self._current.left(timeout), **options), self._current)


class _Stream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream, current: Current) -> None:
        self._stream = stream
        self._current = current

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._current.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE):
            piece = buffer if len(buffer) <= _PIECE else buffer[start : start + _PIECE]
            self._stream.write(piece, self._current.left(timeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> _Stream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._current.left(timeout))
        return _Stream(stream, self._current)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()
