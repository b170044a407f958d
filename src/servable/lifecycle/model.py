"""The state machine of one model: its versions, what is aspired of them, and what stands in when that fails."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from servable.errors import Internal
from servable.lifecycle.policies import ModelView, VersionView
from servable.lifecycle.routes import ModelRoute, ModelStatus
from servable.lifecycle.states import Failure, Phase
from servable.lifecycle.version import Retries, Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from servable.lifecycle.aspired import Aspired, VersionPath

MAX_ENDED = 32
"""Ended versions that stay in the status of a model, besides those that are aspired."""


class Model:
    """All versions of one model.

    Every method that changes something leaves the machine settled for the moment `now`; `refresh` does the same when
    only time has passed.

    Attributes:
        name: Of the model.
        labels: Label -> version, as configured.
        held_since: Since when requests wait for a swap, None if they do not.
        needs_step: Whether a swap policy may find something to do.
        serves: Whether a version is available.
        memory: Bytes that all its versions hold.
        loads_since: When each load that runs was started.
        retries_at: When each waiting load is due.
        turn: Orders models for the places: those that serve nothing first, then few running loads, then a long wait.
    """

    def __init__(self, name: str, retries: Retries) -> None:
        self.name = name
        self._retries = retries
        self.labels: Mapping[str, int] = MappingProxyType({})
        self.held_since: float | None = None
        self.needs_step = self.serves = False
        self.memory = 0
        self.loads_since: list[float] = []
        self.retries_at: list[float] = []
        self.turn = (False, 0, 0.0)
        self._versions: dict[int, Version] = {}
        self._aspired: dict[int, VersionPath] = {}
        self._fallbacks: dict[int, VersionPath] = {}
        self._replaced: dict[int, VersionPath] = {}
        self._stand_in: int | None = None
        self._error: Failure | None = None
        self._notes: tuple[str, ...] = ()

    # --- what happens to it

    def aspire(self, aspired: Aspired, now: float) -> None:
        """Takes over what a source said. A silent one changes nothing but the error and the notes."""
        self._error, self._notes = aspired.error, _with_settling(aspired)
        if not aspired.silent:
            # What serves when the wish changes may stand in, whether or not the source names it.
            before, self._aspired = self._aspired, {place.version: place for place in aspired.versions}
            if self._aspired.keys() != before.keys() and (serving := self._available()):
                self._replaced = {number: self._versions[number].place for number in serving}
            named = {place.version: place for place in aspired.fallbacks}
            # What the source says of a version later is newer than what served.
            newer = self._aspired | named
            self._replaced = {number: newer.get(number, place) for number, place in self._replaced.items()}
            self._fallbacks = {
                number: place for number, place in (self._replaced | named).items() if number not in self._aspired
            }
            self._renew(self._aspired.keys() - before.keys(), now)
        self.refresh(now)

    def start_load(self, number: int, estimate: int, now: float) -> Version:
        """Notes that a load starts. Its `place` and `attempt` say what to load.

        Raises:
            Internal: The version is not one whose load may start.
        """
        version = self._versions.get(number)
        if version is None or not version.is_loadable(now):
            raise Internal(f"Version {number} of model {self.name} was chosen for a load, which cannot start now")
        version.attempt, version.started = version.attempt + 1, now
        version.tried = version.place.fingerprint
        version.estimate, version.footprint = estimate, None
        version.enter(Phase.LOADING, now)
        self.refresh(now)
        return version

    def start_unload(self, number: int, now: float) -> None:
        """Notes that an unload starts; if it makes room for a wanted version, requests are held from now on.

        Raises:
            Internal: The version is not available.
        """
        self._get(number, Phase.AVAILABLE).enter(Phase.UNLOADING, now)
        if self.held_since is None:
            self.held_since = now
        self.refresh(now)

    def loaded(self, number: int, footprint: int, now: float) -> bool:
        """A load succeeded. Returns whether the version is published; if not, it is to be unloaded at once.

        Raises:
            Internal: No load of this version runs.
        """
        version = self._get(number, Phase.LOADING)
        version.footprint, version.failure = footprint, None
        published = number in self._aspired or (number in self._fallbacks and not self._available())
        version.enter(Phase.AVAILABLE if published else Phase.UNLOADING, now)
        self.refresh(now)
        return published

    def load_failed(self, number: int, failure: Failure, now: float) -> None:
        """A load failed: it is tried again later, unless the failure is permanent or the retries are used up.

        Raises:
            Internal: No load of this version runs.
        """
        version = self._get(number, Phase.LOADING)
        version.failure = failure
        if version.was_mended and number in self._aspired:
            version.renew(now)
        elif failure.permanent or version.attempt > self._retries.limit:
            version.enter(Phase.FAILED, now)
        else:
            version.retry_at = now + self._retries.interval
            version.enter(Phase.WAITING, now)
        self.refresh(now)

    def ended(self, number: int, now: float) -> None:
        """An unload is over. A version that is aspired again starts afresh.

        Raises:
            Internal: No unload of this version runs.
        """
        self._get(number, Phase.UNLOADING).enter(Phase.ENDED, now)
        self._renew({number} & self._aspired.keys(), now)
        self.refresh(now)

    def refresh(self, now: float) -> None:
        """Settles what follows from the phases: who stands in, which loads are called off, whether requests wait."""
        self._stand_in = self._choose_stand_in(now)
        if self._stand_in is not None:
            self._renew({self._stand_in}, now)
        self.serves = bool(self._available())
        for number, version in self._versions.items():
            if self._is_called_off(number, version):
                version.enter(Phase.ENDED, now)
        if self.serves or not self._has_hope():
            self.held_since = None
        self._forget_ended()
        self._sum_up()

    # --- what it looks like

    def view(self, now: float, *, may_load: bool) -> ModelView:
        """What the swap policy is to see."""
        return ModelView(
            tuple(
                VersionView(
                    version=number,
                    wanted=self._is_wanted(number),
                    phase=version.phase,
                    loadable=version.is_loadable(now),
                    disk_bytes=version.place.fingerprint.bytes,
                    footprint=version.footprint,
                )
                for number, version in self._versions.items()
            ),
            may_load,
        )

    def route(self) -> ModelRoute:
        """What is to be published of it."""
        available = sorted(self._available(), reverse=True)
        aspired = [number for number in available if number in self._aspired]
        return ModelRoute(
            default=next(iter(aspired or available), None),
            available=tuple(available),
            labels=self.labels,
            hold=self.held_since is not None and not available,
            status=self._status(pending=not available and self._has_hope()),
        )

    @property
    def is_gone(self) -> bool:
        """Whether nothing is wanted of it, and nothing of it is left in memory."""
        return not self._aspired and all(version.phase.over for version in self._versions.values())

    # --- how it settles

    def _renew(self, numbers: Iterable[int], now: float) -> None:
        """Gives these versions a new start where they are over, and takes over where every known one is."""
        places = self._fallbacks | self._aspired
        for number, place in places.items():
            if (known := self._versions.get(number)) is not None:
                known.place = place
        for number in numbers:
            known = self._versions.get(number)
            if known is None:
                self._versions[number] = Version(places[number], Phase.NEW, now)
            elif known.phase.over:
                known.renew(now)
        for number in self._aspired:
            known = self._versions[number]
            if known.phase in (Phase.FAILED, Phase.WAITING) and known.was_mended:
                known.renew(now)

    def _choose_stand_in(self, now: float) -> int | None:
        """The version that serves while every aspired one has failed or waits for its retry."""
        if not self._aspired or any(self._versions[number].is_hopeful(now) for number in self._aspired):
            return None
        serving = self._available()
        if serving:
            return max(serving)
        return next((number for number in self._fallbacks if self._can_stand_in(number, now)), None)

    def _can_stand_in(self, number: int, now: float) -> bool:
        version = self._versions.get(number)
        if version is None or version.phase is Phase.ENDED or version.is_hopeful(now):
            return True
        return version.phase is Phase.FAILED and version.was_mended

    def _is_wanted(self, number: int) -> bool:
        return number in self._aspired or number == self._stand_in

    def _needs_action(self, number: int) -> bool:
        phase = self._versions[number].phase
        return phase in (Phase.NEW, Phase.WAITING) if self._is_wanted(number) else phase is Phase.AVAILABLE

    def _is_called_off(self, number: int, version: Version) -> bool:
        """Whether a version that waits to be loaded is no longer needed."""
        if self._is_wanted(number):
            return False
        if version.phase is Phase.WAITING:
            # A fallback keeps its timer while nothing serves: started afresh it would be tried in a tight circle.
            return self.serves or number not in self._fallbacks
        return version.phase is Phase.NEW

    def _has_hope(self) -> bool:
        """Whether something wanted is in memory, or will be tried."""
        if not self._aspired:
            return False
        known = self._versions.keys() & (self._aspired.keys() | self._fallbacks.keys())
        return any(not self._versions[number].phase.over for number in known)

    def _sum_up(self) -> None:
        """Keeps at hand what the manager asks of every model at every step."""
        versions = self._versions.values()
        self.needs_step = any(map(self._needs_action, self._versions))
        self.memory = sum(version.memory for version in versions)
        self.loads_since = [version.started for version in versions if version.phase is Phase.LOADING]
        self.retries_at = [version.retry_at for version in versions if version.phase is Phase.WAITING]
        last_start = max((version.started for version in versions), default=0.0)
        self.turn = (self.serves, len(self.loads_since), last_start)

    def _forget_ended(self) -> None:
        kept = self._aspired.keys() | (self._fallbacks.keys() - self._replaced.keys())
        ended = [(v.since, number) for number, v in self._versions.items() if v.phase.over and number not in kept]
        for _, number in sorted(ended)[:-MAX_ENDED]:
            del self._versions[number]

    # --- small things

    def _get(self, number: int, phase: Phase) -> Version:
        version = self._versions.get(number)
        if version is None or version.phase is not phase:
            found = "unknown" if version is None else version.phase.value
            raise Internal(f"Version {number} of model {self.name} is not {phase.value}, but {found}")
        return version

    def _available(self) -> list[int]:
        return [number for number, version in self._versions.items() if version.phase is Phase.AVAILABLE]

    def _status(self, *, pending: bool) -> ModelStatus:
        ordered = sorted(self._versions.items(), reverse=True)
        changed = tuple(
            f"Version {number} changed on disk after it was loaded, which has no effect: save a new version instead"
            for number, version in ordered
            if version.phase is Phase.AVAILABLE and version.was_mended
        )
        versions = tuple(version.status() for _, version in ordered)
        return ModelStatus(versions, pending, self._error, self._notes + changed, wanted=bool(self._aspired))


def _with_settling(aspired: Aspired) -> tuple[str, ...]:
    arriving = tuple(f"Version {number} is still being copied" for number in aspired.settling)
    return aspired.notes + arriving
