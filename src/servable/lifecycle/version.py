"""One version as the manager knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from servable.lifecycle.states import Failure, Phase, VersionStatus

if TYPE_CHECKING:
    from servable.lifecycle.aspired import Fingerprint, VersionPath


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a failed load is tried again (`limit`), and after how many seconds each time (`interval`)."""

    limit: int = 5
    interval: float = 60.0


@dataclass(slots=True)
class Version:
    """The life of one version: where it is, how often it was tried, what it holds.

    Attributes:
        place: Where it is on disk, as the source said last.
        phase: Where it is in its life.
        since: When it came into its state.
        attempt: Loads started since it was new.
        started: When the last load started.
        retry_at: When a waiting load is due.
        tried: What its folder looked like when the last load started.
        footprint: Bytes that its engine holds as measured at load, None before.
        estimate: Bytes that were expected when its load started.
        failure: Why the last load failed, or what it ran in ended.
        crashes: How often what it ran in ended by itself.
        is_down: It has served, what it ran in ended, and it is not there again.
    """

    place: VersionPath
    phase: Phase
    since: float
    attempt: int = 0
    started: float = 0.0
    retry_at: float = 0.0
    tried: Fingerprint | None = None
    footprint: int | None = None
    estimate: int = 0
    failure: Failure | None = None
    crashes: int = 0
    is_down: bool = False

    def enter(self, phase: Phase, now: float) -> None:
        if phase.state is not self.phase.state:
            self.since = now
        self.phase = phase

    def renew(self, now: float) -> None:
        """Starts afresh: all retries are ahead of it again."""
        self.attempt = 0
        self.enter(Phase.NEW, now)

    def is_loadable(self, now: float) -> bool:
        """Whether its load may be started."""
        return self.phase is Phase.NEW or (self.phase is Phase.WAITING and self.retry_at <= now)

    def is_hopeful(self, now: float) -> bool:
        """Whether it is available or may become so without waiting for a retry."""
        return self.is_loadable(now) or self.phase.in_memory

    @property
    def was_mended(self) -> bool:
        """Whether somebody changed its files since the last load started."""
        return self.tried is not None and self.tried != self.place.fingerprint

    @property
    def memory(self) -> int:
        """Bytes that it holds now, as far as known."""
        if not self.phase.in_memory:
            return 0
        return self.estimate if self.footprint is None else self.footprint

    def status(self) -> VersionStatus:
        return VersionStatus(
            self.place.version, self.phase.state, self.since, self.failure, evicted=self.phase is Phase.EVICTED
        )
