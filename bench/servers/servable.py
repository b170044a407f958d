"""servable itself, started as a user starts it: `servable serve DIR`, every feature on, nothing tuned but the ports."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench import models
from bench.process import SERVER_CORES, Process, free_port
from bench.servers.base import Server
from bench.tools import WORK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servable.model.golden import GoldenExample

PROGRAM = Path(sys.executable).with_name("servable")


def unavailable() -> str:
    """Why servable cannot be measured here, or an empty text."""
    import importlib.util

    if importlib.util.find_spec("servable") is None or importlib.util.find_spec("servable._native") is None:
        return "the native module is not built: make dev"
    return "" if PROGRAM.exists() else f"{PROGRAM} is not installed: make dev"


@contextmanager
def servable(folder: Path, *options: str, cores: str = SERVER_CORES) -> Iterator[Server]:
    """Serves a folder of models. It answers once `Server.target` has returned."""
    rest, grpc = free_port(), free_port()
    command = [str(PROGRAM), "serve", str(folder), "--rest-port", str(rest), "--port", str(grpc), *options]
    with Process("servable", command, cores) as process:
        yield Server("servable", process, rest_port=rest, grpc_port=grpc)


def saved(name: str, onnx: Path) -> Path:
    """A fresh folder of models holding version 1 of `name`, saved with golden examples as a user would."""
    import servable

    folder = WORK / "models" / name
    shutil.rmtree(folder, ignore_errors=True)
    servable.save(onnx, folder / name, examples=models.example(8))
    return folder


def saved_plain(name: str, source: Path, examples: list[GoldenExample]) -> Path:
    """A fresh folder of models holding version 1 of `name`: a foreign folder as it is, with warm-up requests."""
    from servable.model.golden import write_examples

    folder = WORK / "models" / name
    shutil.rmtree(folder, ignore_errors=True)
    (folder / name).mkdir(parents=True)
    shutil.copytree(source, folder / name / "1")
    write_examples(folder / name / "1", examples)
    return folder


def next_version(model: Path, source: Path, number: int) -> None:
    """Makes `source` (a version folder) version `number` of the model: hard links, then one rename."""
    staged = model / f".{number}.tmp"
    shutil.copytree(source, staged, copy_function=os.link)
    staged.rename(model / str(number))
