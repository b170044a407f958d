"""The manager: compares what is aspired with what is there, and says which load or unload is to start.

It is pure: it starts nothing, and time comes in as `now`, in seconds of any clock that does not go back. Who drives it
reports what happened (`loaded`, `load_failed`, `crashed`, `ended`), calls `step` after each report and at `next_wake`,
publishes `routes()` if `revision` has changed, and only then starts the actions that `step` returned, so that no
request finds a version that is being unloaded:

    aspired  ->  Manager  ->  Load, Unload  ->  loader  ->  loaded, load_failed, ended  ->  Manager

Guarantees: a version is loaded by at most one load at a time, and never while its old self is still in memory; what
is aspired and available is not unloaded; an error or a slow load of one model holds up no other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from servable.errors import Internal, SettingsError
from servable.lifecycle.aspired import Aspired
from servable.lifecycle.capacity import Capacity, places_since
from servable.lifecycle.demand import Demand, Room
from servable.lifecycle.model import Model
from servable.lifecycle.policies import Action, ServableAction, SwapPolicy, auto, availability, estimate, resource
from servable.lifecycle.routes import ModelStatus, Routes
from servable.lifecycle.states import Failure
from servable.lifecycle.version import Retries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from servable.lifecycle.eviction import Use
    from servable.lifecycle.policies import ModelView

MAX_GONE_MODELS = 100
"""Models of which nothing is wanted or left whose status is kept."""


@dataclass(frozen=True, slots=True)
class Load:
    """Start to load this version. `attempt` counts from 1."""

    model: str
    version: int
    path: Path
    attempt: int


@dataclass(frozen=True, slots=True)
class Unload:
    """Start to drain and unload this version. The routes no longer lead to it."""

    model: str
    version: int


@dataclass(frozen=True, slots=True)
class ManagerSettings:
    """How the manager goes about its work.

    Attributes:
        swap: How a new version takes the place of an old one.
        memory_budget: Bytes that all versions together may hold, for the swap policy `auto`. None for no limit.
        max_load_retries: How often a failed load is tried again.
        load_retry_interval: Seconds before each retry.
        max_concurrent_loads: Loads that run at one time. A model with a load running leaves the last place to others.
        slow_load: Seconds after which a running load no longer takes a place. It goes on; but it keeps nobody waiting.
        on_demand: Models that do not fit into the memory budget are loaded when a request asks for them, and those used
            least recently make room. The budget then binds: `availability` works as `auto`.
        min_residence: Seconds that a model stays in memory at least once it serves, before it may be evicted. Without,
            two models that are asked for in turn would be loaded for every single request.

    Raises:
        SettingsError: A number is out of its range.
    """

    swap: SwapPolicy = availability
    memory_budget: int | None = None
    max_load_retries: int = 5
    load_retry_interval: float = 60.0
    max_concurrent_loads: int = 4
    slow_load: float = 60.0
    on_demand: bool = False
    min_residence: float = 3.0

    def __post_init__(self) -> None:
        lowest = {
            "max_load_retries": 0,
            "load_retry_interval": 0,
            "max_concurrent_loads": 1,
            "slow_load": 0,
            "min_residence": 0,
        }
        for name, least in lowest.items():
            if not getattr(self, name) >= least:
                raise SettingsError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.memory_budget is not None and self.memory_budget <= 0:
            raise SettingsError(f"memory_budget must be over 0 bytes, got {self.memory_budget}")


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What is said of one model.

    Attributes:
        labels: Label -> version. The version need not be there; its label then leads nowhere.
        swap: Its own swap policy, None for that of the manager.
    """

    labels: Mapping[str, int] = field(default_factory=dict)
    swap: SwapPolicy | None = None


