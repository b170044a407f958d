"""The command `tensorflow_model_server`: TensorFlow Serving's command line, start-up and exit."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from servable.cli.serve_display import LogLines
from servable.cli.serve_loop import ServeLoop, leave_at_once
from servable.errors import ServableError
from servable.lifecycle import Failure
from servable.server.logs import set_up_logging
from servable.server.model_list import unavailable_message
from servable.settings import ServerSettings
from servable.tfserving import flags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from servable.server import ModelServer
    from servable.server.report import ServerReport
    from servable.tfserving.options import ServeOptions
    from servable.tfserving.reload import ConfigFilePoller

FATAL = 255
"""Exit status where the command line is wrong or the server cannot start."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command and ends the process."""
    line = flags.parse(sys.argv[1:] if arguments is None else arguments)
    if line.errors:
        _show(*filter(None, line.errors), flags.usage())
        sys.exit(FATAL)
    if line.values["version"]:
        _show_version()
        sys.exit(0)
    if line.unknown:
        _show(f"unknown argument: {line.unknown[0]}", flags.usage())
    set_up_logging(ServerSettings())

    from servable.tfserving.options import serve_options

    try:
        _serve(serve_options(line))
    except ServableError as error:
        failure = Failure.of(error)
        _show(f"Failed to start server. Error: {failure.code_name}: {failure.message}")
        sys.stdout.flush()
        leave_at_once(FATAL)
    sys.exit(0)


def _serve(options: ServeOptions) -> None:
    """Serves until a signal comes.

    Raises:
        ServableError: The server cannot start, or one of the first models can never be served.
    """
    from servable.replicas import ProcessLoader
    from servable.server import ModelServer
    from servable.tfserving.reload import ConfigFilePoller

    loop = ServeLoop()
    server = ModelServer(
        options.models,
        options.settings,
        tensorflow=options.tensorflow,
        grpc_tls=options.grpc_tls,
        isolated=ProcessLoader(options.settings.engine_threads),
        on_change=loop.changed,
    )
    server.start()
    poller = ConfigFilePoller(server, options.config_file, options.config_poll) if options.config_poll else None
    end = loop.run(server, StartupDisplay(server, poller))
    if poller:
        poller.stop()
    if not (end.finished and end.idle):
        leave_at_once(0 if end.finished else 1)


class StartupDisplay(LogLines):
    """Log lines; and the watch over the first load, which ends the server where a model of it can never be served.

    Args:
        server: That starts.
        poller: Started once the first load is over.
    """

    def __init__(self, server: ModelServer, poller: ConfigFilePoller | None) -> None:
        super().__init__()
        self._server = server
        self._poller = poller
        self._is_started = False

    def show(self, report: ServerReport) -> None:
        if not self._is_started and not report.starting:
            self._is_started = True
            if self._poller:
                self._poller.start()
        if report.starting and (failed := self._server.failed_models()):
            raise ServableError(unavailable_message("servable", failed))
        super().show(report)


def _show(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _show_version() -> None:
    from importlib import metadata

    from servable.version import __version__

    library = "not installed"
    for package in ("tensorflow", "tensorflow-cpu"):
        with suppress(metadata.PackageNotFoundError):
            library = metadata.version(package)
    _show(f"TensorFlow ModelServer: {__version__}", f"TensorFlow Library: {library}")


if __name__ == "__main__":
    main()
