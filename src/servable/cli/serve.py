"""`servable serve`: runs a server until it is told to stop."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from servable.cli.folders import models_to_serve
from servable.cli.options import MODELS_FOLDER, MODELS_VARIABLE, SettingsCommand, config_option
from servable.errors import FailedPrecondition, InvalidArgument
from servable.server.logs import is_text, set_up_logging
from servable.settings import load_server_settings

if TYPE_CHECKING:
    from pathlib import Path

    from servable.cli.serve_display import Display
    from servable.server import ModelServer
    from servable.server.model_list import ModelList
    from servable.settings import ServerSettings
    from servable.tfserving.reload import ConfigFilePoller


@click.command(cls=SettingsCommand)
@click.argument("models", nargs=-1, metavar="[DIR | NAME=DIR...]")
@config_option
def serve(models: tuple[str, ...], config: str | None, **flags: Any) -> None:
    """Serve models over REST and gRPC.

    DIR is a folder of models (DIR/digits/1 is version 1 of the model digits) or the folder of one model. It may be in a
    bucket: s3://BUCKET/models, gs://, az://. Several models from several places are given as NAME=DIR. Without an
    argument SERVABLE_MODELS names the folder, else it is ./models. --model-config-file names a list of models instead.

    A new version takes over without a failed request; when its folder is removed, the one before answers again.

    SIGTERM and Ctrl-C end the server: it refuses what is new and finishes what it accepted, within --grace-period. A
    second signal ends it at once. The exit status is 1 where requests had to be cut off.

    Every option below can also be an environment variable (SERVABLE_REST_PORT) or stand in a file (rest_port = 8501).
    """
    settings = load_server_settings(flags, config=config).values
    set_up_logging(settings)

    # Everything from here on is late: `servable serve --help` need not wait for it.
    from servable.cli.serve_loop import ServeLoop, leave_at_once
    from servable.replicas import ProcessLoader
    from servable.server import ModelServer

    loop = ServeLoop()
    isolated = ProcessLoader(settings.engine_threads)
    server = ModelServer(_models(models, settings), settings, isolated=isolated, on_change=loop.changed)
    try:
        server.start()
    except FailedPrecondition as error:
        error.hint = error.hint or "--port and --rest-port choose other ports; 0 takes any free one, off none"
        raise
    poller = _poller(server, settings)
    end = loop.run(server, _display(settings))
    if poller:
        poller.stop()
    if not (end.finished and end.idle):
        leave_at_once(0 if end.finished else 1)


def _models(arguments: tuple[str, ...], settings: ServerSettings) -> str | Path | dict[str, str | Path] | ModelList:
    if not settings.model_config_file:
        return models_to_serve(arguments or (os.environ.get(MODELS_VARIABLE) or MODELS_FOLDER,))
    if arguments:
        raise InvalidArgument(
            f"The models are named twice: by {', '.join(arguments)} and by {settings.model_config_file}",
            hint="give folders, or --model-config-file",
        )
    from servable.server.model_list import ModelList
    from servable.tfserving.configs import read_model_configs
    from servable.tfserving.reload import reload_by_request

    return ModelList(models=read_model_configs(settings.model_config_file), reload=reload_by_request)


def _poller(server: ModelServer, settings: ServerSettings) -> ConfigFilePoller | None:
    if not settings.model_config_file or not settings.model_config_poll:
        return None
    from servable.tfserving.reload import ConfigFilePoller

    poller = ConfigFilePoller(server, settings.model_config_file, settings.model_config_poll)
    poller.start()
    return poller


def _display(settings: ServerSettings) -> Display:
    from servable.cli.serve_display import LogLines

    alone = settings.access_log != "stderr" and is_text(settings)
    if alone and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from servable.cli.serve_table import LiveTable

        return LiveTable()
    return LogLines()
