"""A server over real sockets that misbehaves as a test tells it to."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

METADATA = {
    "model_spec": {"name": "m", "signature_name": "", "version": "1"},
    "metadata": {
        "signature_def": {
            "signature_def": {
                "serving_default": {
                    "inputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}]}, "name": "x:0"}},
                    "outputs": {"y": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}]}, "name": "y:0"}},
                    "method_name": "tensorflow/serving/predict",
                }
            }
        }
    },
}
STATUS = {"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}


def answer(value: Any, status: int = 200, **headers: str) -> bytes:
    """An HTTP answer with a body of JSON, or of bytes as they are."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    head = {"Content-Length": str(len(body)), **{name.replace("_", "-"): text for name, text in headers.items()}}
    lines = "".join(f"{name}: {text}\r\n" for name, text in head.items())
    return f"HTTP/1.1 {status} Because\r\n{lines}\r\n".encode() + body


class FaultyServer:
    """Plays a list of deeds, one for each request but those for metadata; the last one again and again.

    A deed is bytes to send, or a function that gets the connection and does what it likes; the connection is closed
    after a function. `seen` are the first lines of the requests; `left` is set once a client has closed a connection
    that was held.
    """

    def __init__(self, listener: socket.socket) -> None:
        self.deeds: list[bytes | Callable[[socket.socket], None]] = []
        self.seen: list[str] = []
        self.left = threading.Event()
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._listener = listener
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []

    def play(self, *deeds: bytes | Callable[[socket.socket], None]) -> None:
        self.deeds = list(deeds)

    def hold(self, connection: socket.socket) -> None:
        """Never answers; notes when the client goes."""
        with suppress(OSError):
            if connection.recv(1) == b"":
                self.left.set()

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines, suppress(OSError):
            while line := lines.readline():
                size = 0
                while (header := lines.readline().strip()) != b"":
                    name, _, value = header.lower().partition(b":")
                    size = int(value) if name == b"content-length" else size
                lines.read(size)
                deed = self._next(line.decode().strip())
                if callable(deed):
                    deed(connection)
                    return
                connection.sendall(deed)

    def _next(self, line: str) -> bytes | Callable[[socket.socket], None]:
        if "/metadata" in line:
            return answer(METADATA)
        with self._lock:
            self.seen.append(line)
            return self.deeds.pop(0) if len(self.deeds) > 1 else self.deeds[0]


def hang_up(_: socket.socket) -> None:
    """Closes the connection without a word."""


def half(connection: socket.socket) -> None:
    """Breaks off in the middle of the answer."""
    connection.sendall(answer(STATUS)[:-10])


@contextmanager
def faulty_server() -> Iterator[FaultyServer]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = FaultyServer(listener)
        thread = threading.Thread(target=server.accept)
        thread.start()
        try:
            yield server
        finally:
            server.close()
            thread.join()
