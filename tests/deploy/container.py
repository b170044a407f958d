"""What an image runs, without a container: its scripts in an environment of their own, and this build's commands."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_reader import LineReader

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "deploy" / "container"
COMMANDS = {"servable": "servable", "tensorflow_model_server": "servable.cli.tensorflow_model_server"}
TIMEOUT_S = 40


def install_commands(folder: Path) -> Path:
    """Puts the commands that the wheel brings into a folder, and returns it."""
    folder.mkdir()
    for name, module in COMMANDS.items():
        path = folder / name
        source = shlex.quote(str(ROOT / "src"))
        path.write_text(f'#!/bin/sh\nPYTHONPATH={source} exec {shlex.quote(sys.executable)} -m {module} "$@"\n')
        path.chmod(0o755)
    return folder


def clean_environment(commands: Path, variables: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": f"{commands}:/usr/bin:/bin", "PYTHONUNBUFFERED": "1", **variables}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ContainerProcess:
    """One script of the image, running; what it writes is read as it comes."""

    def __init__(self, script: str, *arguments: str, commands: Path, cwd: Path, **variables: str) -> None:
        self.process = subprocess.Popen(
            [SCRIPTS / script, *arguments],
            env=clean_environment(commands, variables),
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = LineReader(self.process.stdout)

    def wait_for(self, pattern: str) -> str:
        """The first line in which a pattern is found, waited for."""
        return self._reader.wait_for(lambda line: line if re.search(pattern, line) else None, pattern, TIMEOUT_S)

    @property
    def rest(self) -> str:
        """The URL at which this machine reaches REST."""
        address = json.loads(self.wait_for('"Listening'))["rest"]
        return f"http://127.0.0.1:{address.rsplit(':', 1)[1]}"

    def wait_until_ready(self) -> None:
        self.wait_for("Loaded: model")
        answered = threading.Event()
        while status(f"{self.rest}/readyz") != 200:
            assert self.process.poll() is None
            answered.wait(0.02)

    def predict(self, model: str, instances: Any) -> Any:
        body = json.dumps({"instances": instances}).encode()
        with urllib.request.urlopen(f"{self.rest}/v1/models/{model}:predict", body, timeout=TIMEOUT_S) as answer:
            return json.load(answer)["predictions"]

    def stop(self, signal: int) -> int:
        """Its exit status after a signal."""
        os.kill(self.process.pid, signal)
        return self.process.wait(TIMEOUT_S)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._reader.join()


def status(url: str) -> int:
    """The status of a GET."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
