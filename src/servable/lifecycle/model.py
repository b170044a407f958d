"""The state machine of one model: its versions, what is aspired of them, and what stands in when that fails."""

from __future__ import annotations

from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING

from servable.errors import Internal
from servable.lifecycle.policies import ModelView, VersionView, estimate
from servable.lifecycle.routes import ModelRoute, ModelStatus, Residence
from servable.lifecycle.states import Failure, Phase
from servable.lifecycle.version import Retries, Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from servable.lifecycle.aspired import Aspired, VersionPath

MAX_ENDED = 32
"""Ended versions that stay in the status of a model, besides those that are aspired."""

_TAKES_NO_MORE = (Phase.LOADING, Phase.AVAILABLE, Phase.FAILED)


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
        placed: Whether it was decided that it is in memory, or is not until a request asks for it.
        evicted: Nothing of it is to be in memory until a request asks for it.
        awaited: It is being loaded, and requests wait for that.
        serves_since: When it last began to serve.
        last_used: When a request was answered last.
        on_demand: The versions that are loaded when a request asks for one of them, highest first.
        busy: Requests are being answered, as far as known.
        leaving: Bytes of what is on its way out of memory.
        note: A remark of the manager, for people.
    """

    def __init__(self, name: str, retries: Retries, *, on_demand: bool = False) -> None:
        self.name = name
        self._retries = retries
        self._on_demand = on_demand
        self.placed = not on_demand
        self.evicted = self.awaited = self.busy = False
        self.serves_since = 0.0
        self.last_used: float | None = None
        self.leaving = 0
        self.on_demand: tuple[int, ...] = ()
        self.note = ""
        self._evictions = self._demand_loads = 0
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
            if self._on_demand and not (before and self._aspired):
                self.placed = self.evicted = self.awaited = False
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
        # An engine that cannot tell, as that of Python models, says 0: then what was expected counts.
        version.footprint, version.failure, version.is_down = footprint or None, None, False
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
        elif failure.permanent or (version.attempt > self._retries.limit and not self._on_demand):
            version.enter(Phase.FAILED, now)
        else:
            version.retry_at = now + self._retries.interval
            version.enter(Phase.WAITING, now)
        self.refresh(now)

    def crashed(self, number: int, failure: Failure, now: float) -> bool:
        """What an available version ran in has ended: it is loaded again, as after a failed load.

        The first time, and whenever it has held for as long as the pause between two tries, that is at once. Returns
        whether it was available.
        """
        version = self._versions.get(number)
        if version is None or version.phase is not Phase.AVAILABLE:
            return False
        due = version.started + self._retries.interval
        version.retry_at = max(now, due) if version.crashes else now
        version.failure, version.attempt, version.is_down = failure, 0, True
        version.crashes += 1
        version.enter(Phase.WAITING, now)
        self.refresh(now)
        return True

    def ended(self, number: int, now: float) -> None:
        """An unload is over. A version that is aspired again starts afresh.

        Raises:
            Internal: No unload of this version runs.
        """
        self._get(number, Phase.UNLOADING).enter(Phase.ENDED, now)
        self._renew({number} & self._aspired.keys(), now)
        self.refresh(now)

    def keep_out(self, now: float) -> None:
        """Nothing of it is loaded until a request asks for it."""
        self.placed = self.evicted = True
        self.awaited = False
        self.refresh(now)

    def evict(self, now: float) -> None:
        """What is in memory is to be unloaded, to make room for another model."""
        self._evictions += 1
        self.keep_out(now)

    def let_in(self, now: float, *, demanded: bool) -> None:
        """It is to be loaded: a request waits for it, or there is room."""
        self.placed, self.evicted, self.awaited = True, False, True
        self._demand_loads += demanded
        for number in self._aspired:
            if self._versions[number].phase is Phase.EVICTED:
                self._versions[number].renew(now)
        self.refresh(now)

    def refresh(self, now: float) -> None:
        """Settles what follows from the phases: who stands in, which loads are called off, whether requests wait."""
        self._rest(now)
        self._stand_in = None if self.evicted else self._choose_stand_in(now)
        if self._stand_in is not None:
            self._renew({self._stand_in}, now)
        if self._available() and not self.serves:
            self.serves_since = now
        self.serves = bool(self._available())
        self.awaited = self.awaited and not self.serves
        for number, version in self._versions.items():
            if self._is_called_off(number, version):
                version.enter(Phase.ENDED, now)
        if self.serves or not self._has_hope():
            self.held_since = None
        self.on_demand = self._would_load(now)
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
                    footprint=None if version.was_mended else version.footprint,
                )
                for number, version in self._versions.items()
            ),
            may_load,
        )

    def route(self) -> ModelRoute:
        """What is to be published of it."""
        available = sorted(self._available(), reverse=True)
        aspired = [number for number in available if number in self._aspired]
        failed = self.evicted and not self.on_demand and not available
        waits = self.held_since is not None or self.awaited or bool(self.on_demand)
        return ModelRoute(
            default=next(iter(aspired or available), None),
            available=tuple(available),
            labels=self.labels,
            hold=waits and not available,
            status=self._status(pending=not available and self._has_hope()),
            unavailable="" if available else self._why_down(),
            on_demand=self.on_demand,
            failure=self._last_failure() if failed else None,
            retry_at=min(self.retries_at, default=None) if failed else None,
        )

    def needed(self, now: float) -> int:
        """Bytes that loading all of it is expected to take besides what it holds."""
        view = self.view(now, may_load=True)
        known = {each.version: each for each in view.versions if each.phase not in _TAKES_NO_MORE}
        places = self._fallbacks | self._aspired
        total = 0
        for number in self.on_demand or self._aspired:
            if number in known:
                total += estimate(view, known[number])
            elif number not in self._versions:
                new = VersionView(number, True, Phase.NEW, disk_bytes=places[number].fingerprint.bytes)
                total += estimate(view, new)
        return total

    @property
    def may_be_evicted(self) -> bool:
        """Whether it serves, and is not in the middle of a swap."""
        phases = {version.phase for version in self._versions.values()}
        moves = Phase.LOADING in phases or Phase.UNLOADING in phases
        return self.serves and not (self.evicted or moves or self.held_since is not None)

    @property
    def is_wanted(self) -> bool:
        """Whether any version of it is aspired."""
        return bool(self._aspired)

    @property
    def is_gone(self) -> bool:
        """Whether nothing is wanted of it, and nothing of it is left in memory."""
        return not self._aspired and all(version.phase.over for version in self._versions.values())

    # --- how it settles

    def _rest(self, now: float) -> None:
        """Of an evicted model nothing is to be loaded; nor, from now on, of one of which all has failed for now."""
        if self._on_demand and self.placed and not self.evicted and self._aspired and not self._is_alive(now):
            self.evicted, self.awaited = True, False
        for number, version in self._versions.items() if self.evicted else ():
            if version.is_loadable(now):
                version.attempt = 0
                version.enter(Phase.EVICTED if number in self._aspired else Phase.ENDED, now)

    def _would_load(self, now: float) -> tuple[int, ...]:
        if not self.evicted or self.serves:
            return ()
        coming = (Phase.EVICTED, Phase.UNLOADING)
        known = sorted((number for number in self._aspired if self._versions[number].phase in coming), reverse=True)
        stand_ins = (number for number in self._fallbacks if self._can_stand_in(number, now))
        return tuple(known) or tuple(islice(stand_ins, 1))

    def _is_alive(self, now: float) -> bool:
        """Whether something is in memory, or may be loaded without waiting."""
        if any(version.phase.in_memory for version in self._versions.values()):
            return True
        return any(self._versions[number].is_hopeful(now) for number in self._aspired) or any(
            self._can_stand_in(number, now) for number in self._fallbacks
        )

    def _last_failure(self) -> Failure | None:
        failures = (self._versions[number].failure for number in sorted(self._aspired, reverse=True))
        return next((failure for failure in failures if failure is not None), None)

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
        return not self.evicted and (number in self._aspired or number == self._stand_in)

    def _needs_action(self, number: int) -> bool:
        phase = self._versions[number].phase
        return phase in (Phase.NEW, Phase.WAITING) if self._is_wanted(number) else phase is Phase.AVAILABLE

    def _is_called_off(self, number: int, version: Version) -> bool:
        """Whether a version that waits to be loaded is no longer needed."""
        if self._is_wanted(number) or (self.evicted and number in self._aspired):
            return False
        if version.phase is Phase.WAITING:
            # A fallback keeps its timer while nothing serves: started afresh it would be tried in a tight circle.
            return self.serves or number not in self._fallbacks
        return version.phase in (Phase.NEW, Phase.EVICTED)

    def _has_hope(self) -> bool:
        """Whether something wanted is in memory, or will be tried."""
        if not self._aspired or self.evicted:
            return False
        known = self._versions.keys() & (self._aspired.keys() | self._fallbacks.keys())
        return any(not self._versions[number].phase.over for number in known)

    def _sum_up(self) -> None:
        """Keeps at hand what the manager asks of every model at every step."""
        versions = self._versions.values()
        self.needs_step = any(map(self._needs_action, self._versions))
        self.memory = sum(version.memory for version in versions)
        gone = (version for version in versions if self.evicted or version.phase is Phase.UNLOADING)
        self.leaving = sum(version.memory for version in gone)
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

    def _why_down(self) -> str:
        """What happened to a version that has served and is to come back; empty where there is none."""
        down = (each for each in self._versions.values() if each.is_down and not each.phase.over)
        return next((each.failure.message for each in down if each.failure), "")

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
        remarks = (self.note,) if self.note else ()
        last_used = self.last_used if self.evicted else None
        return ModelStatus(
            versions,
            pending,
            self._error,
            self._notes + changed + remarks,
            wanted=bool(self._aspired),
            residence=Residence(self.evicted, last_used, self._evictions, self._demand_loads),
        )


def _with_settling(aspired: Aspired) -> tuple[str, ...]:
    arriving = tuple(f"Version {number} is still being copied" for number in aspired.settling)
    return aspired.notes + arriving
