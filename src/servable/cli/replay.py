"""`servable replay`: runs a request log against a version, and compares."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from servable.cli.options import credentials_options, models_option, read_tolerance, tolerance_option
from servable.cli.output import say, write_json
from servable.cli.replay_report import as_json_value, show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servable.model.golden import Run
    from servable.model.replay import Replay
    from servable.model.request_log import LogRecord
    from servable.model.tolerance import Tolerance


@click.command()
@click.argument("log")
@click.option("--against", metavar="VERSION", help="The version to try: its number, or the path of its folder.")
@click.option("--baseline", metavar="VERSION", help="The version to compare with. [the answers in the log]")
@click.option("--model", metavar="NAME", help="The model whose records are run. [the one in the log]")
@models_option
@click.option("--server", metavar="URL", help="Ask this running server, not the version's files.")
@tolerance_option
@click.option(
    "--max-slowdown",
    type=click.FloatRange(0, min_open=True),
    metavar="RATIO",
    help="Fail where the median time is more than this many times that of the baseline.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Most records to run. [all]")
@click.option(
    "--speed",
    type=click.Choice(["as-fast", "recorded"]),
    default="as-fast",
    help="One record after the other, or each when it is due, to the second. [as-fast]",
)
@click.option("--keep", type=click.IntRange(1, 1000), metavar="N", help="Only copy the first N records, to --output.")
@click.option("--output", "-o", metavar="FILE", help="Where --keep writes, in the form of a warm-up file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@credentials_options
def replay(*, log: str, keep: int | None, output: str | None, as_json: bool, **options: Any) -> int:
    """Run the requests of LOG against a version, and compare.

    LOG is a file, a folder or a glob of a request log (serve --request-log), or a warm-up file. Each request is run on
    the version --against, and its answer compared with the one in the log, or with that of --baseline on the same
    input. The exit status is 1 where answers are further apart than --tolerance or slower than --max-slowdown.

    \b
    servable replay logs/digits --against 4                        the answers in the log
    servable replay logs/digits --against 4 --baseline 3           version 3, and the times of both
    servable replay logs/digits --keep 100 -o models/digits/4/assets.extra/tf_serving_warmup_requests
    """  # noqa: D301  # \b is a mark for click
    if (keep is None) != (output is None):
        raise click.UsageError("--keep and --output belong together")
    if keep is not None and output is not None:
        _keep(log, options["model"], keep, Path(output))
        return 0
    if options["against"] is None:
        raise click.UsageError("--against is missing: the version to try")
    if options["max_slowdown"] is not None and options["baseline"] is None:
        raise click.UsageError("--max-slowdown needs --baseline: a log holds no times")
    tolerance = read_tolerance(options["tolerance"])
    with ExitStack() as stack:
        found = _replay(stack, log, options, tolerance)
    slow = options["max_slowdown"] is not None and (found.slowdown or 0) > options["max_slowdown"]
    if as_json:
        write_json(as_json_value(found, slow=slow))
    else:
        show(found, slow=slow)
    return 1 if found.mismatches or slow or not found.compared else 0


def _replay(stack: ExitStack, log: str, options: dict[str, Any], tolerance: dict[str, Tolerance] | None) -> Replay:
    from servable.model.replay import at_recorded_speed
    from servable.model.replay import replay as run_again
    from servable.model.request_log import log_files, read_log

    files = log_files(log)
    model = options["model"] or _only_model(read_log(files))
    tried = _open(stack, options["against"], model, options)
    baseline = _open(stack, options["baseline"], model, options) if options["baseline"] is not None else None
    records = islice(read_log(files, model or None), options["limit"])
    if options["speed"] == "recorded":
        records = at_recorded_speed(records)  # type: ignore[assignment]
    progress = stack.enter_context(_Progress())
    return run_again(
        records,
        tried.run,
        baseline=baseline.run if baseline else None,
        tolerance=tolerance or tried.tolerance,
        progress=progress,
    )


def _only_model(records: Iterator[LogRecord]) -> str:
    """The model of the first record; those of others are then passed over."""
    first = next(records, None)
    return first.metadata.model if first else ""


@dataclass(frozen=True, slots=True)
class _Opened:
    run: Run
    tolerance: dict[str, Tolerance] | None


def _open(stack: ExitStack, version: str, model: str, options: dict[str, Any]) -> _Opened:
    if options["server"]:
        return _Opened(_asking(stack, version, model, options), None)
    from servable.engines.load import load_version
    from servable.engines.native import runner, unload

    loaded = load_version(_folder(version, model, options["models"]))
    stack.callback(unload, loaded.servable)
    return _Opened(runner(loaded.servable), dict(loaded.manifest.tolerance) if loaded.manifest else None)


def _folder(version: str, model: str, models: str) -> Path:
    from servable.cli.folders import model_folder
    from servable.errors import NotFound
    from servable.model.versions import find_version, list_versions, version_number

    number = version_number(version)
    if number is None:
        if not Path(version).exists():
            raise NotFound(f"There is no folder {version}", hint="--against takes a number or a folder")
        return find_version(Path(version).absolute())
    if not model:
        raise click.UsageError("--model is missing: the log does not name its model")
    folder = model_folder(model, models)
    known = list_versions(folder)
    if number not in known:
        raise NotFound(f"There is no version {number} in {folder}", hint=f"there are: {', '.join(map(str, known))}")
    return known[number].absolute()


def _asking(stack: ExitStack, version: str, model: str, options: dict[str, Any]) -> Run:
    from servable.client import Client
    from servable.model.versions import version_number
    from servable.wire.tensors import as_tensor

    number = version_number(version)
    if number is None or not model:
        raise click.UsageError("with --server, versions are numbers, and the log or --model names the model")
    client = stack.enter_context(
        Client(options["server"], token=options["token"] or None, ca=options["ca"], cert=options["cert"])
    )
    signatures = client.metadata(model, version=number).signatures

    def run(signature: str, inputs: Any) -> Any:
        arrays = {name: tensor.array for name, tensor in inputs.items()}
        answer = client.predict(model, arrays, version=number, signature=signature)
        known = {spec.name: spec for spec in signatures[signature].outputs} if signature in signatures else {}
        named = answer if isinstance(answer, dict) else {next(iter(known), ""): answer}
        return {
            name: as_tensor(array, known[name].datatype if name in known else None) for name, array in named.items()
        }

    return run


def _keep(log: str, model: str | None, count: int, output: Path) -> None:
    from servable.model.request_log import log_files, read_log
    from servable.wire.tfrecord import write_records

    output.parent.mkdir(parents=True, exist_ok=True)
    kept = [record.data for record in islice(read_log(log_files(log), model), count)]
    staged = output.with_name(f".{output.name}.part")
    staged.touch(mode=0o600)
    with staged.open("wb") as file:
        write_records(file, kept)
    staged.replace(output)
    say(f"{len(kept)} records are in {output} now")


class _Progress:
    """A line that is written again each second, on a terminal only."""

    def __init__(self) -> None:
        import sys

        self._shown = sys.stderr.isatty()
        self._next = time.monotonic() + 1

    def __enter__(self) -> Callable[[Replay], None]:
        return self._tell

    def __exit__(self, *_: object) -> None:
        if self._shown:
            click.echo("\r\x1b[K", nl=False, err=True)

    def _tell(self, found: Replay) -> None:
        if self._shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + 1
            click.echo(f"\r{found.records} records, {found.mismatches} mismatches\x1b[K", nl=False, err=True)
