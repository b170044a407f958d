"""A child server: one version in a process of its own. Started by `servable.replicas.process`, not by people.

It takes a job from standard input, loads the version as any server does, serves it on a Unix socket, and ends with
SIGTERM or with its parent. Standard output carries its reports; whatever else writes there goes to standard error.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

from servable import _native
from servable.engines.load import Loaded, load_version, version_format
from servable.engines.native import typed_errors
from servable.lifecycle import ModelRoute, ModelStatus, Routes, State, VersionStatus
from servable.model.manifest import read_manifest
from servable.replicas.job import MAX_LINE, Job, describe_failure, describe_loaded
from servable.replicas.priority import lower_process, raise_process, use_processors
from servable.server.publish import describe
from servable.settings import PerModelSettings

_PR_SET_PDEATHSIG = 1
_ENDINGS = (signal.SIGTERM, signal.SIGINT)
_STOP_S = 2.0
_ORPHANED = 1
_MAX_MESSAGE = (1 << 31) - 1


class Reports:
    """The pipe to the parent. Calls may come from any thread."""

    def __init__(self) -> None:
        # Libraries that print must not get into the reports.
        self._pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def send(self, kind: str, content: dict[str, Any]) -> None:
        line = json.dumps({kind: content}, default=str)
        with self._lock:
            self._pipe.write(line + "\n")
            self._pipe.flush()


class ReportHandler(logging.Handler):
    """Log records as reports."""

    def __init__(self, reports: Reports) -> None:
        super().__init__()
        self._reports = reports

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # With the trace, where there is one: that is what a plain formatter adds.
            message = logging.Formatter().format(record)
            self._reports.send("log", {"level": record.levelno, "logger": record.name, "message": message})
        except Exception:  # logging must never end what it tells of
            self.handleError(record)


def main() -> NoReturn:
    """Runs the child until it is told to end."""
    # Waited for at the end. Threads inherit it, so no library's thread takes the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    reports = Reports()
    job = Job.from_json(sys.stdin.buffer.readline(MAX_LINE))
    _end_with(job.parent)
    logging.basicConfig(level=job.log_level, handlers=[ReportHandler(reports)], force=True)
    logging.captureWarnings(capture=True)
    try:
        if version_format(job.path, read_manifest(job.path), job.options).engine == "python":
            # What it imports may count the processors, once and for all.
            use_processors(job.parent)
        loaded = load_version(job.path, job.options)
        raise_process(job.parent)
        server = _serve(job, loaded)
    except Exception as error:
        logging.getLogger(__name__).debug("Traceback of the failed load", exc_info=True)
        reports.send("failed", describe_failure(error))
        os._exit(0)
    reports.send("loaded", describe_loaded(loaded, _resident_bytes()))
    signal.sigwait(_ENDINGS)
    lower_process()
    server.stop(_STOP_S)
    # Nothing is left to be done, and threads that still run in a model must not find the interpreter gone.
    os._exit(0)


def _end_with(parent: int) -> None:
    """Has this process end when its parent does, however that ends."""

    def wait_for_the_end() -> None:
        sys.stdin.buffer.read()
        os._exit(_ORPHANED)

    threading.Thread(target=wait_for_the_end, name="servable-parent", daemon=True).start()
    if sys.platform == "linux":
        # For the moments in which the thread above cannot run, because a model holds the interpreter.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:
            os._exit(_ORPHANED)


def _serve(job: Job, loaded: Loaded) -> _native.Server:
    """The data plane with this one version, whose requests were checked and joined by the parent."""
    settings = {
        "rest_address": "",
        "grpc_address": "",
        "grpc_socket_path": job.socket,
        "engine_threads": job.engine_threads,
        "max_body_bytes": _MAX_MESSAGE,
        "max_queued_bytes": 0,
        "send_timeout_s": 0,
        "request_timeout_s": 0,
    }
    status = ModelStatus((VersionStatus(job.version, State.AVAILABLE, 0.0),))
    routes = Routes(1, {job.model: ModelRoute(job.version, (job.version,), {}, hold=False, status=status)})
    served = describe(
        routes,
        {(job.model, job.version): loaded},
        # The parent joins requests and looks for skew.
        lambda _model, _version: PerModelSettings(batch="off", max_queued_rows=1 << 30, skew_sample=0.0),
        starting=False,
    )
    with typed_errors():
        server = _native.Server(json.dumps(settings))
        server.start()
        server.apply(served.description, served.servables)
    return server


def _resident_bytes() -> int:
    """What this process holds of the machine's memory, or 0 where that cannot be told."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


if __name__ == "__main__":
    main()
