"""Requests that list and change the models of a server, and their answers. No sockets here.

Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md;
uploads, removals and versions are servable's own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from servable.client.exchange import Request
from servable.errors import Internal

if TYPE_CHECKING:
    from servable.client.exchange import Reply

_ROOT = "/v2/repository"
JSON = {"Content-Type": "application/json"}
BINARY = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """One version that a server has, or a model without any.

    Attributes:
        model: Its model.
        version: Its number; None where the model has no version.
        state: READY, LOADING, UNLOADING or UNAVAILABLE.
        reason: Why it is not ready, or empty.
    """

    model: str
    version: int | None
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A version that was uploaded.

    Attributes:
        model: Its model.
        version: Its number.
        state: AVAILABLE where it answers; None where it is stored and not served: another version is pinned, or its
            model is unloaded; else what it was when the answer was sent.
        sha256: Of what was sent, in hex.
    """

    model: str
    version: int
    state: str | None
    sha256: str


def index() -> Request:
    return Request("POST", f"{_ROOT}/index", JSON, b"{}")


def read_index(reply: Reply) -> list[ListedVersion]:
    try:
        return [_listed(row) for row in reply.json()]
    except (TypeError, KeyError, ValueError) as error:
        raise Internal(f"The server's list of models cannot be read: {error!r}") from None


def _listed(row: dict[str, Any]) -> ListedVersion:
    version = row.get("version") or None
    return ListedVersion(
        row["name"], None if version is None else int(version), row.get("state", ""), row.get("reason", "")
    )


def change(model: str, verb: str, version: int | None = None) -> Request:
    """`load` or `unload`."""
    return Request("POST", f"{_path(model, version)}/{verb}", JSON, b"{}")


def remove(model: str, version: int | None = None) -> Request:
    return Request("DELETE", _path(model, version))


def unpin(model: str) -> Request:
    return Request("DELETE", f"{_path(model)}/pin")


def upload(model: str, version: int | None, *, wait: bool, size: int) -> Request:
    """The head of an upload; the body is streamed."""
    query = "" if wait else "?wait=false"
    headers = BINARY | {"Content-Length": str(size)}
    if version is None:
        return Request("POST", f"{_path(model)}/versions{query}", headers)
    return Request("PUT", f"{_path(model, version)}{query}", headers)


def read_uploaded(reply: Reply) -> Uploaded:
    found = reply.json()
    try:
        return Uploaded(found["model"], int(found["version"]), found["state"], found["sha256"])
    except (TypeError, KeyError, ValueError) as error:
        raise Internal(f"The server's answer to the upload cannot be read: {json.dumps(found)[:200]}") from error


def _path(model: str, version: int | None = None) -> str:
    path = f"{_ROOT}/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{version}"
