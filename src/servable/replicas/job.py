"""What a child server is told, and what it reports: one JSON object a line, over pipes.

parent -> child   the job; then nothing: the pipe closes when the parent ends, and the child ends with it
child -> parent   {"log": {...}} at any time; then once {"loaded": {...}} or {"failed": {...}}
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servable.engines.options import EngineOptions
from servable.errors import Internal, ServableError, all_errors, from_status
from servable.lifecycle import Failure

if TYPE_CHECKING:
    from servable.engines.load import Loaded

MAX_LINE = 64 << 20
"""Bytes of one line: signatures with their defaults are the largest thing that is reported."""


@dataclass(frozen=True)
class Job:
    """One version to serve.

    Attributes:
        model: Its model's name.
        version: Its number.
        path: Its folder.
        socket: Where to listen: the path of a Unix socket.
        options: For the engine.
        parent: Process id of who asks.
        log_level: Least level that is reported.
        engine_threads: As the setting of that name.
    """

    model: str
    version: int
    path: Path
    socket: str
    options: EngineOptions
    parent: int
    log_level: int
    engine_threads: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=_plain)

    @classmethod
    def from_json(cls, text: str | bytes) -> Job:
        data = json.loads(text, object_hook=_rich)
        options = data.pop("options")
        return cls(options=_options(EngineOptions, options), **data)


def _plain(value: object) -> dict[str, str]:
    if isinstance(value, Path):
        return {"$path": str(value)}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} cannot be told to a child server")


def _rich(data: dict[str, Any]) -> Any:
    match data:
        case {"$path": str(path)}:
            return Path(path)
        case {"$bytes": str(text)}:
            return base64.b64decode(text)
    return data


def _options(kind: type[EngineOptions], data: dict[str, Any]) -> EngineOptions:
    """The options with the parts that are made of fields themselves, and tuples where JSON has lists."""
    plain = kind()
    for item in fields(kind):
        default, value = getattr(plain, item.name), data[item.name]
        if is_dataclass(default) and not isinstance(default, type):
            data[item.name] = type(default)(**{name: _tuple(each) for name, each in value.items()})
        else:
            data[item.name] = _tuple(value)
    return kind(**data)


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def describe_loaded(loaded: Loaded, memory: int) -> dict[str, Any]:
    """What the parent has to know of a version that is loaded; `memory` in bytes."""
    return {
        "signatures": loaded.servable.description,
        "batch_safe": loaded.batch_safe,
        "footprint": memory,
        "format": asdict(loaded.format),
        "golden_examples": loaded.golden_examples,
        "warm_up_seconds": loaded.warm_up_seconds,
    }


def describe_failure(error: BaseException) -> dict[str, Any]:
    """What went wrong, so that the parent can raise it again."""
    if isinstance(error, ServableError):
        return {"code": error.code, "message": error.message, "hint": error.hint}
    failure = Failure.of(error)
    return {"status": failure.code, "message": failure.message}


def failure_of(described: dict[str, Any]) -> ServableError:
    """The error that `describe_failure` described.

    Example:
        >>> failure_of({"code": "engine_missing", "message": "No TensorFlow", "hint": "install it"})
        EngineMissing('No TensorFlow')
    """
    match described:
        case {"code": str(code), "message": str(message), "hint": hint}:
            kind = next((cls for cls in all_errors() if cls.code == code), ServableError)
            return kind(message, hint=hint)
        case {"status": int(status), "message": str(message)}:
            return from_status(status, message)
    return Internal("The child server reported a failure that cannot be read")
