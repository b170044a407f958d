"""Requests that list and change the models of a server, by a plain HTTP client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    from pathlib import Path

    from servable.server import ModelServer

ROW = {"instances": [[1.0, 2.0]]}
BINARY = {"Content-Type": "application/octet-stream"}


def url(server: ModelServer, path: str = "") -> str:
    return f"http://{server.addresses.rest}/v2/repository{path}"


def put(server: ModelServer, model: str, version: int, body: bytes, query: str = "", **headers: str) -> Any:
    path = url(server, f"/models/{model}/versions/{version}{query}")
    return requests.put(path, data=body, headers=BINARY | headers, timeout=30)


def index(server: ModelServer, **body: Any) -> list[tuple[str, str, str]]:
    rows = requests.post(url(server, "/index"), json=body, timeout=10).json()
    return [(row["name"], row["version"], row["state"]) for row in rows]


def change(server: ModelServer, model: str, verb: str, body: Any = None) -> requests.Response:
    return requests.post(url(server, f"/models/{model}/{verb}"), json=body or {}, timeout=30)


def ask(server: ModelServer, model: str) -> requests.Response:
    return requests.post(f"http://{server.addresses.rest}/v1/models/{model}:predict", json=ROW, timeout=10)


def left_behind(models: Path) -> list[Path]:
    """What uploads and removals left on the disk."""
    hidden = (".saving-", ".removing-")
    return [path for path in models.rglob("*") if path.suffix == ".archive" or path.name.startswith(hidden)]
