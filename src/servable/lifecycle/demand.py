"""Models in more memory than there is: which are in it, which wait to be asked for, and who makes room for whom.

The unit is the model, with all its wanted versions: a client does not know which of them is in memory, and half of a
model would answer half of its requests.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from servable.lifecycle.eviction import Candidate, choose_victims
from servable.lifecycle.policies import MemoryView

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from servable.lifecycle.model import Model

_MIB = 1 << 20


class Room(Enum):
    """Whether a model can be loaded."""

    FREE = "free"  # now
    COMING = "coming"  # later: others are on their way out, or will be
    NONE = "none"  # not by what may be done for it


class Demand:
    """Keeps the memory within its budget, and those in order who wait for it.

    Who has waited longest is served first, and nobody passes: so everybody's turn comes.

    Args:
        models: All of them, by name; the manager's own.
        budget: Bytes of memory, None for no limit.
        min_residence: Seconds that a model stays once it serves.
    """

    def __init__(self, models: Mapping[str, Model], budget: int | None, min_residence: float) -> None:
        self._models, self._budget, self._min_residence = models, budget, min_residence
        self._waiting: dict[str, None] = {}
        self._evicted: list[str] = []
        self._wakes: list[float] = []

    def note(self, models: Iterable[str], now: float) -> None:
        """Requests wait for these models."""
        for name in models:
            model = self._models.get(name)
            if model is not None and model.evicted:
                model.refresh(now)
                if model.on_demand:
                    self._waiting.setdefault(name)

    def place(self, now: float) -> set[str]:
        """Lets in who fits of the models that are new, and of those that are asked for, in their order.

        Returns:
            The names of models whose routes may have changed.
        """
        self._wakes.clear()
        return self._let_in_waiting(now) | self._place_new(now) | set(self._evicted)

    def _let_in_waiting(self, now: float) -> set[str]:
        changed = set()
        promised = self._promised(now)
        for name in list(self._waiting):
            model = self._models.get(name)
            if model is None or not model.on_demand:
                del self._waiting[name]
                continue
            needed = model.needed(now)
            if self.make_room(model, needed, now, promised=promised) is not Room.FREE:
                break
            del self._waiting[name]
            promised += needed
            model.let_in(now, demanded=True)
            changed.add(name)
        return changed

    def _place_new(self, now: float) -> set[str]:
        new = [model for model in self._models.values() if model.is_wanted and not model.placed]
        taken = self.memory().used + self._promised(now) if new else 0
        for model in new:
            needed = model.needed(now)
            fits = not self._waiting and (self._budget is None or taken + needed <= self._budget)
            # What is wanted again while it is still in memory stays there.
            if fits or model.serves or model.loads_since:
                taken += needed
                model.let_in(now, demanded=False)
            else:
                model.keep_out(now)
        return {model.name for model in new}

    def make_room(self, model: Model, needed: int, now: float, *, promised: int = 0, only_idle: bool = False) -> Room:
        """Whether so many bytes are free for a model; evicts others where they are not.

        Args:
            model: What is to be loaded.
            needed: Bytes, besides what it holds.
            now: The moment.
            promised: Bytes that others have been given who do not hold them yet.
            only_idle: Evict only models that are used less recently than this one, and have no requests in flight.
        """
        if self.has_room(needed + promised):
            model.note = ""
            return Room.FREE
        used, budget = self.memory().used + promised, self._budget or 0
        short = used + needed - budget - sum(each.leaving for each in self._models.values())
        if short <= 0:
            return Room.COMING
        candidates, young = self._candidates(model, now, only_idle=only_idle)
        victims = choose_victims(candidates, short)
        if _any_busy(candidates, victims):
            later = choose_victims([*candidates, *young], short)
            if not _any_busy([*candidates, *young], later):
                return Room.COMING  # soon, and without waiting for requests in flight
        if not victims and not only_idle and model.memory - model.leaving + needed > budget:
            # Larger than the budget by itself: it is loaded when it is alone.
            model.note = (
                f"It needs about {needed / _MIB:.0f} MiB and memory_budget is {budget / _MIB:.0f} MiB: "
                "it is loaded when no other model is"
            )
            if used == model.memory and not model.leaving:
                return Room.FREE
            victims = tuple(each.model for each in candidates)
        for name in victims:
            self._models[name].evict(now)
        self._evicted += victims
        return Room.COMING if victims or not only_idle else Room.NONE

    def has_room(self, needed: int) -> bool:
        """Whether so many bytes are free."""
        return self._budget is None or self.memory().used + needed <= self._budget

    def take_evicted(self) -> list[str]:
        """The models that were evicted since the last call."""
        taken, self._evicted = self._evicted, []
        return taken

    def wakes(self) -> list[float]:
        """When models may be evicted that others wait for, and may not be yet."""
        return self._wakes

    def memory(self) -> MemoryView:
        """The memory of all models together."""
        return MemoryView(sum(model.memory for model in self._models.values()), self._budget)

    def _promised(self, now: float) -> int:
        """Bytes that those will take who were let in and do not serve yet."""
        return sum(model.needed(now) for model in self._models.values() if model.awaited)

    def _candidates(self, model: Model, now: float, *, only_idle: bool) -> tuple[list[Candidate], list[Candidate]]:
        """Who may be evicted now, and who has not stayed long enough yet."""
        found: list[Candidate] = []
        young: list[Candidate] = []
        for other in self._models.values():
            if other is model or not other.may_be_evicted:
                continue
            stays_until = other.serves_since + self._min_residence
            candidate = Candidate(other.name, other.memory, last_use(other), other.busy)
            if stays_until > now:
                self._wakes.append(stays_until)
                young.append(candidate)
            elif not only_idle or (not other.busy and candidate.last_used < last_use(model)):
                found.append(candidate)
        return found, young


def _any_busy(candidates: Iterable[Candidate], victims: tuple[str, ...]) -> bool:
    return any(candidate.busy for candidate in candidates if candidate.model in victims)


def last_use(model: Model) -> float:
    """When a model was used last; when it was loaded, if it was not used since."""
    return max(model.serves_since, model.last_used or 0.0)
