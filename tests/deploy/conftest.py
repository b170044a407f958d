"""Processes as an image starts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from container import ContainerProcess, install_commands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder with `servable` and `tensorflow_model_server`."""
    return install_commands(tmp_path / "bin")


@pytest.fixture
def run_script(commands: Path, tmp_path: Path) -> Iterator[Callable[..., ContainerProcess]]:
    """Starts scripts of the image: `run_script("entrypoint.sh", "--port=1", MODEL_NAME="m")`."""
    started = []

    def run(script: str, *arguments: str, **variables: str) -> ContainerProcess:
        process = ContainerProcess(script, *arguments, commands=commands, cwd=tmp_path, **variables)
        started.append(process)
        return process

    yield run
    for process in started:
        process.end()
