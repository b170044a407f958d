"""Sockets over gRPC, blocking and with asyncio. One channel for each client, which keeps its connection."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from servable.client.credentials import Credentials
from servable.client.exchange import Failed
from servable.client.rpc import CLASSIFY, HEALTH, METADATA, PREDICT, REGRESS, STATUS, WATCH, RpcReply
from servable.errors import FailedPrecondition

try:
    import grpc
except ImportError:
    raise FailedPrecondition(
        "A grpc:// address needs the package grpcio", hint="pip install 'servable[grpc]', or use the REST address"
    ) from None

if TYPE_CHECKING:
    from servable.client.steps import Send, Watch
    from servable.client.types import Deadline

# grpcio tells a server that is not there, a connection that broke and a server that refuses by its text alone.
_UNREACHED = re.compile(
    "^failed to connect to all addresses|^DNS resolution failed|^connections to all backends failing"
)
_LOST = re.compile(_UNREACHED.pattern + "|Socket closed|recvmsg|sendmsg|onnection reset|Broken pipe|GOAWAY|RST_STREAM")
_METHODS = (PREDICT, CLASSIFY, REGRESS, METADATA, STATUS, HEALTH)
_LARGEST_MESSAGE = (1 << 31) - 1
_OPTIONS = [
    ("grpc.max_send_message_length", _LARGEST_MESSAGE),
    ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
    # A server that was not there is looked for again soon: grpcio would refuse all calls for a second and more.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class Grpc:
    """A Transport over one gRPC channel. Threads may share it.

    Args:
        target: `host:port`, or `unix:/path/to.sock`.
        credentials: Token and certificates.
        secure: Whether to speak TLS.
    """

    def __init__(self, target: str, credentials: Credentials | None = None, *, secure: bool = False) -> None:
        credentials = credentials or Credentials()
        self._target = target
        self._metadata = _metadata(credentials)
        self._channel = (
            grpc.secure_channel(target, _certificates(credentials), options=_OPTIONS)
            if secure
            else grpc.insecure_channel(target, options=_OPTIONS)
        )
        self._calls = {method: self._channel.unary_unary(method) for method in _METHODS}
        self._watch = self._channel.unary_stream(WATCH)

    def close(self) -> None:
        self._channel.close()

    def send(self, send: Send) -> RpcReply:
        call, left = self._calls[send.request.method], send.until.remaining()
        try:
            return RpcReply(0, message=call(send.request.message, timeout=left, metadata=self._metadata))
        except grpc.RpcError as error:
            return _failed(error, self._target, send.until)
        except ValueError as error:  # grpcio's word for a channel that is closed
            raise FailedPrecondition(str(error)) from None

    def watch(self, watch: Watch) -> RpcReply:
        message = b""
        try:
            call = self._watch(watch.request.message, timeout=watch.until.remaining(), metadata=self._metadata)
            for message in call:
                if watch.enough(message):
                    call.cancel()
                    break
        except grpc.RpcError as error:
            return _failed(error, self._target, watch.until)
        except ValueError as error:
            raise FailedPrecondition(str(error)) from None
        return RpcReply(0, message=message)


class AsyncGrpc:
    """An AsyncTransport over one channel of grpc.aio, for one event loop. Arguments are those of `Grpc`."""

    def __init__(self, target: str, credentials: Credentials | None = None, *, secure: bool = False) -> None:
        self._target = target
        credentials = credentials or Credentials()
        self._metadata = _metadata(credentials)
        self._certificates = _certificates(credentials) if secure else None
        self._made: Any = None
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        if self._made is not None:
            await self._made.close()

    async def send(self, send: Send) -> RpcReply:
        call, left = self._channel().unary_unary(send.request.method), send.until.remaining()
        try:
            return RpcReply(0, message=await call(send.request.message, timeout=left, metadata=self._metadata))
        except grpc.RpcError as error:
            return _failed(error, self._target, send.until)

    async def watch(self, watch: Watch) -> RpcReply:
        message = b""
        method = self._channel().unary_stream(WATCH)
        try:
            call = method(watch.request.message, timeout=watch.until.remaining(), metadata=self._metadata)
            async for message in call:
                if watch.enough(message):
                    call.cancel()
                    break
        except grpc.RpcError as error:
            return _failed(error, self._target, watch.until)
        return RpcReply(0, message=message)

    def _channel(self) -> Any:
        """Made at first use: grpc.aio binds a channel to the event loop that runs then."""
        if self._closed:
            raise FailedPrecondition("The client is closed")
        if self._made is None:
            import grpc.aio

            self._made = (
                grpc.aio.insecure_channel(self._target, options=_OPTIONS)
                if self._certificates is None
                else grpc.aio.secure_channel(self._target, self._certificates, options=_OPTIONS)
            )
        return self._made


def _metadata(credentials: Credentials) -> tuple[tuple[str, str], ...]:
    # As a field and not as gRPC's own credentials, which refuse to send a token in plain text, also on one machine.
    return tuple(credentials.headers().items())


def _certificates(credentials: Credentials) -> Any:
    return grpc.ssl_channel_credentials(*credentials.pem())


def _failed(error: Any, target: str, until: Deadline) -> RpcReply:
    """The reply that an error of grpcio stands for; `Failed` where the connection is what failed."""
    status, text = error.code(), error.details() or ""
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        raise until.exceeded() from None
    trailers = {str(name): str(value) for name, value in error.trailing_metadata() or ()}
    if status is grpc.StatusCode.UNAVAILABLE and not trailers and _LOST.search(text):
        raise Failed(f"{target}: {text}", sent=not _UNREACHED.search(text)) from None
    return RpcReply(
        status.value[0], text or f"{target}: {status.name}", pushback=trailers.get("grpc-retry-pushback-ms")
    )
