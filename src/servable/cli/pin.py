"""`servable pin`: one version is served, whatever newer ones there are."""

from __future__ import annotations

import shlex

import click

from servable.cli.options import json_option, models_option
from servable.cli.output import say, write_json
from servable.cli.pinned import folder_to_pin
from servable.lifecycle import clear_pin, read_pin, write_pin


@click.command()
@click.argument("model")
@click.argument("version", required=False, type=click.IntRange(min=0, max=2**63 - 1))
@click.option("--clear", is_flag=True, help="Take the pin away.")
@models_option
@json_option
def pin(model: str, version: int | None, clear: bool, models: str, as_json: bool) -> None:
    """Pin a model to VERSION, or take the pin away.

    MODEL is the name of a model, or the path or URI of its folder. Every server that follows this folder serves the
    pinned version, also after a restart. Without VERSION the pin is shown.
    """
    if clear and version is not None:
        raise click.UsageError("Give a version or --clear, not both")
    with folder_to_pin(model, models) as (folder, place):
        text = "There was no pin."
        if version is not None:
            write_pin(folder, version)
            text = f"Version {version} is pinned now. To undo it: servable pin {shlex.quote(place)} --clear"
        elif clear:
            if clear_pin(folder):
                text = "The pin is gone: the version policy decides again."
        else:
            pinned = read_pin(folder)
            text = "No version is pinned." if pinned is None else f"Version {pinned} is pinned."
        pinned = read_pin(folder)
    if as_json:
        write_json({"model": folder.name, "folder": place, "pin": pinned})
    else:
        say(f"{folder.name}: {text}")
