"""`servable serve` as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from line_reader import LineReader

SOURCES = Path(__file__).parents[2] / "src"
TIMEOUT_S = 30
FREE_PORTS = ("--port", 0, "--rest-port", 0, "--settle", "0s")


def environment(**more: str) -> dict[str, str]:
    """This process's environment without any setting of servable."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SERVABLE_")}
    return plain | {"PYTHONPATH": str(SOURCES), "PYTHONUNBUFFERED": "1"} | more


class Process:
    """`servable serve` as a process of its own, which logs JSON lines."""

    def __init__(self, *arguments: object, cwd: Path, **variables: str) -> None:
        command = [sys.executable, "-m", "servable", "serve", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, cwd=cwd, env=environment(**variables), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._reader = LineReader(self.process.stderr)

    @property
    def lines(self) -> list[str]:
        return self._reader.lines

    def wait_for(self, text: str) -> dict[str, Any]:
        """The first log line whose message begins with this text, waited for."""

        def record(line: str) -> dict[str, Any] | None:
            found = json.loads(line) if line.startswith("{") else None
            return found if found and found["message"].startswith(text) else None

        return self._reader.wait_for(record, text, TIMEOUT_S)

    @property
    def rest(self) -> str:
        return f"http://{self.wait_for('Listening')['rest']}"

    @property
    def grpc(self) -> str:
        return f"grpc://{self.wait_for('Listening')['grpc']}"

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = TIMEOUT_S) -> int:
        """Its exit status, waited for."""
        return self.process.wait(timeout)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
