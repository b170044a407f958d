"""Versions in child servers: each in a process of its own, which may crash, and whose end gives all its memory back."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, Any, cast

from servable import _native
from servable.engines.load import Loaded
from servable.engines.native import typed_errors
from servable.errors import Internal, Unavailable
from servable.model.formats import Format
from servable.model.manifest import read_manifest
from servable.model.signatures import signatures_from_json
from servable.replicas.job import MAX_LINE, Job, failure_of
from servable.replicas.priority import lower_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable.engines.options import EngineOptions

logger = logging.getLogger(__name__)

_FOLDER = "servable-replicas-"
_LONGEST_FOLDER = 80  # a socket's path may have 107 bytes
_STOP_S = 5.0
_LAST_REPORTS_S = 1.0
# A child gets a signal when the thread ends that started it (prctl(2), PR_SET_PDEATHSIG), so one thread starts all. It
# is behind others, and so are they from their first moment on.
_starter = ThreadPoolExecutor(1, thread_name_prefix="servable-starter", initializer=lower_thread)


class ProcessLoader:
    """Loads versions into child servers.

    Args:
        engine_threads: Of each child; 0 for one a core.

    Example:
        >>> loader = ProcessLoader()
        >>> loader.load("digits", 3, Path("models/digits/3"), EngineOptions())  # doctest: +SKIP
    """

    def __init__(self, engine_threads: int = 0) -> None:
        self._engine_threads = engine_threads
        self._lock = threading.Lock()
        self._loading: set[ChildServer] = set()
        self._folder: Path | None = None
        self._number = 0
        self._stopped = False

    def load(self, model: str, version: int, path: Path, options: EngineOptions) -> Loaded:
        """Starts a child server that loads a version, and waits for it.

        Raises:
            Unavailable: The child ended before the version was loaded, or this loader was stopped.
            ServableError: What went wrong in the child; see `servable.engines.load.load_version`.
        """
        job = Job(
            model=model,
            version=version,
            path=path.absolute(),
            socket=self._new_socket(),
            options=options,
            parent=os.getpid(),
            log_level=logging.getLogger().getEffectiveLevel(),
            engine_threads=self._engine_threads,
        )
        child = ChildServer(job)
        with self._lock:
            self._loading.add(child)
            if self._stopped:
                child.kill()
        try:
            return _loaded(child, child.wait_loaded())
        except BaseException:
            child.kill()
            raise
        finally:
            with self._lock:
                self._loading.discard(child)

    def stop(self) -> None:
        """Ends the children whose load still runs. Those that serve end when their version is unloaded."""
        with self._lock:
            self._stopped = True
            loading = list(self._loading)
        for child in loading:
            child.kill()

    def _new_socket(self) -> str:
        with self._lock:
            if self._folder is None or not self._folder.is_dir():
                self._folder = _private_folder()
            self._number += 1
            return str(self._folder / f"{self._number}.sock")

    def __del__(self) -> None:
        if self._folder:
            with suppress(OSError):
                self._folder.rmdir()  # only where no child is left


class ChildServer:
    """A child process that loads and serves one version."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._outcome: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._lock = threading.Lock()
        self._stopping = False
        self._end: str | None = None
        self._on_end: Callable[[str], None] | None = None
        self._process = _starter.submit(_start).result()
        self._stdin = cast("IO[bytes]", self._process.stdin)
        self._stdout = cast("IO[bytes]", self._process.stdout)
        self._reader = threading.Thread(target=self._read, name=f"servable-child-{self.pid}", daemon=True)
        self._reader.start()
        threading.Thread(target=self._wait, name=f"servable-wait-{self.pid}", daemon=True).start()
        with suppress(BrokenPipeError):  # ended already: that is reported like any other end
            self._stdin.write(job.to_json().encode() + b"\n")
            self._stdin.flush()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_loaded(self) -> dict[str, Any]:
        """What it reports of the version, once that is loaded.

        Raises:
            Unavailable: It ended before.
            ServableError: The load failed.
        """
        match self._outcome.get():
            case {"loaded": dict(loaded)}:
                return loaded
            case {"failed": dict(failed)}:
                raise failure_of(failed)
            case {"ended": str(why)}:
                raise Unavailable(why)
        raise Internal("The child server reported what cannot be read")

    def on_end(self, callback: Callable[[str], None]) -> None:
        """Has `callback` called, with the reason, when it ends without being told to; at once where it has."""
        with self._lock:
            self._on_end = callback
            why = self._end
        if why is not None:
            callback(why)

    def stop(self) -> None:
        """Has it end, and waits for that; kills it after some seconds."""
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            logger.warning("The process of %s did not end within %g s: killed", self._name, _STOP_S)
            self._signal(signal.SIGKILL)
            self._process.wait()

    def kill(self) -> None:
        """Ends it at once."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            self._stopping = True
        self._process.send_signal(number)

    @property
    def _name(self) -> str:
        return f"model {self.job.model} version {self.job.version}"

    def _read(self) -> None:
        """Takes reports until the pipe closes."""
        while line := self._stdout.readline(MAX_LINE):
            try:
                report = json.loads(line)
            except ValueError:
                report = None
            match report:
                case {"log": {"level": int(level), "logger": str(name), "message": str(message)}}:
                    extra = {"model": self.job.model, "version": self.job.version, "pid": self.pid}
                    logging.getLogger(name).log(level, "%s: %s", self._name, message, extra=extra)
                case {"loaded": _} | {"failed": _}:
                    self._outcome.put(report)
                case _:
                    logger.warning("The process of %s reported what cannot be read", self._name)

    def _wait(self) -> None:
        code = self._process.wait()
        # What it said last comes before the news of its end.
        self._reader.join(_LAST_REPORTS_S)
        for pipe in (self._stdin, self._stdout):
            with suppress(OSError):
                pipe.close()
        _remove_socket(Path(self.job.socket))
        why = f"The process of {self._name} (pid {self.pid}) ended by itself: {_how(code)}"
        with self._lock:
            callback = None if self._stopping else self._on_end
            if self._stopping:
                why = f"The process of {self._name} was stopped"
            else:
                self._end = why
        self._outcome.put({"ended": why})
        if callback:
            callback(why)


def _start() -> subprocess.Popen[bytes]:
    # -P: what lies in the working directory is not imported.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "servable.replicas.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_environment(),
        start_new_session=True,  # a signal to the server's group is not for its children
    )


def _environment() -> dict[str, str]:
    """This process's variables without settings: all that counts is in the job."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SERVABLE_")}
    sources = str(Path(__file__).resolve().parents[2])
    others = [path for path in plain.get("PYTHONPATH", "").split(os.pathsep) if path]
    return plain | {"PYTHONPATH": os.pathsep.join([sources, *(path for path in others if path != sources)])}


