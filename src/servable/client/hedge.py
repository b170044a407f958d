"""Hedging: a request that takes long is sent a second time, the first answer wins, the other request is cancelled.

Source of the idea: J. Dean and L. A. Barroso, "The Tail at Scale", Communications of the ACM 56 (2), 2013.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, TypeVar

from servable.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from servable.client.steps import AsyncTransport, Send, Watch

T = TypeVar("T")


class AsyncHedged:
    """An AsyncTransport that sends what may be sent twice a second time after `after` seconds without an answer."""

    def __init__(self, transport: AsyncTransport, after: float) -> None:
        self._transport = transport
        self._after = after

    async def send(self, send: Send) -> Any:
        if not send.repeatable or not send.until.allows(self._after):
            return await self._transport.send(send)
        first = asyncio.ensure_future(self._transport.send(send))
        tasks = [first]
        try:
            await asyncio.wait(tasks, timeout=self._after)
            if first.done():
                return first.result()
            tasks.append(asyncio.ensure_future(self._transport.send(send)))
            return await _first_answer(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def watch(self, watch: Watch) -> Any:
        return await self._transport.watch(watch)

    async def close(self) -> None:
        await self._transport.close()


async def _first_answer(tasks: Sequence[asyncio.Future[Any]]) -> Any:
    """The first reply that is no refusal; where there is none, what became of the last request."""
    pending = set(tasks)
    while True:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task.exception() is None and not (task.result().refused or task.result().unsure):
                return task.result()
        if not pending:
            return done.pop().result()


class Hedged:
    """A Transport with the same for callers that block. Threads may share it.

    A blocking socket cannot be cancelled from outside; so the requests run in an event loop of its own thread.

    Args:
        make: Makes the transport; called in the loop.
        after: Seconds without an answer.
    """

    def __init__(self, make: Callable[[], AsyncTransport], after: float) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="servable-client", daemon=True)
        self._thread.start()
        self._lock = threading.Lock()
        self._closed = False
        try:
            self._transport = self._wait(_made(make, after))
        except BaseException:
            self._stop()
            raise

    def send(self, send: Send) -> Any:
        return self._wait(self._transport.send(send))

    def watch(self, watch: Watch) -> Any:
        return self._wait(self._transport.watch(watch))

    def close(self) -> None:
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            asyncio.run_coroutine_threadsafe(_end(self._transport), self._loop).result()
            self._stop()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:  # so that nothing is left in a loop that has stopped
            if self._closed:
                work.close()
                raise FailedPrecondition("The client is closed")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise FailedPrecondition("The client was closed meanwhile") from None
        finally:
            future.cancel()  # where Ctrl-C ended the wait; else it is done already

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _made(make: Callable[[], AsyncTransport], after: float) -> AsyncHedged:
    return AsyncHedged(make(), after)


async def _end(transport: AsyncTransport) -> None:
    """Cancels what runs in this loop, and closes the connections."""
    running = asyncio.all_tasks() - {asyncio.current_task()}
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await transport.close()
