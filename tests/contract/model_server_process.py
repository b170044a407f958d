"""`tensorflow_model_server` as a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from line_reader import LineReader

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMAND = (sys.executable, "-m", "servable.cli.tensorflow_model_server")
TIMEOUT_S = 40


def environment() -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SERVABLE_")}
    return plain | {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "PYTHONUNBUFFERED": "1"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command until it ends by itself."""
    return subprocess.run(
        [*COMMAND, *arguments], env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ModelServerProcess:
    """The command, running; its standard output and its log are read as they come."""

    def __init__(self, *arguments: str, rest: bool = False, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        self.rest_port = free_port() if rest else 0
        ports = [f"--port={self.port}", f"--rest_api_port={self.rest_port}"]
        self.process = subprocess.Popen(
            [*COMMAND, *ports, *arguments],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = LineReader(self.process.stdout)

    @property
    def lines(self) -> list[str]:
        return self._reader.lines

    def wait_for(self, pattern: str) -> str:
        """The first line in which a pattern is found, waited for."""
        return self._reader.wait_for(lambda line: line if re.search(pattern, line) else None, pattern, TIMEOUT_S)

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(f"127.0.0.1:{self.port}", options=[("grpc.use_local_subchannel_pool", 1)])

    @property
    def rest(self) -> str:
        return f"http://127.0.0.1:{self.rest_port}"

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._reader.join()


def models_config(models: Mapping[str, Path], more: str = "") -> str:
    """A text ModelServerConfig; `more` goes into each model."""
    listed = "".join(
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" {more} }}\n'
        for name, path in models.items()
    )
    return f"model_config_list {{ {listed} }}"
