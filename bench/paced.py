"""An open-loop load generator for REST: requests are due at a constant rate, whether or not earlier ones are answered.

    python -m bench.paced --port P --path /v1/models/m:predict --body FILE --rate 200 --seconds 10 [--tell FILE]

Latency counts from the moment a request was due, so a server that stalls is charged for all the requests that were due
while it stalled (a closed loop would just send fewer: "coordinated omission"). Prints one line of JSON: sent, failed,
latency percentiles and how late the generator itself was; --tell writes every request (due, latency, marker) as JSON,
where the marker is the place of the largest number in the answer. Bounded: at most `CONNECTIONS` open at once, and
`GRACE` seconds for the last answers.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.process import LOAD_CORES, pinned
from bench.tools import ROOT, WORK, BenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.load import Target

CONNECTIONS = 128
GRACE = 30.0
LARGEST_ANSWER = 1 << 20
CONTENT_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


@dataclass
class Tally:
    """What became of the requests: due times and latencies in seconds from the start, and what went wrong."""

    due: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    marker: list[int] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


class Generator:
    """Sends one body over and over to one path of a server on the loopback interface.

    One thread, plain sockets and `select`: whatever it does takes from the cores that the server may need. So answers
    are parsed after the last one has come, and NumPy is not imported: its threads would spin for a while.
    """

    def __init__(self, port: int, path: str, body: bytes) -> None:
        self._address = ("127.0.0.1", port)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self._request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self._idle: list[socket.socket] = []
        self._waiting: dict[socket.socket, Exchange] = {}
        self._answered: list[Exchange] = []
        self.tally = Tally()

    def run(self, rate: float, seconds: float) -> None:
        """Sends for `seconds`, then waits for the answers that are still missing."""
        begin = time.perf_counter()
        for number in range(int(rate * seconds)):
            due = begin + number / rate
            while (wait := due - time.perf_counter()) > 0 or len(self._waiting) >= CONNECTIONS:
                self._receive(wait if wait > 0 else GRACE)
            self.tally.late.append(time.perf_counter() - due)
            self._send(due)
        end = time.perf_counter() + GRACE
        while self._waiting and (left := end - time.perf_counter()) > 0:
            self._receive(left)
        if self._waiting:
            self.tally.failures["no answer"] = len(self._waiting)
        for exchange in self._answered:
            self._note(exchange, begin)

    def _send(self, due: float) -> None:
        try:
            connection = self._idle.pop() if self._idle else socket.create_connection(self._address, GRACE)
            connection.sendall(self._request)
        except OSError as error:
            self._failed(error)
        else:
            self._waiting[connection] = Exchange(due)

    def _receive(self, seconds: float) -> None:
        """Takes in what has come, and waits at most so long for something."""
        for connection in select.select(list(self._waiting), [], [], seconds)[0]:
            exchange = self._waiting[connection]
            try:
                if exchange.take(connection.recv(LARGEST_ANSWER)):
                    self._answered.append(exchange)
                    self._idle.append(connection)
                    del self._waiting[connection]
            except (OSError, ValueError) as error:
                self._failed(error)
                del self._waiting[connection]
                connection.close()

    def _note(self, exchange: Exchange, begin: float) -> None:
        status, answer = exchange.answer()
        if status != 200:
            self.tally.failures[f"{status} {answer[:160].decode(errors='replace')}"] += 1
            return
        self.tally.due.append(exchange.due - begin)
        self.tally.latency.append(exchange.end - exchange.due)
        row = json.loads(answer)["predictions"][0]
        self.tally.marker.append(row.index(max(row)))

    def _failed(self, error: Exception) -> None:
        self.tally.failures[f"{type(error).__name__}: {error}"[:200]] += 1


class Exchange:
    """One request that was sent, and as much of its answer as has come."""

    def __init__(self, due: float) -> None:
        self.due = due
        self.end = 0.0
        self._got = b""

    def take(self, data: bytes) -> bool:
        """True when the answer is whole. Raises ValueError when it never will be."""
        if not data:
            raise ValueError("the connection ended before the answer")
        self._got += data
        head = self._got.find(b"\r\n\r\n")
        if head < 0:
            return False
        length = CONTENT_LENGTH.search(self._got, 0, head)
        if not length or int(length[1]) > LARGEST_ANSWER:
            raise ValueError(f"an answer without a sensible length: {self._got[:200]!r}")
        self.end = time.perf_counter()
        return len(self._got) >= head + 4 + int(length[1])

    def answer(self) -> tuple[int, bytes]:
        """Status and body."""
        head, _, body = self._got.partition(b"\r\n\r\n")
        return int(head.split(None, 2)[1]), body


class Paced:
    """A generator running as a process of its own, held to `cores`."""

    def __init__(self, target: Target, rate: float, seconds: float, cores: str = LOAD_CORES) -> None:
        folder = WORK / "requests"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "paced.json").write_bytes(target.payload.body)
        self._told = folder / "paced-told.json"
        self._limit = seconds + GRACE + 30
        where = ["--port", str(target.port), "--path", target.payload.path, "--body", str(folder / "paced.json")]
        shape = ["--rate", str(rate), "--seconds", str(seconds), "--tell", str(self._told)]
        command = pinned(cores, [sys.executable, "-m", "bench.paced", *where, *shape])
        self._popen = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def told(self) -> Told:
        """Waits for the end. Raises BenchError when the generator failed."""
        _, errors = self._popen.communicate(timeout=self._limit)
        if self._popen.returncode:
            raise BenchError(f"The load generator failed:\n{errors[-2000:]}")
        return Told(**json.loads(self._told.read_text()))


@dataclass(frozen=True)
class Told:
    """What a generator reports: seconds from its start, one entry an answered request, and failures by their text."""

    due: list[float]
    latency: list[float]
    marker: list[int]
    late: list[float]
    failures: dict[str, int]

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    def percentile(self, percent: float) -> float:
        """Latency in milliseconds."""
        return percentile(self.latency, percent)

    @property
    def lateness(self) -> float:
        """99th percentile of how late the generator itself was, in milliseconds; it is part of the latencies."""
        return percentile(self.late, 99)


def percentile(seconds: Sequence[float], percent: float) -> float:
    """A percentile (nearest rank) of times in seconds, in milliseconds; not a number when there are none."""
    if not seconds:
        return float("nan")
    rank = math.ceil(len(seconds) * percent / 100)
    return sorted(seconds)[max(rank, 1) - 1] * 1e3


def _come_first() -> None:
    """Has this process run as soon as something is due, where that is allowed: it is not what is measured."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.paced")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--tell", type=Path)
    given = parser.parse_args()
    _come_first()
    generator = Generator(given.port, given.path, given.body.read_bytes())
    generator.run(given.rate, given.seconds)
    tally = generator.tally
    told = Told(tally.due, tally.latency, tally.marker, tally.late, dict(tally.failures))
    if given.tell:
        given.tell.write_text(json.dumps(told.__dict__))
    summary = {"answered": len(told.due), "failed": told.failed, "late p99 ms": told.lateness}
    print(json.dumps(summary | {f"p{percent}": told.percentile(percent) for percent in (50, 90, 99, 99.9)}))


if __name__ == "__main__":
    main()
