"""What `servable diff` prints of what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servable.cli.output import columns, say, write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servable.model.difference import Differences, OutputDifference

_BAR = 40


def as_json_value(first: str, second: str, found: Differences) -> dict[str, Any]:
    """For machines."""
    return {
        "first": first,
        "second": second,
        "calls": found.calls,
        "outputs": [
            {
                "signature": signature,
                "output": name,
                "datatype": each.datatype,
                "values": each.values,
                "max": each.max_absolute,
                "mean": each.mean_absolute,
                "outside": each.outside,
                "flips": each.flips,
                "histogram": [{"from": start, "to": end, "values": count} for start, end, count in each.histogram()],
                "problem": each.problem,
                "passed": each.passed,
            }
            for (signature, name), each in found.outputs.items()
        ],
        "passed": found.passed,
    }


def show(first: str, second: str, found: Differences) -> None:
    """For people."""
    if not found.calls:
        say("Nothing was compared: neither version has golden examples")
        say("hint: --data names a file of inputs")
        return
    write(f"{second} against {first}\n")
    heads = ("signature", "output", "datatype", "values", "largest", "mean", "outside", "flips")
    write(columns([heads, *(_row(signature, each) for (signature, _), each in found.outputs.items())]))
    for each in found.outputs.values():
        if each.problem:
            write(f"{each.output}: {each.problem}")
    for each in found.outputs.values():
        if each.max_absolute and each.histogram():
            write(f"\n{each.output}, how far apart\n" + "\n".join(_bars(each)))
    write(f"\n{'passed: all answers are' if found.passed else 'failed: not all answers are'} within the tolerance")


def _row(signature: str, each: OutputDifference) -> tuple[str, ...]:
    flips = "" if each.flips is None else f"{each.flips} ({each.outside_share:.2%})"
    outside = f"{each.outside} ({each.outside_share:.2%})"
    largest, mean = (f"{number:.3g}" for number in (each.max_absolute, each.mean_absolute))
    return (signature, each.output, each.datatype, str(each.values), largest, mean, outside, flips)


def _bars(each: OutputDifference) -> Iterator[str]:
    steps = each.histogram()
    most = max(count for *_, count in steps)
    for start, end, count in steps:
        where = "equal" if not end else f"{start:.0e} - {end:.0e}"
        yield f"{where:>15} {count:>9} {'#' * round(_BAR * count / most)}".rstrip()
