"""The model server: the data plane, fed by a driver that follows folders."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from servable import _native
from servable.engines.load import load_version
from servable.engines.native import typed_errors
from servable.engines.options import EngineOptions
from servable.errors import InvalidArgument, ServableError, Unavailable
from servable.lifecycle import (
    SWAP_POLICIES,
    FolderSource,
    FoldersSource,
    ListSource,
    Load,
    Manager,
    ManagerSettings,
    ModelOptions,
    Routes,
    VersionPolicy,
    is_model_folder,
    version_policy,
)
from servable.server.driver import Driver
from servable.server.memory import default_budget
from servable.server.model_settings import ModelSettingsReader
from servable.server.publish import LoadedVersions, describe, not_ready
from servable.server.report import ServerReport, report_on
from servable.server.security import Security
from servable.server.watch import Watcher
from servable.settings import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from servable.engines.load import Loaded
    from servable.lifecycle import Aspired, Source
    from servable.settings import ModelSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a server listens: `host:port`, or None for what is off.

    Attributes:
        rest: REST, the metrics page and the health pages.
        grpc: gRPC over TCP.
        grpc_socket: Path of gRPC's Unix socket.
        tls: Whether REST and gRPC over TCP speak TLS.
    """

    rest: str | None
    grpc: str | None
    grpc_socket: str | None
    tls: bool = False


