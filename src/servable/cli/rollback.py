"""`servable rollback`: back to the version before, at once and without deleting anything."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from servable.cli.options import json_option, models_option
from servable.cli.output import say, write_json
from servable.cli.pinned import folder_to_pin
from servable.lifecycle import read_pin, version_before, version_policy, write_pin
from servable.lifecycle.folders import list_versions
from servable.settings import load_model_settings, load_server_settings
from servable.storage.uri import bucket_uri

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("model")
@models_option
@json_option
def rollback(model: str, models: str, as_json: bool) -> None:
    """Go back to the version before the one that serves now.

    MODEL is the name of a model, or the path or URI of its folder. The version before is pinned: every server that
    follows this folder serves it, also after a restart, whatever newer versions there are. A second rollback goes back
    one more. Nothing is deleted.
    """
    with folder_to_pin(model, models) as (folder, place):
        pinned = read_pin(folder)
        serving = _serving(folder, pinned)
        version = version_before(folder, serving)
        write_pin(folder, version)
    if as_json:
        write_json({"model": folder.name, "folder": place, "version": version, "before": serving})
        return
    soon = "at their next look" if bucket_uri(place) else "within moments"
    say(f"{folder.name}: version {version} is pinned now; it was version {serving} before. Servers follow {soon}.")
    undo = f"{pinned}" if pinned is not None else "--clear"
    say(f"To undo it: servable pin {shlex.quote(place)} {undo}")


def _serving(folder: Path, pinned: int | None) -> int | None:
    """The version that the settings here lead to; None where that is none, so that the newest counts."""
    if pinned is not None:
        return pinned
    policy = version_policy(load_model_settings(folder, load_server_settings().values).values.version_policy)
    chosen = policy.choose(sorted(list_versions(folder).paths, reverse=True))
    return next(iter(chosen), None)
