"""servable: serve, version and swap trained models.

    servable.save(model, "models/digits", examples=x[:8])     a trained model becomes a version, proven
    servable.serve("models")                                  a server over REST and gRPC, as a context manager
    servable.load("models/digits")                            the same engines in this process, without a server
    servable.Client("http://localhost:8501")                  ask a server

Names are imported when they are first used, so that `import servable` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from servable import errors
    from servable.client import AsyncClient, Client, Retry
    from servable.convert.save import save
    from servable.engines.options import EngineOptions
    from servable.errors import ServableError
    from servable.model.load import Servable, load
    from servable.model.tolerance import Tolerance
    from servable.model.versions import Version
    from servable.replicas.serve import serve
    from servable.server import ModelServer
    from servable.settings import ServerSettings
    from servable.version import __version__

_PLACES = {
    "AsyncClient": "servable.client",
    "Client": "servable.client",
    "EngineOptions": "servable.engines.options",
    "ModelServer": "servable.server",
    "Retry": "servable.client",
    "Servable": "servable.model.load",
    "ServableError": "servable.errors",
    "ServerSettings": "servable.settings",
    "Tolerance": "servable.model.tolerance",
    "Version": "servable.model.versions",
    "__version__": "servable.version",
    "load": "servable.model.load",
    "save": "servable.convert.save",
    "serve": "servable.replicas.serve",
}

__all__ = [
    "AsyncClient",
    "Client",
    "EngineOptions",
    "ModelServer",
    "Retry",
    "Servable",
    "ServableError",
    "ServerSettings",
    "Tolerance",
    "Version",
    "__version__",
    "errors",
    "load",
    "save",
    "serve",
]


def __getattr__(name: str) -> object:
    if name == "errors":
        return importlib.import_module("servable.errors")
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'servable' has no attribute '{name}'")
    value = getattr(importlib.import_module(place), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
