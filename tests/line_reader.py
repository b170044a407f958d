"""What a process writes, line by line as it comes, for tests that wait for it."""

from __future__ import annotations

import threading
from typing import IO, TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class LineReader:
    """Reads a stream to its end, on a thread of its own.

    Attributes:
        lines: What has come.
    """

    def __init__(self, stream: IO[str] | None) -> None:
        assert stream is not None
        self.lines: list[str] = []
        self._stream = stream
        self._ended = False
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        for line in self._stream:
            with self._more:
                self.lines.append(line)
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()

    def wait_for(self, find: Callable[[str], T | None], what: str, timeout: float) -> T:
        """What `find` makes of the first line that it makes something of. Fails where the stream ends without one."""

        def found() -> T | None:
            return next((made for line in self.lines if (made := find(line)) is not None), None)

        with self._more:
            self._more.wait_for(lambda: self._ended or found() is not None, timeout)
            made = found()
        assert made is not None, f"no line {what!r} in {''.join(self.lines)}"
        return made

    def join(self) -> None:
        """Waits for the end of the stream, and closes it."""
        self._thread.join()
        self._stream.close()
