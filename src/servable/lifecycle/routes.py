"""What the manager publishes: where requests go, and the status of every version."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from servable.lifecycle.states import Failure, State, VersionStatus

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Residence:
    """What is known of a model's stays in memory.

    Attributes:
        evicted: It is not in memory, to make room for others, and is loaded when a request asks for it.
        last_used: When a request was answered last before it was evicted, by the manager's clock; None if none was, or
            while it is not evicted.
        evictions: How often it was unloaded to make room.
        demand_loads: How often it was loaded because a request asked for it.
    """

    evicted: bool = False
    last_used: float | None = None
    evictions: int = 0
    demand_loads: int = 0


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The status of one model.

    Attributes:
        versions: Every version that was ever managed and is not forgotten, highest first.
        pending: Nothing is available yet, and something is on its way or will be tried again.
        error: Why the last look at its folder failed.
        notes: Remarks of the source and the manager, for people.
        wanted: A version of it is aspired: what failed before nothing was is of no interest to readiness.
        residence: Whether it is in memory, and how often it went and came.
    """

    versions: tuple[VersionStatus, ...] = ()
    pending: bool = False
    error: Failure | None = None
    notes: tuple[str, ...] = ()
    wanted: bool = True
    residence: Residence = Residence()

    @property
    def available(self) -> tuple[int, ...]:
        """The versions that answer requests, highest first."""
        return tuple(status.version for status in self.versions if status.state is State.AVAILABLE)


@dataclass(frozen=True, slots=True)
class ModelRoute:
    """Where the requests for one model go.

    Attributes:
        default: The version for requests that name none: the highest available one that is aspired, else the highest
            available one. None while nothing is available.
        available: The versions that may be asked for by number, highest first.
        labels: Label -> version as configured; the version may be one that is not available.
        hold: Requests that find no version wait for the next routes: a swap is under way.
        status: The status to report.
        unavailable: Why nothing answers though it has, and will again; empty otherwise.
        on_demand: The versions that are loaded when a request asks for one of them. Empty where none has to be, or
            can be.
        failure: Why no version could be loaded when one was asked for.
        retry_at: When it is tried again if it is asked for, None where it is not.
    """

    default: int | None
    available: tuple[int, ...]
    labels: Mapping[str, int]
    hold: bool
    status: ModelStatus
    unavailable: str = ""
    on_demand: tuple[int, ...] = ()
    failure: Failure | None = None
    retry_at: float | None = None

    @property
    def answers(self) -> bool:
        """Whether requests are answered, at once or as soon as a version is loaded for them."""
        return bool(self.available or self.on_demand)


@dataclass(frozen=True, slots=True)
class Routes:
    """An immutable picture of all models. A higher revision is a newer one."""

    revision: int = 0
    models: Mapping[str, ModelRoute] = field(default_factory=lambda: MappingProxyType({}))
