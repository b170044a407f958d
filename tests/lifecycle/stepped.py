"""A manager stepped by hand, with a loader that does what its actions say when the test lets it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from servable.lifecycle import (
    Aspired,
    Failure,
    Fingerprint,
    Load,
    Manager,
    ManagerSettings,
    ModelRoute,
    State,
    SwapPolicy,
    Unload,
    VersionPath,
    VersionStatus,
)
from servable.lifecycle.eviction import Use

GiB = 1 << 30


def place(version: int, *, look: str = "first", disk: int = 100) -> VersionPath:
    """A version on disk. Another `look` is another fingerprint."""
    return VersionPath(version, Path(f"/models/m/{version}"), Fingerprint(look, 1, disk))


def places(versions: tuple[VersionPath | int, ...]) -> tuple[VersionPath, ...]:
    return tuple(place(version) if isinstance(version, int) else version for version in versions)


def aspired(*versions: VersionPath | int, model: str = "m", fallbacks: tuple[VersionPath | int, ...] = ()) -> Aspired:
    return Aspired(model, places(versions), places(fallbacks))


@dataclass
class FakeLoader:
    """Obeys the manager's actions, and complains about impossible ones."""

    loads: dict[tuple[str, int], Load] = field(default_factory=dict)
    unloads: set[tuple[str, int]] = field(default_factory=set)
    loaded: set[tuple[str, int]] = field(default_factory=set)

    def obey(self, action: Load | Unload) -> None:
        key = (action.model, action.version)
        if isinstance(action, Load):
            assert key not in self.loads, f"{key} is loaded twice at once"
            assert key not in self.loaded, f"{key} is loaded while it is loaded"
            assert key not in self.unloads, f"{key} is loaded while its old self is unloaded"
            self.loads[key] = action
        else:
            assert key in self.loaded, f"{key} is unloaded, but not loaded"
            self.loaded.remove(key)
            self.unloads.add(key)


class Stepped:
    """Manager, loader and clock. Every event is followed by a step, whose actions go to `log`."""

    def __init__(self, swap: SwapPolicy | None = None, **settings: object) -> None:
        if swap is not None:
            settings["swap"] = swap
        self.manager = Manager(ManagerSettings(**settings))  # type: ignore[arg-type]
        self.loader = FakeLoader()
        self.now = 0.0
        self.log: list[str] = []

    def aspire(self, *items: Aspired) -> None:
        self.manager.aspire(items, self.now)
        self.step()

    def want(self, *versions: VersionPath | int, fallbacks: tuple[VersionPath | int, ...] = ()) -> None:
        """Aspires these versions of model m."""
        self.aspire(aspired(*versions, fallbacks=fallbacks))

    def loaded(self, version: int, *, model: str = "m", footprint: int = 100) -> None:
        del self.loader.loads[model, version]
        self.loader.loaded.add((model, version))
        self.manager.loaded(model, version, footprint, self.now)
        self.step()

    def failed(self, version: int, *, model: str = "m", permanent: bool = False) -> None:
        del self.loader.loads[model, version]
        failure = Failure(3 if permanent else 14, f"version {version} is broken", permanent)
        self.manager.load_failed(model, version, failure, self.now)
        self.step()

    def crashed(self, version: int, *, model: str = "m") -> bool:
        """What a version ran in ends, which nobody asked for."""
        found = self.manager.crashed(model, version, Failure(14, f"version {version} crashed"), self.now)
        if found:
            self.loader.loaded.remove((model, version))
        self.step()
        return found

    def demand(self, *models: str) -> None:
        """Requests wait for these models."""
        self.manager.demanded(models, self.now)
        self.step()

    def use(self, model: str, *, idle: float = 0.0, in_flight: int = 0) -> None:
        self.manager.used({model: Use(idle, in_flight)}, self.now)

    def ended(self, version: int, *, model: str = "m") -> None:
        self.loader.unloads.remove((model, version))
        self.manager.ended(model, version, self.now)
        self.step()

    def serve(self, *versions: int) -> None:
        """Wants versions of model m and brings all of them up."""
        self.want(*versions)
        for version in sorted(versions, reverse=True):
            if ("m", version) in self.loader.loads:
                self.loaded(version)
        self.take_log()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.step()

    def step(self) -> None:
        for action in self.manager.step(self.now):
            self.loader.obey(action)
            verb = "load" if isinstance(action, Load) else "unload"
            self.log.append(f"{verb} {action.model}/{action.version}")

    def take_log(self) -> list[str]:
        taken, self.log = self.log, []
        return taken

    def route(self, model: str = "m") -> ModelRoute:
        return self.manager.routes().models[model]

    def status(self, version: int, model: str = "m") -> VersionStatus:
        return next(status for status in self.route(model).status.versions if status.version == version)

    def states(self, model: str = "m") -> dict[int, State]:
        return {status.version: status.state for status in self.route(model).status.versions}