class ModelServer:
    """Serves the models of a folder over REST and gRPC, and follows what happens in it.

    Args:
        models: A folder of model folders, one model folder, or model names with their folders.
        settings: See `servable config`.
        on_change: Called, on the driver's thread, with the routes whenever they or a status have changed.

    Example:
        >>> with ModelServer("models", ServerSettings(rest_port=0)) as server:  # doctest: +SKIP
        ...     server.wait_until_ready()
        ...     print(server.addresses.rest)
    """

    def __init__(
        self,
        models: str | Path | Mapping[str, str | Path],
        settings: ServerSettings | None = None,
        *,
        on_change: Callable[[Routes], None] | None = None,
    ) -> None:
        self.settings = settings or ServerSettings()
        self._on_change = on_change
        self._model_settings = ModelSettingsReader(self.settings)
        source, folders = _source(models, self.settings, self._policy_of)
        self._security = Security(self.settings)
        self._native = _native.Server(json.dumps(_native_settings(self.settings) | self._security.native_settings()))
        self._driver = Driver(_manager(self.settings), self._load, self._publish)
        self._watcher = Watcher(
            source,
            folders,
            self._report,
            poll_interval=self.settings.poll_interval,
            settle=self.settings.settle,
        )
        self._routes = Routes()
        self._loaded: LoadedVersions = {}
        self._starting = True
        self._changed = threading.Condition()
        self._folders: dict[str, Path] = {}
        self._stopped = False
        self._finished: bool | None = None
        self.addresses = Addresses(None, None, None)

    # --- life

    def start(self) -> Addresses:
        """Binds the ports and begins to load. Requests are answered with 503 until the first load is over.

        Raises:
            FailedPrecondition: A port is taken, or a file cannot be opened.
            InvalidArgument: The certificates cannot be used.
        """
        with typed_errors():
            self.addresses = Addresses(**json.loads(self._native.start()), tls=bool(self.settings.tls_cert))
        self._security.follow(self._native)
        self._driver.start()
        self._watcher.start()
        return self.addresses

    def wait_until_ready(self, timeout: float | None = 60.0) -> None:
        """Returns once every model has a version that answers.

        Raises:
            Unavailable: After `timeout` seconds, or as soon as the first load is over and a model has none; says why.
        """
        with self._changed:
            in_time = self._changed.wait_for(lambda: not self._starting, timeout)
            reasons = not_ready(self._routes) if in_time else [f"The models were not loaded within {timeout} s"]
        if reasons:
            raise Unavailable("; ".join(reasons))

    def drain(self, grace: float | None = None) -> bool:
        """Refuses what is new, and finishes what was accepted. A second call does nothing.

        Args:
            grace: Seconds; the setting `grace_period` if None.

        Returns:
            Whether every accepted request was finished.
        """
        if self._finished is None:
            self._finished = self._native.stop(self.settings.grace_period if grace is None else grace)
        return self._finished

    def stop(self, grace: float | None = None) -> bool:
        """Drains, and unloads everything. A second call does nothing.

        Args:
            grace: As for `drain`.

        Returns:
            Whether every accepted request was finished.
        """
        finished = self.drain(grace)
        if not self._stopped:
            self._stopped = True
            self._security.stop()
            self._watcher.stop()
            self._driver.stop(wait=finished)
        return finished

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- what is there

    @property
    def routes(self) -> Routes:
        """What is served now, and the status of every version."""
        with self._changed:
            return self._routes

    def report(self) -> ServerReport:
        """What there is to say of every version, for people."""
        with self._changed:
            routes, loaded, starting = self._routes, self._loaded, self._starting
        return report_on(routes, loaded, self._settings_of, starting=starting)

    def metrics(self) -> str:
        """The page that Prometheus reads."""
        with typed_errors():
            return self._native.metrics()

    def look_now(self) -> None:
        """Looks at the folders again at once."""
        self._watcher.look_now()

    def wait_for(self, condition: Callable[[Routes], bool], timeout: float | None = 60.0) -> bool:
        """Waits until the routes meet a condition; False after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self._routes), timeout)

    # --- how: called by watcher and driver

    def _policy_of(self, folder: Path) -> VersionPolicy:
        return version_policy(self._model_settings.read(folder).version_policy)

    def _report(self, aspired: list[Aspired]) -> None:
        options = {}
        for item in aspired:
            places = (*item.versions, *item.fallbacks)
            if places:
                self._folders[item.model] = places[0].path.parent
            options[item.model] = self._options_of(item.model)
        self._driver.aspire(aspired, options)

    def _options_of(self, model: str) -> ModelOptions:
        settings = self._settings_of(model)
        return ModelOptions(dict(settings.labels), SWAP_POLICIES[settings.swap_policy])

    def _settings_of(self, model: str) -> ModelSettings:
        return self._model_settings.last(self._folders.get(model))

    def _load(self, action: Load) -> Loaded:
        settings = self._model_settings.last(action.path.parent)
        threads = EngineOptions(settings.intra_op_threads or _cores(), settings.inter_op_threads or _cores())
        return load_version(action.path, threads)

    def _publish(self, routes: Routes, loaded: LoadedVersions, starting: bool) -> None:
        snapshot = describe(routes, loaded, self._settings_of, starting=starting)
        try:
            with typed_errors():
                self._native.apply(snapshot.description, snapshot.servables)
        except ServableError:
            logger.exception("The routes could not be published; the ones before stay in force")
            return
        with self._changed:
            self._routes, self._loaded, self._starting = routes, dict(loaded), starting
            self._changed.notify_all()
        if self._on_change:
            self._on_change(routes)


def _cores() -> int:
    import os

    return os.cpu_count() or 1


def _manager(settings: ServerSettings) -> Manager:
    return Manager(
        ManagerSettings(
            swap=SWAP_POLICIES[settings.swap_policy],
            memory_budget=settings.memory_budget or default_budget(),
            max_load_retries=settings.load_retries,
            load_retry_interval=settings.load_retry_interval,
            max_concurrent_loads=settings.load_threads,
        )
    )


def _source(
    models: str | Path | Mapping[str, str | Path], settings: ServerSettings, policy: Callable[[Path], VersionPolicy]
) -> tuple[Source, list[Path]]:
    if not isinstance(models, (str, Path)):
        paths = {name: Path(path).absolute() for name, path in models.items()}
        policies = dict.fromkeys(paths, policy)
        return ListSource(paths, policies=policies, settle=settings.settle), list(paths.values())
    folder = Path(models).absolute()
    if not folder.is_dir():
        raise InvalidArgument(
            f"There is no folder {folder}", hint="name a folder of models, or the folder of one model's versions"
        )
    if is_model_folder(folder):
        return FolderSource(folder.name, folder, policy=policy, settle=settings.settle), [folder]
    return FoldersSource(folder, policy=policy, settle=settings.settle), [folder]


def _native_settings(settings: ServerSettings) -> dict[str, object]:
    """The settings that the data plane knows (`native/dataplane/src/listen/settings.rs`)."""
    from servable.version import __version__

    def address(port: int | None) -> str:
        host = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
        return "" if port is None else f"{host}:{port}"

    known = asdict(settings)
    same = ("grpc_socket_path", "io_threads", "engine_threads", "max_rows", "max_connections", "max_queued_bytes")
    return {name: known[name] for name in (*same, "metrics_path", "tensor_content", "cors")} | {
        "rest_address": address(settings.rest_port),
        "grpc_address": address(settings.grpc_port),
        "max_body_bytes": settings.max_body_size,
        "max_header_bytes": settings.max_header_size,
        "send_timeout_s": settings.send_timeout,
        "request_timeout_s": settings.request_timeout,
        "max_held": settings.max_held_requests,
        "access_log": {"off": "", "stderr": "-"}.get(settings.access_log, settings.access_log),
        "server_version": __version__,
    }