def _loaded(child: ChildServer, report: dict[str, Any]) -> Loaded:
    job, form = child.job, Format(**report["format"])
    options = {
        "address": f"unix:{job.socket}",
        "model": job.model,
        "version": str(job.version),
        "engine": form.engine,
        "footprint": report["footprint"],
        "concurrency": (os.cpu_count() or 1) + 2,
    }
    with typed_errors():
        servable = _native.load_remote(report["signatures"], json.dumps(options), child.stop)
    return Loaded(
        servable,
        signatures_from_json(servable.signatures),
        report["batch_safe"],
        report["footprint"],
        form,
        read_manifest(job.path),
        report["golden_examples"],
        report["warm_up_seconds"],
        child,
    )


def _how(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"{name} (the system does that where memory runs out)" if name == "SIGKILL" else name


def _remove_socket(socket: Path) -> None:
    with suppress(OSError):
        socket.unlink(missing_ok=True)
        socket.parent.rmdir()  # where it was the last one


def _private_folder() -> Path:
    """A folder that only this user can look into; those of servers that were killed are removed."""
    place = Path(tempfile.gettempdir())
    if len(os.fsencode(place)) > _LONGEST_FOLDER - len(_FOLDER):
        place = Path("/tmp")  # noqa: S108  # made by mkdtemp below
    for old in place.glob(f"{_FOLDER}*-*"):
        _remove_if_stale(old)
    return Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-", dir=place))


def _remove_if_stale(folder: Path) -> None:
    owner = folder.name.removeprefix(_FOLDER).partition("-")[0]
    try:
        if owner.isdigit() and folder.lstat().st_uid == os.getuid():
            os.kill(int(owner), 0)
    except ProcessLookupError:
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return
