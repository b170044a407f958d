"""The main thread of `servable serve`: waits for signals and for changes, and shows them."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from servable.cli.events import Events

if TYPE_CHECKING:
    from servable.cli.serve_display import Display
    from servable.lifecycle import Routes
    from servable.server import ModelServer

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_REPEAT_S = 5.0
# What a model does cannot be interrupted: draining may be over, and a thread of it still be waited for.
_MARGIN_S = 1.0
_UNLOAD_S = 10.0
# Whoever signals a process may signal its group too (timeout(1) does), and means one stop.
_SAME_SIGNAL_S = 0.2
_IN_FLIGHT = re.compile(r"^servable_in_flight (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class End:
    """How a server ended.

    Attributes:
        finished: Every accepted request was answered.
        idle: No thread runs in a model any more, so that the interpreter may end too.
    """

    finished: bool
    idle: bool


@dataclass(frozen=True, slots=True)
class _Signal:
    number: int


@dataclass(frozen=True, slots=True)
class _Changed:
    pass


@dataclass(frozen=True, slots=True)
class _Drained:
    finished: bool


@dataclass(frozen=True, slots=True)
class _Unloaded:
    pass


_Event = _Signal | _Changed | _Drained | _Unloaded


class ServeLoop:
    """From the first signal handler to the stop. Made on the main thread, before the server starts."""

    def __init__(self) -> None:
        self._events: Events[_Event] = Events(_SIGNALS, _Signal)

    def changed(self, _routes: Routes) -> None:
        """To be told by the server of every change, on any thread."""
        self._events.put(_Changed())

    def run(self, server: ModelServer, display: Display) -> End:
        """Shows what happens until a signal comes, then stops the server."""
        display.start(server.addresses)
        try:
            display.show(server.report())
            while (number := self._wait_for_change()) is None:
                display.show(server.report())
        finally:
            display.end()
        return self._stop(server, number)

    def _wait_for_change(self) -> int | None:
        """Returns once something has changed, or a signal came: its number. Many changes at once count as one."""
        event = self._events.get()
        while isinstance(event, _Changed) and not self._events.is_empty():
            event = self._events.get()
        return event.number if isinstance(event, _Signal) else None

    def _stop(self, server: ModelServer, number: int) -> End:
        grace = server.settings.grace_period
        loading = any(version.state == "LOADING" for version in server.report().versions)
        logger.info(
            "%s: stopping. %s; waiting for at most %g s. A second signal ends at once",
            signal.Signals(number).name, _in_flight(server), grace,
        )  # fmt: skip
        again = time.monotonic() + _SAME_SIGNAL_S
        # On a thread of its own: this one has to be free for the second signal.
        threading.Thread(target=self._stop_server, args=(server,), name="servable-stop", daemon=True).start()
        drained = self._wait_for(_Drained, server, grace + _MARGIN_S, again)
        if not isinstance(drained, _Drained) or not drained.finished:
            logger.error("Stopped: requests were cut off after %g s", grace)
            return End(finished=False, idle=False)
        unloaded = self._wait_for(_Unloaded, server, _UNLOAD_S, again)
        logger.info("Stopped: every accepted request was answered")
        return End(finished=True, idle=unloaded is not None and not loading)

    def _stop_server(self, server: ModelServer) -> None:
        self._events.put(_Drained(server.drain()))
        server.stop()
        self._events.put(_Unloaded())

    def _wait_for(self, kind: type[_Event], server: ModelServer, limit: float, again: float) -> _Event | None:
        """The next event of a kind; None after `limit` seconds. Signals before the moment `again` are not new ones."""
        deadline = time.monotonic() + limit
        while (left := deadline - time.monotonic()) > 0:
            event = self._events.get(timeout=min(left, _REPEAT_S))
            if isinstance(event, kind):
                return event
            if event is None and left > _REPEAT_S:
                logger.info("Still stopping. %s", _in_flight(server))
            if isinstance(event, _Signal) and time.monotonic() >= again:
                logger.warning("Second signal: ended at once. %s", _in_flight(server))
                logging.shutdown()
                os._exit(1)
        return None


def leave_at_once(status: int) -> NoReturn:
    """Ends the process although threads still run in models.

    An ordinary exit would take the interpreter away under them.
    """
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


def _in_flight(server: ModelServer) -> str:
    found = _IN_FLIGHT.search(server.metrics())
    count = int(found[1]) if found else 0
    return "1 request is being answered" if count == 1 else f"{count} requests are being answered"
