"""The driver: one thread that lets the manager decide, publishes, and starts loads and unloads.

Everything that happens comes as an event into one queue, so the manager needs no lock. Loads and unloads run on
threads of their own; however long one takes, the driver goes on.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from servable.errors import Unavailable
from servable.lifecycle import Failure, Load, Unload
from servable.server.publish import first_load_is_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from servable.engines.load import Loaded
    from servable.lifecycle import Aspired, Manager, ModelOptions, Routes, Use
    from servable.server.publish import LoadedVersions

logger = logging.getLogger(__name__)

_WAIT_ENDED_S = 60.0
_WAIT_STOPPED_S = 10.0


@dataclass(frozen=True, slots=True)
class _Wanted:
    aspired: list[Aspired]
    options: Mapping[str, ModelOptions]
    in_force: threading.Event


@dataclass(frozen=True, slots=True)
class _LoadDone:
    action: Load
    outcome: Loaded | Failure
    seconds: float


@dataclass(frozen=True, slots=True)
class _Crashed:
    action: Load
    loaded: Loaded
    reason: str


@dataclass(frozen=True, slots=True)
class _Ended:
    action: Unload


@dataclass(frozen=True, slots=True)
class _Demanded:
    models: list[str]


@dataclass(frozen=True, slots=True)
class _PublishAgain:
    pass


@dataclass(frozen=True, slots=True)
class _Stop:
    pass


_Event = _Wanted | _LoadDone | _Crashed | _Ended | _Demanded | _PublishAgain | _Stop


class Driver:
    """Drives a manager.

    Args:
        manager: Decides. From `start` on only the driver's thread may touch it.
        load: Loads one version; runs on a thread of its own and may take long.
        publish: Makes routes the ones in force: `publish(routes, loaded, starting)`.
        is_started: Whether the first load is over with these routes. Asked until it is.
        usage: How the models that serve are used, where the manager has to know.
    """

    def __init__(
        self,
        manager: Manager,
        load: Callable[[Load], Loaded],
        publish: Callable[[Routes, LoadedVersions, bool], None],
        is_started: Callable[[Routes], bool] = first_load_is_over,
        usage: Callable[[], Mapping[str, Use]] | None = None,
    ) -> None:
        self._manager = manager
        self._load = load
        self._publish = publish
        self._is_started = is_started
        self._usage = usage
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._loaded: LoadedVersions = {}
        self._published: tuple[int, bool] | None = None
        self._crashed: list[Loaded] = []
        self._told: dict[str, frozenset[str]] = {}
        self._started = False
        self._looked = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="servable-driver", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def aspire(self, aspired: list[Aspired], options: Mapping[str, ModelOptions]) -> threading.Event:
        """Takes over what is wanted. From any thread.

        Returns:
            Set when the routes that follow are published, or never will be because the driver has ended.
        """
        in_force = threading.Event()
        self._events.put(_Wanted(aspired, options, in_force))
        if self._ended:
            in_force.set()
        return in_force

    def demand(self, models: list[str]) -> None:
        """Requests wait for these models. From any thread."""
        self._events.put(_Demanded(models))

    def publish_again(self) -> None:
        """Publishes the routes although they stay: something else in the snapshot has changed. From any thread."""
        self._events.put(_PublishAgain())

    def stop(self, *, wait: bool = True) -> None:
        """Ends the driver and releases everything that is loaded. Loads that still run are abandoned.

        Args:
            wait: For the unloads; in vain where requests that were cut off still use a version.
        """
        self._events.put(_Stop())
        self._thread.join()
        self._ended = True
        while not self._events.empty():
            _set_in_force([self._events.get()])
        servables = [loaded.servable for loaded in list(self._loaded.values())]
        self._loaded.clear()
        for servable in servables:
            servable.release()
        for servable in servables if wait else ():
            servable.wait_ended(_WAIT_STOPPED_S)

    def _run(self) -> None:
        while True:
            events = self._next_events()
            if any(isinstance(event, _Stop) for event in events):
                _set_in_force(events)
                return
            for event in events:
                self._take(event)
            if self._usage:
                self._manager.used(self._usage(), time.monotonic())
            actions = self._manager.step(time.monotonic())
            self._publish_if_changed()
            self._release_crashed()
            _set_in_force(events)
            # Only now: no request finds a version that is being unloaded.
            for action in actions:
                self._begin(action)

    def _next_events(self) -> list[_Event]:
        """What has happened; waits for it, or until the manager has to be asked again."""
        now = time.monotonic()
        wake = self._manager.next_wake(now)
        try:
            events = [self._events.get(timeout=None if wake is None else max(wake - now, 0.001))]
        except queue.Empty:
            return []
        while not self._events.empty():
            events.append(self._events.get())
        return events

    def _tell(self, aspired: list[Aspired]) -> None:
        """Logs what was remarked about each model: once, until it is no longer so."""
        for item in aspired:
            remarks = frozenset([*([item.error.message] if item.error else []), *item.notes])
            for remark in sorted(remarks - self._told.pop(item.model, frozenset())):
                logger.warning("Model %s: %s", item.model, remark)
            if remarks:
                self._told[item.model] = remarks

    def _take(self, event: _Event) -> None:
        now = time.monotonic()
        match event:
            case _Wanted(aspired, options, _):
                # A version that is still being copied when the server starts belongs to the first load.
                self._looked = self._looked or not any(item.settling and not item.versions for item in aspired)
                self._tell(aspired)
                self._manager.configure(options)
                self._manager.aspire(aspired, now)
            case _LoadDone(action, Failure() as failure, seconds):
                logger.error(
                    "Loading failed: model %s version %d, try %d, after %.2f s: %s",
                    action.model, action.version, action.attempt, seconds, failure.message,
                )  # fmt: skip
                self._manager.load_failed(action.model, action.version, failure, now)
            case _LoadDone(action, outcome, seconds) if not isinstance(outcome, Failure):
                logger.info("Loaded: model %s version %d in %.2f s", action.model, action.version, seconds)
                self._loaded[action.model, action.version] = outcome
                self._manager.loaded(action.model, action.version, outcome.footprint, now)
                self._watch(action, outcome)
            case _Crashed(action, loaded, reason):
                self._take_crash(action, loaded, reason, now)
            case _Demanded(models):
                self._manager.demanded(models, now)
            case _PublishAgain():
                self._published = None
            case _Ended(action):
                logger.info("Unloaded: model %s version %d", action.model, action.version)
                self._manager.ended(action.model, action.version, now)
            case _:
                pass

    def _watch(self, action: Load, loaded: Loaded) -> None:
        if loaded.process:
            loaded.process.on_end(lambda reason: self._events.put(_Crashed(action, loaded, reason)))

    def _take_crash(self, action: Load, loaded: Loaded, reason: str, now: float) -> None:
        key = (action.model, action.version)
        if self._loaded.get(key) is not loaded:
            return
        if self._manager.crashed(*key, Failure.of(Unavailable(reason)), now):
            logger.error("Crashed: %s", reason, extra={"model": action.model, "version": action.version})
            self._crashed.append(self._loaded.pop(key))

    def _release_crashed(self) -> None:
        """Only now: the routes no longer lead to it."""
        for loaded in self._crashed:
            loaded.servable.release()
        self._crashed.clear()

    def _publish_if_changed(self) -> None:
        routes = self._manager.routes()
        self._started = self._started or (self._looked and self._is_started(routes))
        state = (routes.revision, self._started)
        if state != self._published:
            self._publish(routes, self._loaded, not self._started)
            self._published = state

    def _begin(self, action: Load | Unload) -> None:
        work = self._run_load if isinstance(action, Load) else self._run_unload
        name = f"servable-{type(action).__name__.lower()}-{action.model}-{action.version}"
        threading.Thread(target=work, args=(action,), name=name, daemon=True).start()

    def _run_load(self, action: Load) -> None:
        logger.info("Loading: model %s version %d from %s", action.model, action.version, action.path)
        start = time.monotonic()
        outcome: Loaded | Failure
        try:
            outcome = self._load(action)
        except Exception as error:
            logger.debug("Traceback of the failed load", exc_info=True)
            outcome = Failure.of(error)
        self._events.put(_LoadDone(action, outcome, time.monotonic() - start))

    def _run_unload(self, action: Unload) -> None:
        servable = self._loaded.pop((action.model, action.version)).servable
        servable.release()
        while not servable.wait_ended(_WAIT_ENDED_S):
            logger.warning(
                "Model %s version %d is still in use by requests %g s after it was taken out of service",
                action.model, action.version, _WAIT_ENDED_S,
            )  # fmt: skip
        self._events.put(_Ended(action))


def _set_in_force(events: Iterable[_Event]) -> None:
    """Lets those go on who wait for what they want to be in force."""
    for event in events:
        if isinstance(event, _Wanted):
            event.in_force.set()
