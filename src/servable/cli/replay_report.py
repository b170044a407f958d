"""What `servable replay` prints of what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servable.cli.output import columns, say, write

if TYPE_CHECKING:
    from servable.model.replay import Latencies, Replay

_BAR = 40
_PERCENTILES = (0.5, 0.9, 0.99)


def as_json_value(found: Replay, *, slow: bool) -> dict[str, Any]:
    """For machines. Times are in seconds; those of a baseline that there was none of are null."""

    def times(latencies: Latencies) -> dict[str, float] | None:
        shares = {f"p{share * 100:g}": latencies.percentile(share) for share in _PERCENTILES}
        return shares if latencies.count else None

    return {
        "records": found.records,
        "compared": found.compared,
        "mismatches": found.mismatches,
        "worst": [
            {
                "record": each.record,
                "file": each.file,
                "output": each.output,
                "distance": each.distance,
                "what": each.what,
            }
            for each in found.worst
        ],
        "seconds": times(found.latencies),
        "baseline_seconds": times(found.baseline),
        "slowdown": found.slowdown,
        "passed": not (found.mismatches or slow or not found.compared),
    }


def show(found: Replay, *, slow: bool) -> None:
    """For people."""
    write(f"{found.records} records, {found.compared} compared, {found.mismatches} mismatches")
    if not found.compared:
        say("Nothing was compared: the log holds no answers for this model")
    if found.worst:
        named = [(str(each.record), each.output or "-", each.what) for each in found.worst]
        write("\n" + columns([("record", "output", "the worst mismatches"), *named]))
    rows = [
        (name, *(f"{latencies.percentile(share) * 1e3:.3g} ms" for share in _PERCENTILES))
        for name, latencies in (("tried", found.latencies), ("baseline", found.baseline))
        if latencies.count
    ]
    if rows:
        write("\n" + columns([("latency", "p50", "p90", "p99"), *rows]))
        write("\n" + "\n".join(_bars(found.latencies)))
    if found.slowdown is not None:
        write(f"\nmedian: {found.slowdown:.2f} times the baseline's{' - too slow' if slow else ''}")


def _bars(latencies: Latencies) -> list[str]:
    steps = latencies.histogram()
    most = max(count for *_, count in steps)
    return [
        f"{start * 1e3:8.3g} - {end * 1e3:<8.3g} ms {count:>9} {'#' * round(_BAR * count / most)}"
        for start, end, count in steps
    ]
