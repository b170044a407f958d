"""What the manager publishes: where requests go, and the status of every version."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from servable.lifecycle.states import Failure, State, VersionStatus

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The status of one model.

    Attributes:
        versions: Every version that was ever managed and is not forgotten, highest first.
        pending: Nothing is available yet, and something is on its way or will be tried again.
        error: Why the last look at its folder failed.
        notes: Remarks of the source and the manager, for people.
        wanted: A version of it is aspired: what failed before nothing was is of no interest to readiness.
    """

    versions: tuple[VersionStatus, ...] = ()
    pending: bool = False
    error: Failure | None = None
    notes: tuple[str, ...] = ()
    wanted: bool = True

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
    """

    default: int | None
    available: tuple[int, ...]
    labels: Mapping[str, int]
    hold: bool
    status: ModelStatus
    unavailable: str = ""


@dataclass(frozen=True, slots=True)
class Routes:
    """An immutable picture of all models. A higher revision is a newer one."""

    revision: int = 0
    models: Mapping[str, ModelRoute] = field(default_factory=lambda: MappingProxyType({}))