class Manager:
    """Decides what is loaded and unloaded, of all models.

    Example:
        >>> from pathlib import Path
        >>> from servable.lifecycle import Fingerprint, VersionPath
        >>> manager = Manager()
        >>> digits = VersionPath(1, Path("models/digits/1"), Fingerprint("f1"))
        >>> manager.aspire([Aspired("digits", (digits,))], now=0.0)
        >>> manager.step(now=0.0)
        [Load(model='digits', version=1, path=PosixPath('models/digits/1'), attempt=1)]
        >>> manager.loaded("digits", 1, footprint_bytes=5_000_000, now=0.4)
        >>> manager.routes().models["digits"].default
        1
    """

    def __init__(self, settings: ManagerSettings | None = None) -> None:
        self._settings = settings or ManagerSettings()
        self._retries = Retries(self._settings.max_load_retries, self._settings.load_retry_interval)
        self._models: dict[str, Model] = {}
        self._options: Mapping[str, ModelOptions] = {}
        self._discarded: list[Unload] = []
        self._starved = False
        self._demand = Demand(self._models, self._settings.memory_budget, self._settings.min_residence)
        self._routes = Routes()
        self._changed: set[str] = set()

    # --- what happens

    def aspire(self, aspired: Iterable[Aspired], now: float) -> None:
        """Takes over the whole list of what is wanted. Of models that are missing from it nothing is wanted.

        A model that is listed twice keeps what it has, with an error in its status.
        """
        wanted: dict[str, Aspired] = {}
        for item in aspired:
            wanted[item.model] = _listed_twice(item.model) if item.model in wanted else item
        for name in self._models.keys() - wanted.keys():
            wanted[name] = Aspired(name)
        for name, item in wanted.items():
            self._model(name).aspire(item, now)
        self._changed.update(wanted)
        self._forget_gone()

    def configure(self, options: Mapping[str, ModelOptions]) -> None:
        """Replaces the options of all models, also of those that are not known yet; none for a model not named."""
        self._options = dict(options)
        for name, model in self._models.items():
            model.labels = self._labels(name)
        self._changed.update(self._models)

    def loaded(self, model: str, version: int, footprint_bytes: int, now: float) -> None:
        """The load of a version succeeded; its engine holds this many bytes.

        Raises:
            Internal: No load of this version runs.
        """
        published = self._known(model).loaded(version, footprint_bytes, now)
        if not published:
            self._discarded.append(Unload(model, version))

    def load_failed(self, model: str, version: int, failure: Failure, now: float) -> None:
        """The load of a version failed.

        Raises:
            Internal: No load of this version runs.
        """
        self._known(model).load_failed(version, failure, now)

    def crashed(self, model: str, version: int, failure: Failure, now: float) -> bool:
        """What a version ran in has ended by itself, and nothing of it is left.

        Returns:
            Whether it was available: it is then loaded again. Else there is nothing to do: its unload goes on.
        """
        return self._known(model).crashed(version, failure, now)

    def ended(self, model: str, version: int, now: float) -> None:
        """A version is unloaded, and its memory given back.

        Raises:
            Internal: No unload of this version runs.
        """
        self._known(model).ended(version, now)

    def demanded(self, models: Iterable[str], now: float) -> None:
        """Requests wait for these models. Those that need not be loaded for it are passed over."""
        self._demand.note(models, now)

    def used(self, uses: Mapping[str, Use], now: float) -> None:
        """How the models were used that serve."""
        for name, use in uses.items():
            if (model := self._models.get(name)) is not None and not model.evicted:
                model.busy = use.in_flight > 0
                model.last_used = model.last_used if use.idle is None else now - use.idle

    # --- what is to be done

    def step(self, now: float) -> list[Load | Unload]:
        """The actions to start now. Each is returned once, and counts as started."""
        actions: list[Load | Unload] = list(self._discarded)
        self._discarded.clear()
        self._starved = False
        self._refresh_due(now)
        if self._settings.on_demand:
            self._changed.update(self._demand.place(now))
        capacity = self._capacity(now)
        # In rounds of at most one load a model: many versions of one do not crowd out the few of another.
        moving = [model for model in self._models.values() if model.needs_step]
        while moving:
            moving.sort(key=lambda model: model.turn)
            started = {model.name: self._advance(model, capacity, now) for model in moving}
            actions += [action for name in started for action in started[name]]
            moving = [model for model in moving if started[model.name] and model.needs_step]
            moving += [self._models[name] for name in self._demand.take_evicted() if self._models[name] not in moving]
        return actions

    def next_wake(self, now: float) -> float | None:
        """When to call `step` again though nothing is reported, None if there is no need. Ask after `step`."""
        times = [time for model in self._models.values() for time in model.retries_at]
        if self._starved:
            taken = (start for model in self._models.values() for start in places_since(model))
            times += [start + self._settings.slow_load for start in taken]
        times += self._demand.wakes()
        return min((time for time in times if time > now), default=None)

    # --- what is published

    @property
    def revision(self) -> int:
        """Rises whenever the routes or a status have changed."""
        return self.routes().revision

    def routes(self) -> Routes:
        """What to publish: an immutable picture, the same object until something changes."""
        fresh = {name: self._models[name].route() for name in self._changed if name in self._models}
        self._changed.clear()
        before = self._routes.models
        gone = before.keys() - self._models.keys()
        if gone or any(before.get(name) != route for name, route in fresh.items()):
            kept = {name: route for name, route in before.items() if name not in gone}
            self._routes = Routes(self._routes.revision + 1, MappingProxyType(dict(sorted((kept | fresh).items()))))
        return self._routes

    def status(self) -> Mapping[str, ModelStatus]:
        """The status of every model."""
        return {name: route.status for name, route in self.routes().models.items()}

    # --- how

    def _advance(self, model: Model, capacity: Capacity, now: float) -> list[Load | Unload]:
        """Starts what one model needs: any number of unloads, at most one load."""
        actions: list[Load | Unload] = []
        while (chosen := self._ask_policy(model, capacity, now)) is not None:
            self._changed.add(model.name)
            if chosen.action is Action.LOAD:
                actions.append(self._start_load(model, chosen.version, now))
                capacity.update(model)
                break
            model.start_unload(chosen.version, now)
            capacity.update(model)
            actions.append(Unload(model.name, chosen.version))
        return actions

    def _ask_policy(self, model: Model, capacity: Capacity, now: float) -> ServableAction | None:
        may_load = capacity.may_load(model)
        if not may_load and not model.serves:
            self._starved = True
            return None
        view = model.view(now, may_load=may_load)
        options = self._options.get(model.name)
        swap = (options and options.swap) or self._settings.swap
        if self._settings.on_demand:
            chosen = self._within_budget(swap, model, view, now)
        else:
            chosen = swap(view, capacity.memory)
        if view.loadable and not may_load:
            self._starved = True
            if chosen is not None and chosen.action is Action.LOAD:
                return None
        return chosen

    def _within_budget(self, swap: SwapPolicy, model: Model, view: ModelView, now: float) -> ServableAction | None:
        """What the policy chooses, if there is room for it. Room is made where there is none."""
        memory = self._demand.memory()
        chosen = (availability if swap is auto else swap)(view, memory)
        if chosen is None or chosen.action is not Action.LOAD:
            return chosen
        needed = estimate(view, next(each for each in view.versions if each.version == chosen.version))
        if self._demand.has_room(needed):
            return chosen
        if model.serves and self._demand.make_room(model, needed, now, only_idle=True) is Room.COMING:
            return None
        # Nobody who is used less can make way: what the model itself holds and is not wanted does.
        chosen = resource(view, memory)
        if chosen is None or chosen.action is not Action.LOAD:
            return chosen
        return chosen if self._demand.make_room(model, needed, now) is Room.FREE else None

    def _start_load(self, model: Model, number: int, now: float) -> Load:
        view = model.view(now, may_load=True)
        new = next(version for version in view.versions if version.version == number)
        version = model.start_load(number, estimate(view, new), now)
        return Load(model.name, number, version.place.path, version.attempt)

    def _refresh_due(self, now: float) -> None:
        for model in self._models.values():
            if any(time <= now for time in model.retries_at):
                model.refresh(now)
                self._changed.add(model.name)

    def _capacity(self, now: float) -> Capacity:
        return Capacity(
            self._models.values(),
            places=self._settings.max_concurrent_loads,
            slow_load=self._settings.slow_load,
            budget=self._settings.memory_budget,
            now=now,
        )

    def _model(self, name: str) -> Model:
        if name not in self._models:
            self._models[name] = Model(name, self._retries, on_demand=self._settings.on_demand)
            self._models[name].labels = self._labels(name)
        return self._models[name]

    def _labels(self, name: str) -> Mapping[str, int]:
        options = self._options.get(name)
        return MappingProxyType(dict(options.labels) if options else {})

    def _known(self, name: str) -> Model:
        if name not in self._models:
            raise Internal(f"Something was reported of model {name}, which is unknown")
        self._changed.add(name)
        return self._models[name]

    def _forget_gone(self) -> None:
        """Drops the oldest of the models that went, so that names that come and go do not pile up."""
        gone = [name for name, model in self._models.items() if model.is_gone]
        for name in gone[:-MAX_GONE_MODELS]:
            del self._models[name]


def _listed_twice(name: str) -> Aspired:
    return Aspired(name, error=Failure(3, f"Illegal to list model {name} multiple times in config list"))
