"""New lists of models while the server runs: sent by a client, or found in the config file."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from servable.errors import ServableError
from servable.tfserving.configs import read_model_configs, read_reload_request

if TYPE_CHECKING:
    from servable.server import ModelServer

logger = logging.getLogger(__name__)


def reload_by_request(server: ModelServer, request: bytes) -> None:
    """Makes the list of a serialized ReloadConfigRequest the one in force, and waits for its new models.

    Raises:
        ServableError: As `ModelServer.reload`; also where the request cannot be read.
    """
    models = read_reload_request(request)
    logger.info("A client replaces the list of models: %s", ", ".join(config.name for config in models) or "none")
    server.reload(models)


class ConfigFilePoller:
    """Reads a config file again and again, and has the server take over what it says, changed or not.

    A file that cannot be used is logged, once for each different trouble, and the list before stays in force.

    Args:
        server: Takes over the list.
        path: The file.
        interval: Seconds between two looks.
    """

    def __init__(self, server: ModelServer, path: str, interval: float) -> None:
        self._server = server
        self._path = path
        self._interval = interval
        self._stopping = threading.Event()
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="servable-config-file", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            trouble = self._reload()
            if trouble and trouble != self._trouble:
                logger.error("The config file %s is not taken over: %s", self._path, trouble)
            self._trouble = trouble

    def _reload(self) -> str:
        """What went wrong, or an empty text."""
        try:
            models = read_model_configs(self._path)
            self._server.reload(models, wait=False)
        except ServableError as error:
            return str(error)
        except Exception as error:
            logger.exception("The config file %s could not be read", self._path)
            return str(error)
        return ""
