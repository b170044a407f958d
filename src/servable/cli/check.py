"""`servable check`: does a version still answer as it did when it was saved?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from servable.cli.options import json_option, models_option, read_tolerance, tolerance_option
from servable.cli.output import columns, say, write, write_json
from servable.engines.devices import DEVICES
from servable.model.formats import ENGINES

if TYPE_CHECKING:
    from servable.engines.check import Checked
    from servable.model.statistics import Feature, SignatureStatistics

_MOST_FEATURES = 20
_BATCH_SAFE = {
    True: "yes: rows alone and rows together agree",
    False: "no: rows influence each other, or the model takes no batches of any size",
    None: "not known: the golden examples have fewer than two different rows",
}


@click.command()
@click.argument("version")
@models_option
@click.option("--engine", type=click.Choice(ENGINES), help="The engine, where the folder has models for several.")
@click.option("--device", type=click.Choice(DEVICES), help="Where to run it. [the engine's own choice]")
@tolerance_option
@json_option
def check(
    *, version: str, models: str, engine: str | None, device: str | None, tolerance: str | None, as_json: bool
) -> int:
    """Check that VERSION still answers as it did when it was saved.

    It is loaded here, as a server loads it: files are compared with their checksums, the golden examples are run, and
    rows are run alone and together. No server is needed. The exit status is 1 where an answer is out of tolerance, or
    where there is none to compare with.

    \b
    VERSION is a version's folder, a model's folder (then its newest version), or MODEL/VERSION in --models.

    \b
    servable check models/digits/3
    servable check digits/3 --device cpu --tolerance 1e-4,1e-3
    """  # noqa: D301  # \b is a mark for click
    from servable.cli.version_folder import version_folder
    from servable.engines.check import check_version

    path = version_folder(version, models)
    found = check_version(path, engine=engine, device=device, tolerance=read_tolerance(tolerance))
    name = f"{path.parent.name}/{path.name}"
    if as_json:
        write_json(_json_value(name, str(path), found))
    else:
        _show(name, found)
    return 0 if found.passed else 1


def _json_value(name: str, path: str, found: Checked) -> dict[str, Any]:
    from servable.model.statistics_json import statistics_to_json

    return {
        "version": name,
        "path": path,
        "format": found.format.name,
        "engine": found.format.engine,
        "golden_examples": found.examples,
        "compared": found.compared,
        "outputs": [vars(each) | {"passed": each.passed} for each in found.report.differences],
        "batch_safe": found.batch_safe,
        "seconds": found.seconds,
        "statistics": statistics_to_json(found.manifest.statistics) if found.manifest else {},
        "passed": found.passed,
    }


def _show(name: str, found: Checked) -> None:
    write(f"{name}: {found.format.name}, {found.examples} golden examples run in {found.seconds * 1e3:.3g} ms")
    if found.compared:
        write("\n" + found.report.table())
    write(f"\nbatch_safe  {_BATCH_SAFE[found.batch_safe]}")
    if found.manifest and found.batch_safe is False and found.manifest.batch_safe:
        say("Its manifest says that rows are independent: on this engine they are not, and a server will not join them")
    for signature, each in (found.manifest.statistics if found.manifest else {}).items():
        write(f"\nfeatures of {each.rows} training rows of {signature}\n" + _features(each))
    if found.passed:
        write("\npassed: it answers as it did when it was saved")
    elif found.compared:
        write("\nfailed: it does not answer as it did when it was saved")
    else:
        say("Nothing was proven: the version has no golden examples with answers")
        say("hint: servable.save writes them; servable replay LOG --keep N makes them of a request log")


def _features(statistics: SignatureStatistics) -> str:
    heads = ("feature", "count", "missing", "mean", "deviation", "from", "to")
    rows = [_feature(each) for each in statistics.features[:_MOST_FEATURES]]
    more = len(statistics.features) - _MOST_FEATURES
    return columns([heads, *rows]) + (f"\nand {more} more" if more > 0 else "")


def _feature(feature: Feature) -> tuple[str, ...]:
    shown = (feature.mean, feature.deviation, feature.minimum, feature.maximum)
    numbers = tuple("" if number is None else f"{number:.4g}" for number in shown)
    if feature.categories and feature.mean is None:
        some = ", ".join(map(str, feature.categories[:3]))
        numbers = ("", "", f"{len(feature.categories)} categories: {some}", "")
    return (feature.name, str(feature.count), f"{feature.missing_ratio:.1%}", *numbers)
