"""The model server: the data plane, fed by a driver that follows folders."""

from __future__ import annotations

import json
import logging
import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from servable import _native
from servable.engines.native import typed_errors
from servable.errors import DeadlineExceeded, FailedPrecondition, Internal, ServableError, Unavailable
from servable.lifecycle import (
    SWAP_POLICIES,
    KeepingSource,
    Load,
    ModelOptions,
    Routes,
    State,
    VersionPolicy,
    WithheldSource,
    version_policy,
)
from servable.server.buckets import Buckets
from servable.server.demand import DemandWatch, residence_metrics
from servable.server.driver import Driver
from servable.server.engine_options import tensorflow_options_of
from servable.server.loading import VersionLoader
from servable.server.model_list import (
    Looks,
    ModelList,
    ModelListSource,
    check_labels,
    check_models,
    failures,
    unavailable_message,
    unreadable,
)
from servable.server.model_settings import ModelSettingsReader
from servable.server.native_settings import native_settings
from servable.server.places import NamedModels, places_of
from servable.server.publish import LoadedVersions, describe, first_load_is_over, not_ready
from servable.server.report import ServerReport, report_on
from servable.server.repository import Repository, repository_handler
from servable.server.request_log import describe_log, make_log_folder
from servable.server.security import Security
from servable.server.setup import manager_of, source_of
from servable.server.skew import SkewMonitor
from servable.server.watch import Watcher
from servable.settings import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from servable.engines.load import Loaded
    from servable.engines.options import TensorFlowOptions
    from servable.lifecycle import Aspired, Source
    from servable.server.loading import IsolatedLoader
    from servable.server.model_list import Failed, ModelConfig
    from servable.server.places import Places
    from servable.server.security import GrpcTlsFile
    from servable.settings import ModelSettings

logger = logging.getLogger(__name__)

