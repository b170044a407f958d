"""python -m bench list | setup | run SCENARIO... | render"""

from __future__ import annotations

import datetime as dt
import importlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench import machine, render
from bench.samples import Result
from bench.scenarios.base import Options
from bench.servers import venvs
from bench.tools import RESULTS, WORK, BenchError, need_tools

if TYPE_CHECKING:
    from bench.scenarios.base import Figures

SCENARIOS = [
    "floor", "tensorflow", "batch", "cnn", "swap", "swap_1gb", "isolation", "request_log", "wire", "peers", "start",
]  # fmt: skip
QUICK = Options(runs=2, seconds=0.5, swaps=2)
FULL_SWAPS = 50


@click.group()
def main() -> None:
    """Measures servable beside a floor, the raw engine and other servers. See bench/README.md."""


@main.command("list")
def list_() -> None:
    """The scenarios."""
    for name in SCENARIOS:
        print(f"{name:12} {importlib.import_module(f'bench.scenarios.{name}').TITLE}")


@main.command()
def setup() -> None:
    """Checks the tools, and makes the peers' environments."""
    need_tools()
    for peer in venvs.PACKAGES:
        print(f"{peer}: {venvs.environment(peer)}")


@main.command()
@click.argument("names", nargs=-1, required=True, metavar="SCENARIO...")
@click.option("--runs", default=5, show_default=True, help="Runs of each server in each cell.")
@click.option("--seconds", default=2.0, show_default=True, help="Length of one run.")
@click.option("--full", is_flag=True, help=f"{FULL_SWAPS} swaps instead of 10: some 20 minutes.")
@click.option("--quick", is_flag=True, help="Two runs of half a second: only to see that it works. Kept apart.")
@click.option(
    "--wheel", type=click.Path(exists=True, path_type=Path), help="The wheel to weigh, not the newest of dist/."
)
def run(names: tuple[str, ...], runs: int, seconds: float, full: bool, quick: bool, wheel: Path | None) -> None:
    """Measures, and writes data, page and plot into bench/results/. "all" names every scenario."""
    if "all" in names:
        names = tuple(SCENARIOS)
    if unknown := set(names) - set(SCENARIOS):
        raise BenchError(f"No scenario {', '.join(sorted(unknown))}. There are: {', '.join(SCENARIOS)}")
    need_tools()
    options = QUICK if quick else Options(runs, seconds, FULL_SWAPS if full else Options.swaps, wheel)
    folder = WORK / "results" if quick else RESULTS
    for name in names:
        _measure(name, options).save(folder)
        render.render(folder)
    print((folder / "README.md").read_text())


@main.command("render")
def render_() -> None:
    """Writes pages and plots again from the data in bench/results/."""
    for path in render.render(RESULTS):
        print(path)


def _measure(name: str, options: Options) -> Result:
    """Runs one scenario and notes what is needed to judge its figures."""
    module = importlib.import_module(f"bench.scenarios.{name}")
    print(f"{name}: {module.TITLE}", flush=True)
    before, began = machine.describe(), dt.datetime.now(dt.UTC)
    figures: Figures = module.run(options)
    return Result(
        scenario=name,
        title=module.TITLE,
        command=shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        date=began.isoformat(timespec="seconds"),
        machine=before,
        versions=machine.versions(),
        settings={"runs": str(options.runs), "seconds a run": f"{options.seconds:g}"},
        cells=figures.cells,
        checks=figures.checks,
        charts=figures.charts,
        notes=figures.notes,
    )


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(f"bench: {error}")
