"""Serves a SavedModel and takes it away again, many times, in a process of its own; writes the resident memory.

Run as: python memory_of_loads.py VERSION FOLDER COUNT; VERSION is the folder of a version, on the disk of FOLDER. Each
line has the bytes while the version is served and after it was unloaded.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path

import psutil

from servable.lifecycle import State
from servable.server import ModelServer
from servable.settings import ServerSettings


def main(version: Path, folder: Path, count: int) -> None:
    model = folder / "m"
    model.mkdir()
    settings = ServerSettings(rest_port=0, grpc_port=None, settle=0.0)
    memory = psutil.Process().memory_info
    with ModelServer({"m": model}, settings) as server:
        for _ in range(count):
            version.rename(model / "1")
            assert server.wait_for(lambda routes: "m" in routes.models and routes.models["m"].available == (1,), 60)
            ask(server)
            loaded = memory().rss
            (model / "1").rename(version)
            assert server.wait_for(
                lambda routes: all(each.state is State.END for each in routes.models["m"].status.versions), 60
            )
            sys.stdout.write(f"{loaded} {memory().rss}\n")


def ask(server: ModelServer) -> None:
    body = json.dumps({"instances": [[0.0] * 2500] * 4}).encode()
    with urllib.request.urlopen(f"http://{server.addresses.rest}/v1/models/m:predict", body, timeout=30) as answer:
        assert json.load(answer) == {"predictions": [0.0] * 4}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
