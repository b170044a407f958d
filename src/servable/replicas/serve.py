"""`servable.serve`: a server for as long as a `with` block lasts."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from servable.replicas.process import ProcessLoader
from servable.server.model_server import ModelServer
from servable.settings import load_server_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@contextmanager
def serve(models: str | Path | Mapping[str, str | Path], **settings: Any) -> Iterator[ModelServer]:
    """Serves models over REST and gRPC while the block runs, and is ready when the block begins.

    Args:
        models: A folder of model folders, one model folder, or model names with their folders.
        **settings: As in `servable config`, by name, e.g. `rest_port=0` for a free port, `swap_policy="resource"`.

    Yields:
        The server; `server.addresses.rest` and `.grpc` say where it listens.

    Raises:
        SettingsError: A setting is unknown or its value is wrong.
        FailedPrecondition: A port is taken.
        Unavailable: A model could not be loaded; the message says why.

    Example:
        >>> with servable.serve("models", rest_port=0) as server:  # doctest: +SKIP
        ...     client = servable.Client(f"http://{server.addresses.rest}")
        ...     client.predict("digits", images)
    """
    values = load_server_settings(settings).values
    with ModelServer(models, values, isolated=ProcessLoader(values.engine_threads)) as server:
        server.wait_until_ready()
        yield server
