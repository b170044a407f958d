"""Policies: pure functions that choose versions, and the next step of a swap.

A *version policy* chooses which of the versions that are there are wanted. A *swap policy* looks at one model and at
the memory, and answers with at most one action; it is asked again after each action, so it needs no state. The
policies of TensorFlow Serving are `availability` and `resource`
(https://github.com/tensorflow/serving/blob/master/tensorflow_serving/core/aspired_version_policy.h).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from itertools import islice

from servable.errors import SettingsError
from servable.lifecycle.states import Phase


@dataclass(frozen=True, slots=True)
class Latest:
    """The `count` highest versions. As in TensorFlow Serving, 0 means 1.

    Raises:
        SettingsError: `count` is negative.

    Example:
        >>> Latest(2).choose([7, 5, 3])
        (7, 5)
    """

    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 0:
            raise SettingsError(f"Policy 'latest' needs a count of at least 1, got {self.count}")

    def choose(self, numbers: Iterable[int]) -> tuple[int, ...]:
        """Chooses from numbers that come highest first; takes no more of them than it needs."""
        return tuple(islice(numbers, max(self.count, 1)))


@dataclass(frozen=True, slots=True)
class All:
    """Every version."""

    def choose(self, numbers: Iterable[int]) -> tuple[int, ...]:
        """Chooses from numbers that come highest first."""
        return tuple(numbers)


@dataclass(frozen=True, slots=True)
class Specific:
    """These versions, as far as they are there; none but the one that served before stands in for them.

    Raises:
        SettingsError: No version is named.
    """

    versions: frozenset[int]

    def __init__(self, versions: Iterable[int]) -> None:
        object.__setattr__(self, "versions", frozenset(versions))
        if not self.versions:
            raise SettingsError("Policy 'specific' needs at least one version")

    def choose(self, numbers: Iterable[int]) -> tuple[int, ...]:
        """Chooses from numbers that come highest first."""
        return tuple(number for number in numbers if number in self.versions)


VersionPolicy = Latest | All | Specific


def version_policy(text: str) -> VersionPolicy:
    """The version policy that the settings name: `latest`, `latest:N`, `all`, or numbers such as `3,5`.

    Raises:
        SettingsError: It is none of these.

    Example:
        >>> version_policy("latest:2"), version_policy("all")
        (Latest(count=2), All())
    """
    word, _, count = text.partition(":")
    try:
        match word:
            case "all" if not count:
                return All()
            case "latest":
                return Latest(int(count or 1))
        return Specific(int(number) for number in text.split(","))
    except ValueError as error:
        raise SettingsError(f"Version policy {text!r} is not one", hint="latest, latest:N, all, or 3,5") from error


@dataclass(frozen=True, slots=True)
class VersionView:
    """What a swap policy sees of one version.

    Attributes:
        version: Its number.
        wanted: Whether it should be there in the end.
        phase: Where it is.
        loadable: Whether a load may be started now: it is new, or its retry is due.
        disk_bytes: Size of its files.
        footprint: Bytes that the engine said it holds, None while it has not been loaded.
    """

    version: int
    wanted: bool
    phase: Phase
    loadable: bool = False
    disk_bytes: int = 0
    footprint: int | None = None


@dataclass(frozen=True, slots=True)
class ModelView:
    """What a swap policy sees of one model.

    Attributes:
        versions: All its versions, in any order.
        may_load: Whether a load would be started now; if not, it waits for other models' loads.
    """

    versions: tuple[VersionView, ...]
    may_load: bool = True

    @property
    def loadable(self) -> list[VersionView]:
        """Wanted versions whose load may start, highest first: the order in which they are loaded."""
        found = (view for view in self.versions if view.wanted and view.loadable)
        return sorted(found, key=lambda view: -view.version)

    @property
    def surplus(self) -> list[VersionView]:
        """Versions not wanted that are in memory, lowest first: the order in which they are unloaded."""
        found = (view for view in self.versions if not view.wanted and view.phase.in_memory)
        return sorted(found, key=lambda view: view.version)

    @property
    def serves_wanted(self) -> bool:
        return any(view.wanted and view.phase is Phase.AVAILABLE for view in self.versions)

    @property
    def wants_any(self) -> bool:
        return any(view.wanted for view in self.versions)


@dataclass(frozen=True, slots=True)
class MemoryView:
    """The memory of all models together.

    Attributes:
        used: Bytes held by everything loaded, loading or unloading.
        budget: Bytes that may be held, None for no limit.
    """

    used: int = 0
    budget: int | None = None


class Action(Enum):
    LOAD = "load"
    UNLOAD = "unload"


@dataclass(frozen=True, slots=True)
class ServableAction:
    """The one next step of a model."""

    action: Action
    version: int


SwapPolicy = Callable[[ModelView, MemoryView], ServableAction | None]


def availability(model: ModelView, memory: MemoryView) -> ServableAction | None:  # noqa: ARG001
    """Loads the new version beside the old one, which is unloaded when the new one is available.

    The last available version is never unloaded before a wanted one is available, unless nothing is wanted.
    """
    serving = _available(model.surplus)
    if serving and (model.serves_wanted or not model.wants_any or len(serving) > 1):
        return ServableAction(Action.UNLOAD, serving[0].version)
    return _load_highest(model)


def resource(model: ModelView, memory: MemoryView) -> ServableAction | None:  # noqa: ARG001
    """Unloads the old version first and loads the new one when it has ended: they are never in memory together.

    The old one is left alone while there is nothing to load in its place.
    """
    serving = _available(model.surplus)
    replaced = model.may_load and bool(model.loadable)
    if serving and (model.serves_wanted or not model.wants_any or replaced):
        return ServableAction(Action.UNLOAD, serving[0].version)
    return None if model.surplus else _load_highest(model)


def auto(model: ModelView, memory: MemoryView) -> ServableAction | None:
    """`availability` where the new version fits into the memory budget beside the old one, `resource` where not."""
    loadable = model.loadable
    needed = estimate(model, loadable[0]) if loadable else 0
    fits = memory.budget is None or memory.used + needed <= memory.budget
    return (availability if fits else resource)(model, memory)


SWAP_POLICIES: dict[str, SwapPolicy] = {"availability": availability, "resource": resource, "auto": auto}
"""The swap policies by the name that the settings use."""


def estimate(model: ModelView, new: VersionView) -> int:
    """Bytes that a version is expected to hold once loaded.

    What it held when it was loaded before. Else at least 1.2 times its size on disk, as TensorFlow Serving estimates;
    more if the newest version that was measured holds more than that for its size.
    """
    if new.footprint is not None:
        return new.footprint
    floor = new.disk_bytes * 6 // 5
    measured = [view for view in model.versions if view.footprint is not None and view.disk_bytes > 0]
    if not measured:
        return floor
    newest = max(measured, key=lambda view: view.version)
    return max(floor, (newest.footprint or 0) * new.disk_bytes // newest.disk_bytes)


def _available(views: list[VersionView]) -> list[VersionView]:
    return [view for view in views if view.phase is Phase.AVAILABLE]


def _load_highest(model: ModelView) -> ServableAction | None:
    loadable = model.loadable
    return ServableAction(Action.LOAD, loadable[0].version) if loadable else None
