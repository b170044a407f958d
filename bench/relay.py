"""Bytes on the wire: a relay between a client and a server that counts what passes, headers and frames included."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Relay:
    """Passes connections on to a port of this machine.

    Attributes:
        port: Where it listens.
        sent: Bytes of clients so far.
        received: Bytes of the server so far.
    """

    def __init__(self, listener: socket.socket, target: int) -> None:
        self.port: int = listener.getsockname()[1]
        self.sent = self.received = 0
        self._listener = listener
        self._target = target
        self._open: list[socket.socket] = []

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open += [client, server]
                for pair in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def close(self) -> None:
        for each in [self._listener, *self._open]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if up:
                    self.sent += len(data)
                else:
                    self.received += len(data)
                sink.sendall(data)


@contextmanager
def relay(port: int) -> Iterator[Relay]:
    """A running relay to `port`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = Relay(listener, port)
        thread = threading.Thread(target=found.accept, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            found.close()
            thread.join()
