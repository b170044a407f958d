"""Model servers in this process, on free ports."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING, Any

from servable.replicas import ProcessLoader
from servable.server import ModelServer
from servable.settings import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

DEFAULTS = {"rest_port": 0, "grpc_port": 0, "settle": 0.0, "grace_period": 5.0, "load_retry_interval": 0.05}


def model_server(folder: Path | Mapping[str, Path], **settings: Any) -> ModelServer:
    """A server that is not started yet, which does not wait for folders to settle."""
    return ModelServer(folder, ServerSettings(**DEFAULTS | settings), isolated=ProcessLoader())


def host_and_port(address: str | None) -> tuple[str, int]:
    assert address is not None
    host, port = address.rsplit(":", 1)
    return host, int(port)


def metric(server: ModelServer, name: str, **labels: str) -> float:
    """The sum of all samples of a metric that carry these labels."""
    total = 0.0
    for line in server.metrics().splitlines():
        found = re.fullmatch(rf"{re.escape(name)}(?:{{(.*)}})? (\S+)", line)
        if found:
            have = dict(re.findall(r'(\w+)="([^"]*)"', found[1] or ""))
            if labels.items() <= have.items():
                total += float(found[2])
    return total


def eventually(condition: Callable[[], bool], timeout: float = 20) -> bool:
    """Whether what no event tells of comes true in time."""
    deadline, pause = time.monotonic() + timeout, threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.005)
    return True
