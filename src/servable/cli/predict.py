"""`servable predict`: asks a running server about what is in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from servable.cli.options import credentials_options, timeout_option, url_option
from servable.cli.output import say, write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from servable.model.signatures import Signature


@click.command()
@click.argument("model")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@url_option
@click.option("--version", type=click.IntRange(min=0), metavar="N", help="The version to ask. [the newest]")
@click.option("--label", metavar="NAME", help="The label of the version to ask.")
@click.option("--signature", metavar="NAME", help="The signature to call. [serving_default]")
@click.option("--input", "input_name", metavar="NAME", help="The input that FILE is for, where there are several.")
@click.option(
    "--output", "outputs", metavar="NAME", multiple=True, help="An output that is wanted; may be repeated. [all]"
)
@click.option(
    "--header/--no-header", default=None, help="Whether the first line of a CSV file has names. [as it looks]"
)
@click.option(
    "--divide-by",
    type=click.FloatRange(0, min_open=True),
    metavar="NUMBER",
    help="Divide the pixels of an image, which are from 0 to 255, e.g. by 255. [1]",
)
@credentials_options
@timeout_option
def predict(
    *,
    model: str,
    file: str,
    url: str,
    version: int | None,
    label: str | None,
    signature: str | None,
    input_name: str | None,
    outputs: tuple[str, ...],
    header: bool | None,
    divide_by: float | None,
    token: str | None,
    ca: str | None,
    cert: str | None,
    timeout: float,
) -> None:
    """Ask MODEL about what is in FILE, and print its answer as JSON.

    \b
    FILE, or standard input for -, is one of
      JSON   {"instances": [...]} or {"inputs": ...} of TensorFlow Serving, or a plain list of instances
      JSONL  an instance on each line; the name ends in .jsonl
      npy    an array of numpy; npz: arrays that are named like the inputs
      CSV    a row for each instance; columns named like the inputs go there, else all go to the only input
      image  PNG or JPEG, brought to the size that the model wants (needs servable[image])

    What the file is is seen from its content. The answer has "predictions", one for each instance, or for "inputs" has
    "outputs", by name where there are several.
    """  # noqa: D301  # \b is a mark for click
    from servable.cli.answer import lines_of, to_json
    from servable.cli.request_file import Reading, read_file, to_request
    from servable.client import Client

    content = read_file(file)
    with Client(url, timeout=timeout, token=token or None, ca=ca, cert=cert) as client:
        known = client.metadata(model, version=version, label=label).signatures
        reading = Reading(_chooser(known, signature), input_name, header, divide_by)
        request = to_request(file, content, reading)
        for note in request.notes:
            say(note)
        answer = client.predict(
            model,
            request.x,
            version=version,
            label=label,
            signature=request.signature,
            outputs=list(outputs) or None,
        )
    write(lines_of(to_json(answer, rows=request.rows)))


def _chooser(known: Mapping[str, Signature], asked: str | None) -> Any:
    from servable.model.signatures import find_signature

    def choose(in_file: str | None) -> Signature:
        return find_signature(tuple(known.values()), asked or in_file)

    return choose
