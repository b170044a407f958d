"""Which models are unloaded to make room for another one, and what people are told of it: pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Use:
    """How a model is used.

    Attributes:
        idle: Seconds since a request was answered, None if none was yet.
        in_flight: Requests that are being answered.
    """

    idle: float | None = None
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may be evicted.

    Attributes:
        model: Its name.
        memory: Bytes that are gained by it.
        last_used: When a request was answered last, or when it was loaded if none was since.
        busy: Requests for it are being answered.
    """

    model: str
    memory: int
    last_used: float
    busy: bool = False


def choose_victims(candidates: Sequence[Candidate], short: int) -> tuple[str, ...]:
    """The models to evict: used least recently first, those with requests in flight last.

    Args:
        candidates: All that may be evicted.
        short: Bytes that are to be gained, over 0.

    Returns:
        Names. None of them could be left out; empty where all candidates together do not hold enough.

    Example:
        >>> old, large = Candidate("old", 10, last_used=1.0), Candidate("large", 90, last_used=2.0)
        >>> choose_victims([large, old], 10), choose_victims([large, old], 50), choose_victims([large, old], 200)
        (('old',), ('large',), ())
    """
    chosen: list[Candidate] = []
    gained = 0
    for candidate in sorted(candidates, key=lambda each: (each.busy, each.last_used, each.model)):
        if gained >= short:
            break
        chosen.append(candidate)
        gained += candidate.memory
    if gained < short:
        return ()
    # The last one may be so large that some before it are spared; the most recently used of them first.
    for candidate in reversed(chosen[:-1]):
        if gained - candidate.memory >= short:
            chosen.remove(candidate)
            gained -= candidate.memory
    return tuple(candidate.model for candidate in chosen)


def eviction_text(idle: float | None) -> str:
    """What people are told of an evicted version.

    Args:
        idle: Seconds since the last request, None if there was none.

    Example:
        >>> eviction_text(190.0), eviction_text(None)
        ('evicted, last used 3 min ago', 'evicted, not used yet')
    """
    if idle is None:
        return "evicted, not used yet"
    for limit, unit, length in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if idle < limit:
            return f"evicted, last used {idle // length:.0f} {unit} ago"
    return f"evicted, last used {idle // 86_400:.0f} days ago"
