"""Runs logged requests again and compares: with the recorded answers, or with those of another version.

records -> calls -> run -> compare with the recorded answer, or with the baseline's -> Replay
"""

from __future__ import annotations

import heapq
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from servable.errors import ServableError
from servable.model.compare import compare
from servable.model.golden import decode_record, shaped_like

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from servable.model.compare import Difference
    from servable.model.golden import GoldenExample, Run
    from servable.model.request_log import LogRecord
    from servable.model.tolerance import Tolerance
    from servable.wire.tensors import Tensor

MOST_NAMED = 10
_STEP = 1.02  # a bucket of a histogram is 2 % wide
_LEAST_S = 1e-7


@dataclass(slots=True)
class Latencies:
    """Times of calls, in buckets of 2 %: as small for a million calls as for one."""

    count: int = 0
    _buckets: dict[int, int] = field(default_factory=dict)

    def add(self, seconds: float) -> None:
        bucket = round(math.log(max(seconds, _LEAST_S), _STEP))
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1

    def percentile(self, share: float) -> float:
        """The time in seconds that this share of the calls (0 to 1) stays under, to 1 %; 0 without calls."""
        left = max(1, math.ceil(share * self.count))
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return float(_STEP**bucket)
        return 0.0

    def histogram(self, bins: int = 10) -> list[tuple[float, float, int]]:
        """From, to (in seconds) and how many calls, in up to `bins` steps of equal ratio."""
        if not self._buckets:
            return []
        low, high = min(self._buckets), max(self._buckets) + 1
        width = max(1, math.ceil((high - low) / bins))
        counts: dict[int, int] = dict.fromkeys(range(low, high, width), 0)
        for bucket, count in self._buckets.items():
            counts[low + (bucket - low) // width * width] += count
        return [(_STEP**start, _STEP ** (start + width), count) for start, count in counts.items()]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One record whose answer is not as it was.

    Attributes:
        record: Its place in the log, from 1.
        file: Where it stands.
        output: The output that is furthest off; empty where the call failed.
        distance: How far, as the largest `|a - b|`; infinite where the two cannot be compared.
        what: The same for people.
    """

    record: int
    file: str
    output: str
    distance: float
    what: str


@dataclass(slots=True)
class Replay:
    """What came of it.

    Attributes:
        records: How many were run.
        compared: How many of them had an answer to compare with.
        mismatches: How many did not agree.
        worst: The worst of these, furthest off first; at most MOST_NAMED.
        latencies: Of the version that was tried.
        baseline: Of the version that it was compared with; without calls where there was none.
    """

    records: int = 0
    compared: int = 0
    mismatches: int = 0
    worst: list[Mismatch] = field(default_factory=list)
    latencies: Latencies = field(default_factory=Latencies)
    baseline: Latencies = field(default_factory=Latencies)

    @property
    def slowdown(self) -> float | None:
        """Median time of the version that was tried by that of the baseline; None without one."""
        usual = self.baseline.percentile(0.5)
        return self.latencies.percentile(0.5) / usual if usual else None

    def _miss(self, mismatch: Mismatch) -> None:
        self.mismatches += 1
        self.worst = heapq.nlargest(MOST_NAMED, [*self.worst, mismatch], key=lambda each: each.distance)


@dataclass(frozen=True, slots=True)
class _Versions:
    tried: Run
    baseline: Run | None
    tolerance: Mapping[str, Tolerance] | None


def replay(
    records: Iterable[LogRecord],
    run: Run,
    *,
    baseline: Run | None = None,
    tolerance: Mapping[str, Tolerance] | None = None,
    progress: Callable[[Replay], object] = lambda _: None,
) -> Replay:
    """Runs each record, one after the other.

    An error of the version that is tried is a mismatch. A record that the baseline itself cannot run is passed over.

    Args:
        records: The requests.
        run: Runs the version that is tried.
        baseline: Runs the version to compare with; None compares with the recorded answers.
        tolerance: How far answers may be apart, by datatype.
        progress: Called after each record.

    Raises:
        InvalidArgument: A record is damaged.
    """
    found, versions = Replay(), _Versions(run, baseline, tolerance)
    for record in records:
        found.records += 1
        outcomes = [_replay_call(found, record, call, versions) for call in decode_record(record.data)]
        found.compared += any(outcome is not None for outcome in outcomes)
        mismatches = [outcome for outcome in outcomes if isinstance(outcome, Mismatch)]
        if mismatches:
            found._miss(max(mismatches, key=lambda each: each.distance))  # noqa: SLF001  # its own maker
        progress(found)
    return found


def _replay_call(found: Replay, record: LogRecord, call: GoldenExample, versions: _Versions) -> Mismatch | bool | None:
    """A mismatch, True where the answers agree, or None where there is nothing to compare with."""
    expected, shaped = call.outputs, call.shaped
    if versions.baseline is not None:
        try:
            expected, shaped = _timed(versions.baseline, call, found.baseline), True
        except ServableError:
            return None
    try:
        answered = _timed(versions.tried, call, found.latencies)
    except ServableError as error:
        return Mismatch(record.number, str(record.file), "", math.inf, f"{type(error).__name__}: {error}")
    if expected is None:
        return None
    report = compare(answered, expected if shaped else shaped_like(expected, answered), versions.tolerance)
    failed = [difference for difference in report.differences if not difference.passed]
    return _mismatch(record, max(failed, key=_distance)) if failed else True


def _timed(run: Run, call: GoldenExample, latencies: Latencies) -> Mapping[str, Tensor]:
    start = time.perf_counter()
    answered = run(call.signature, call.inputs)
    latencies.add(time.perf_counter() - start)
    return answered


def _distance(difference: Difference) -> float:
    return math.inf if difference.problem else difference.max_absolute


def _mismatch(record: LogRecord, worst: Difference) -> Mismatch:
    if worst.problem:
        what = worst.problem
    else:
        place, expected, answered = worst.worst or ("?", "?", "?")
        what = f"{worst.outside} of {worst.values} values; at {place} {answered} instead of {expected}"
    return Mismatch(record.number, str(record.file), worst.output, _distance(worst), what)


def at_recorded_speed(
    records: Iterable[LogRecord],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[LogRecord]:
    """The same records, each when it is due: as long after the first as it was logged after the first.

    Logs tell the time in whole seconds, so that what was logged in one second comes at once.
    """
    started, first = clock(), None
    for record in records:
        if record.metadata.time:
            first = record.metadata.time if first is None else first
            wait = record.metadata.time - first - (clock() - started)
            if wait > 0:
                sleep(wait)
        yield record
