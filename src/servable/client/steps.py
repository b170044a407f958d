"""What a call does, step by step, without doing it: so that the sync and the async client share all but the sockets.

A call is a generator. It yields a step, is given what came of it, and returns its result; a step that failed is thrown
into it. `run` and `run_async` walk through it with a transport, which alone knows sockets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servable.client.types import Deadline

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request, and get its reply: a `Request` a `Reply`, an `RpcRequest` an `RpcReply`.

    Attributes:
        request: What to send.
        until: When the reply has to be there.
        repeatable: Whether it does no harm to do twice what it asks for. Such a request may be hedged, and sent again
            where nobody knows what became of it.
        body: Over HTTP the body in pieces, instead of that of the request.
    """

    request: Any
    until: Deadline
    repeatable: bool = False
    body: Iterator[bytes] | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Watch:
    """Over gRPC: read the messages that answer a request until one is `enough`; gives an `RpcReply` with the last."""

    request: Any
    until: Deadline
    enough: Callable[[bytes], bool]


Step = Send | Pause | Watch
Steps = Generator[Step, Any, T]


class Transport(Protocol):
    """Sockets. Raises `Failed` where there was no reply, DeadlineExceeded, and FailedPrecondition once it is closed."""

    def send(self, send: Send) -> Any: ...

    def watch(self, watch: Watch) -> Any: ...

    def close(self) -> None: ...


class AsyncTransport(Protocol):
    """The same for asyncio. A task that is cancelled cancels its request."""

    async def send(self, send: Send) -> Any: ...

    async def watch(self, watch: Watch) -> Any: ...

    async def close(self) -> None: ...


def run(steps: Steps[T], transport: Transport) -> T:
    """Walks through a call with sockets that block."""
    try:
        step = next(steps)
        while True:
            try:
                found = _do(step, transport)
            except Exception as error:  # the call decides
                step = steps.throw(error)
            else:
                step = steps.send(found)
    except StopIteration as done:
        result: T = done.value
        return result


def _do(step: Step, transport: Transport) -> Any:
    if isinstance(step, Send):
        return transport.send(step)
    if isinstance(step, Watch):
        return transport.watch(step)
    return time.sleep(step.seconds)


async def run_async(steps: Steps[T], transport: AsyncTransport) -> T:
    """Walks through a call with sockets of asyncio."""
    try:
        step = next(steps)
        while True:
            try:
                found = await _do_async(step, transport)
            except Exception as error:  # the call decides
                step = steps.throw(error)
            else:
                step = steps.send(found)
    except StopIteration as done:
        result: T = done.value
        return result


async def _do_async(step: Step, transport: AsyncTransport) -> Any:
    if isinstance(step, Send):
        return await transport.send(step)
    if isinstance(step, Watch):
        return await transport.watch(step)
    import asyncio  # here, for those who never need it: it takes longer to import than all the rest

    return await asyncio.sleep(step.seconds)
