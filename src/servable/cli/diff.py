"""`servable diff`: how the answers of two versions to the same inputs differ."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from servable.cli.diff_report import as_json_value, show
from servable.cli.options import json_option, models_option, read_tolerance, tolerance_option
from servable.cli.output import say, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servable.engines.load import Loaded
    from servable.model.difference import Differences
    from servable.model.golden import GoldenExample

# Of a file with many rows so many are run at once: much for an engine, little for memory.
_ROWS = 256


@click.command()
@click.argument("first")
@click.argument("second")
@models_option
@click.option("--data", metavar="FILE", help="Inputs in a file, as for servable predict. [their golden examples]")
@click.option("--signature", metavar="NAME", help="The signature that --data is for. [serving_default]")
@click.option("--input", "input_name", metavar="NAME", help="The input that --data is for, where there are several.")
@click.option("--header/--no-header", default=None, help="Whether a CSV file begins with names. [as it looks]")
@tolerance_option
@json_option
def diff(*, first: str, second: str, models: str, tolerance: str | None, as_json: bool, **data: Any) -> int:
    """Run two versions on the same inputs, and show how their answers differ.

    Both are loaded here, by the engines that serve them; no server is needed. Without --data the inputs are the golden
    examples of both. The exit status is 1 where answers are further apart than --tolerance, or where nothing could be
    compared.

    \b
    FIRST and SECOND are folders of versions, or MODEL/VERSION in --models.

    \b
    servable diff digits/3 digits/4
    servable diff models/digits/3 /tmp/candidate --data holdout.npy --tolerance 0.01
    """  # noqa: D301  # \b is a mark for click
    from servable.cli.version_folder import version_folder
    from servable.engines.load import load_version
    from servable.engines.native import unload
    from servable.engines.options import EngineOptions
    from servable.model.difference import Differences

    folders = [version_folder(name, models) for name in (first, second)]
    limits = read_tolerance(tolerance)
    with ExitStack() as stack:
        versions = []
        for folder in folders:
            # A version that fails its golden examples is the one to look at.
            versions.append(load_version(folder, EngineOptions(warm_up_iterations=0)))
            stack.callback(unload, versions[-1].servable)
        if limits is None:
            limits = dict(versions[0].manifest.tolerance) if versions[0].manifest else {}
        found = Differences(limits)
        inputs = _golden_inputs(folders) if data["data"] is None else _file_inputs(versions[0], data)
        _compare(found, versions, inputs)
    if as_json:
        write_json(as_json_value(first, second, found))
    else:
        show(first, second, found)
    return 0 if found.passed else 1


def _compare(found: Differences, versions: list[Loaded], inputs: Iterator[GoldenExample]) -> None:
    from servable.engines.native import runner
    from servable.errors import ServableError

    first, second = (runner(version.servable) for version in versions)
    for example in inputs:
        answers = first(example.signature, example.inputs)
        try:
            others = second(example.signature, example.inputs)
        except ServableError as error:
            raise type(error)(f"The second version does not take what the first one takes: {error}") from error
        found.add(example.signature, answers, others)


def _golden_inputs(folders: list[Path]) -> Iterator[GoldenExample]:
    """The golden examples of both versions, each once."""
    from servable.model.golden import read_examples

    seen = set()
    for folder in folders:
        for example in read_examples(folder):
            key = _key(example)
            if key not in seen:
                seen.add(key)
                yield example


def _key(example: GoldenExample) -> tuple[Any, ...]:
    from servable.wire.tensors import octets

    tensors = sorted(example.inputs.items())
    contents = [
        repr(tensor.array.tolist()).encode() if tensor.datatype == "BYTES" else octets(tensor.array).tobytes()
        for _, tensor in tensors
    ]
    kinds = [(name, tensor.datatype, tensor.shape) for name, tensor in tensors]
    return (example.signature, *kinds, *contents)


def _file_inputs(version: Loaded, data: dict[str, Any]) -> Iterator[GoldenExample]:
    from servable.cli.request_file import Reading, read_file, to_request
    from servable.model.bind import bind
    from servable.model.golden import GoldenExample
    from servable.model.signatures import find_signature
    from servable.wire.tensors import Tensor

    def choose(in_file: str | None) -> Any:
        return find_signature(version.signatures, data["signature"] or in_file)

    name = data["data"]
    request = to_request(name, read_file(name), Reading(choose, data["input_name"], data["header"]))
    for note in request.notes:
        say(note)
    signature = choose(request.signature)
    tensors = bind(request.x, signature)
    rows = {tensor.shape[0] if tensor.shape else None for tensor in tensors.values()}
    count = rows.pop() if len(rows) == 1 and signature.batch_axis == 0 else None
    if count is None:
        yield GoldenExample(tensors, signature=signature.name)
        return
    for start in range(0, count, _ROWS):
        part = {each: Tensor(tensor.datatype, tensor.array[start : start + _ROWS]) for each, tensor in tensors.items()}
        yield GoldenExample(part, signature=signature.name)