_WAIT_IN_FORCE_S = 60.0
_MOST_NAMED = 10


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
        models: A folder of model folders, one model folder, model names with their folders, or a list that `reload` can
            replace. Each folder may be the URI of one in a bucket.
        settings: See `servable config`.
        tensorflow: What TensorFlow is told, where a model is for it; what the settings say if None.
        grpc_tls: Certificates for gRPC alone, instead of those of the settings.
        isolated: Loads the versions whose `isolation` is `process`; see `servable.replicas.ProcessLoader`.
        on_change: Called, on the driver's thread, with the routes whenever they or a status have changed.

    Example:
        >>> with ModelServer("models", ServerSettings(rest_port=0)) as server:  # doctest: +SKIP
        ...     server.wait_until_ready()
        ...     print(server.addresses.rest)
    """

    def __init__(
        self,
        models: str | Path | Mapping[str, str | Path] | ModelList,
        settings: ServerSettings | None = None,
        *,
        tensorflow: TensorFlowOptions | None = None,
        grpc_tls: GrpcTlsFile | None = None,
        isolated: IsolatedLoader | None = None,
        on_change: Callable[[Routes], None] | None = None,
    ) -> None:
        self.settings = settings or ServerSettings()
        self._loader = VersionLoader(self.settings, tensorflow or tensorflow_options_of(self.settings), isolated)
        self._on_change = on_change
        self._model_settings = ModelSettingsReader(self.settings)
        self._list = models if isinstance(models, ModelList) else None
        self._list_source = ModelListSource(self._policy_of, self.settings.settle)
        self._buckets = Buckets(self.settings, self._policy_of, self.look_now)
        if isinstance(models, ModelList):
            check_labels(models.models, {}, Routes(), allow_unavailable=models.labels_for_unavailable)
            self._list_source.replace(self._buckets.take_list(models.models))
            source: Source = self._list_source
            folders = [config.folder for config in self._list_source.configs.values()]
            places: Places = NamedModels(
                lambda: {name: config.folder for name, config in self._list_source.configs.items()}
            )
        else:
            local = self._buckets.take_folders(models)
            source, folders = source_of(local, self.settings, self._policy_of)
            places = places_of(source, local)
        self._source = WithheldSource(KeepingSource(self._buckets.source(source), self._keeps))
        self.repository = Repository(weakref.ref(self), self._buckets.places(places), self.settings)
        self._security = Security(self.settings, grpc_tls)
        self._native = _native.Server(
            json.dumps(native_settings(self.settings) | self._security.native_settings()),
            _reload_by_clients(self) if self._list and self._list.reload else None,
            repository_handler(self.repository),
            logger.warning,
        )
        self._skew = SkewMonitor(
            self._native.take_inputs,
            self._native.set_skew_metrics,
            lambda model, version: self._settings_of_version(model, version).skew_threshold,
        )
        self._demand = DemandWatch(self._native, self.demand) if self.settings.on_demand else None
        self._driver = Driver(
            manager_of(self.settings),
            self._load,
            self._publish,
            self._is_started,
            self._demand.usage if self._demand else None,
        )
        self._watcher = Watcher(
            self._source,
            folders,
            self._report,
            poll_interval=self.settings.poll_interval,
            settle=self.settings.settle,
            follow=self._list is None or self._list.looks is Looks.FOLLOW,
        )
        self._routes = Routes()
        self._loaded: LoadedVersions = {}
        self._starting = True
        self._changed = threading.Condition()
        self._folders: dict[str, Path] = {}
        self._request_logs: dict[str, dict[str, Any] | None] = {}
        self._skew_samples: dict[str, float] = {}
        self._version_settings: dict[tuple[str, int], ModelSettings] = {}
        self._arriving: frozenset[str] = frozenset()
        self._replacing = threading.Lock()
        self._stopping = False
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
        if self.settings.request_log:
            make_log_folder(self.settings.request_log)
        with typed_errors():
            self.addresses = Addresses(**json.loads(self._native.start()), tls=bool(self.settings.tls_cert))
        self._security.follow(self._native)
        self._driver.start()
        if self._demand:
            self._demand.start()
        if self._list is None or self._list.looks is not Looks.NEVER:
            self._watcher.start()
            self._buckets.start(once=self._list is not None and self._list.looks is Looks.ONCE)
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
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
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
            self._buckets.stop()
            self._watcher.stop()
            self._skew.stop()
            self._loader.stop()
            if self._demand:
                self._demand.stop()
            self._driver.stop(wait=finished)
        return finished

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- another list of models

    def reload(self, models: Sequence[ModelConfig], timeout: float | None = None, *, wait: bool = True) -> None:
        """Replaces the list of models: what is missing from it is unloaded, what is new in it is loaded.

        The list is taken as a whole or refused as a whole. It stays in force where a new model then fails to load.

        Args:
            models: The new list.
            timeout: Seconds to wait for the new models; the setting `reload_timeout` if None.
            wait: Until each model that was not in the list before has a version that answers.

        Raises:
            InvalidArgument: The list is not one that can be served, or changes the platform of a model.
            FailedPrecondition: A label may not be set now, the server was started without a list, or another list came
                before the models of this one were loaded.
            DeadlineExceeded: The models were not there in time. Loading goes on.
            Unavailable: The server stopped meanwhile.
            ServableError: A new model cannot be loaded; the message says why.
        """
        if self._list is None:
            raise FailedPrecondition("The server follows folders: it has no list of models that could be replaced")
        with self._replacing:
            known = self._list_source.configs
            check_models(models, known)
            check_labels(models, known, self.routes, allow_unavailable=self._list.labels_for_unavailable)
            new = {config.name for config in models if config.name not in known}
            self._replace(models, self._list.looks)
            with self._changed:
                self._changed.notify_all()
        if wait:
            self._wait_for_models(new, self.settings.reload_timeout if timeout is None else timeout)

    def _replace(self, models: Sequence[ModelConfig], looks: Looks) -> None:
        models = self._buckets.take_list(models)
        if looks is Looks.NEVER:
            self._list_source.replace(models)
            return
        self._watcher.watch(config.folder for config in models)
        self.look_at_once(lambda _: self._list_source.replace(models))

    def _wait_for_models(self, names: Iterable[str], timeout: float) -> None:
        """Waits until each model answers or has failed."""
        missing: set[str] = set()
        failed: dict[str, Failed] = {}

        def is_over() -> bool:
            nonlocal missing, failed
            missing = {name for name in names if not self._answers(name)}
            failed = failures(missing, self._routes, self._arriving) | unreadable(missing, self._routes)
            is_replaced = not missing <= self._list_source.configs.keys()
            return self._stopping or is_replaced or missing <= failed.keys()

        with self._changed:
            in_time = self._changed.wait_for(is_over, timeout)
        if failed:
            raise ServableError(unavailable_message("model", failed))
        if not in_time:
            late = ", ".join(sorted(missing)[:_MOST_NAMED])
            raise DeadlineExceeded(f"These models have no version that answers after {timeout:g} s: {late}")
        if missing and self._stopping:
            raise Unavailable("The server is stopping")
        if missing:
            raise FailedPrecondition("Another list of models has replaced this one before its models were loaded")

    def _answers(self, name: str) -> bool:
        route = self._routes.models.get(name)
        return route is not None and route.answers

    def failed_models(self) -> dict[str, Failed]:
        """The models of the list that have no version and will get none: name -> the version that failed, and why."""
        with self._changed:
            return failures(self._list_source.configs, self._routes, self._arriving)

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

    def demand(self, models: list[str]) -> None:
        """Has these models loaded, as if requests waited for them. Those that are loaded are passed over."""
        self._driver.demand(models)

    def look_now(self) -> None:
        """Looks at the folders again at once."""
        self._watcher.look_now()

    def look_at_once(self, prepare: Callable[[WithheldSource], None] = lambda _: None) -> None:
        """Looks at the folders on this thread, and returns once what follows from it is in force.

        Args:
            prepare: Called before the look, with the source, between other looks.
        """
        in_force = self._watcher.look_at_once(lambda: prepare(self._source))
        if isinstance(in_force, threading.Event):
            in_force.wait(_WAIT_IN_FORCE_S)

    @property
    def source(self) -> WithheldSource:
        """What is wanted, and which models were unloaded by name."""
        return self._source

    @property
    def stopping(self) -> bool:
        """Whether `drain` or `stop` was called."""
        return self._stopping

    def wait_for(self, condition: Callable[[Routes], bool], timeout: float | None = 60.0) -> bool:
        """Waits until the routes meet a condition; False after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self._routes), timeout)

    # --- how: called by watcher and driver

    def _policy_of(self, folder: Path) -> VersionPolicy:
        return version_policy(self._model_settings.read(folder).version_policy)

    def _is_started(self, routes: Routes) -> bool:
        if self._list is None or not self._list.wait_for_all:
            return first_load_is_over(routes)
        listed = self._list_source.configs
        return all(name in routes.models and routes.models[name].answers for name in listed)

    def _report(self, aspired: list[Aspired]) -> threading.Event:
        self._arriving = frozenset(item.model for item in aspired if item.settling and not item.versions)
        options = {}
        for item in aspired:
            places = (*item.versions, *item.fallbacks)
            if places:
                self._folders[item.model] = places[0].path.parent
            options[item.model] = self._options_of(item.model)
        self._describe_logs([item.model for item in aspired])
        return self._driver.aspire(aspired, options)

    def _describe_logs(self, models: Sequence[str]) -> None:
        listed = self._list_source.configs
        logs = {
            model: describe_log(model, self._settings_of(model), listed[model].request_log if model in listed else None)
            for model in models
        }
        samples = {model: self._settings_of(model).skew_sample for model in models}
        if (logs, samples) != (self._request_logs, self._skew_samples):
            self._request_logs, self._skew_samples = logs, samples
            self._driver.publish_again()

    def _options_of(self, model: str) -> ModelOptions:
        settings = self._settings_of(model)
        listed = self._list_source.configs.get(model)
        labels = settings.labels if listed is None or listed.labels is None else listed.labels
        return ModelOptions(dict(labels), SWAP_POLICIES[settings.swap_policy])

    def _settings_of(self, model: str) -> ModelSettings:
        return self._model_settings.last(self._folders.get(model))

    def _keeps(self, model: str) -> bool:
        return self._settings_of(model).versions_always_present

    def _settings_of_version(self, model: str, version: int) -> ModelSettings:
        return self._version_settings.get((model, version)) or self._settings_of(model)

    def _forget_ended(self, routes: Routes) -> None:
        for model, version in list(self._version_settings):
            known = routes.models[model].status.versions if model in routes.models else ()
            if all(each.version != version or each.state is State.END for each in known):
                self._version_settings.pop((model, version), None)

    def _load(self, action: Load) -> Loaded:
        settings = self._model_settings.last(action.path.parent)
        if self._list and self._list.version_settings:
            settings = self._list.version_settings(action.path, settings)
            self._version_settings[action.model, action.version] = settings
        return self._loader.load(action, settings)

    def _publish(self, routes: Routes, loaded: LoadedVersions, starting: bool) -> None:
        snapshot = describe(
            routes,
            loaded,
            self._settings_of_version,
            starting=starting,
            metrics=self._loader.metrics.page() + residence_metrics(routes),
            request_logs=self._request_logs,
        )
        try:
            with typed_errors():
                self._native.apply(snapshot.description, snapshot.servables)
        except ServableError:
            logger.exception("The routes could not be published; the ones before stay in force")
            return
        self._forget_ended(routes)
        self._skew.follow(loaded)
        with self._changed:
            self._routes, self._loaded, self._starting = routes, dict(loaded), starting
            self._changed.notify_all()
        self._buckets.published(routes)
        if self._on_change:
            self._on_change(routes)


def _reload_by_clients(server: ModelServer) -> Callable[[bytes], None]:
    """What the data plane calls. It must not keep the server alive, which owns the data plane."""
    reference = weakref.ref(server)

    def reload(request: bytes) -> None:
        server = reference()
        handler = server._list.reload if server and server._list else None  # noqa: SLF001  # part of it
        if server is None or handler is None:
            raise Unavailable("The server is stopping")
        try:
            handler(server, request)
        except ServableError:
            raise
        except Exception as error:
            logger.exception("The reload failed")
            raise Internal(f"The reload failed: {type(error).__name__}: {error}") from error

    return reload
