"""`servable upload`: sends a version to a running server."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from servable.cli.options import DEFAULT_URL, URL_VARIABLE, credentials_options, json_option
from servable.cli.output import say, write_json
from servable.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SUFFIXES = (".gz", ".tgz", ".tar", ".zip", ".onnx", ".tflite", ".py")


@click.command()
@click.argument("source", type=click.Path(exists=True))
@click.option("--model", metavar="NAME", help="The model. [the name of the folder that holds the version]")
@click.option("--version", type=click.IntRange(0, 2**63 - 1), metavar="N", help="The version's number. [the next one]")
@click.option("--wait/--no-wait", default=True, help="Wait until the version answers. [wait]")
@click.option(
    "--to",
    "--url",
    "url",
    metavar="URL",
    envvar=URL_VARIABLE,
    default=DEFAULT_URL,
    help=f"The server. [{URL_VARIABLE}, else {DEFAULT_URL}]",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, 86400, min_open=True),
    default=3600.0,
    help="How long it may take. [3600]",
)
@credentials_options
@json_option
def upload(
    *,
    source: str,
    model: str | None,
    version: int | None,
    wait: bool,
    url: str,
    timeout: float,
    token: str | None,
    ca: str | None,
    cert: str | None,
    as_json: bool,
) -> None:
    """Send a version to a running server, which then serves it.

    SOURCE is the folder of a version, such as models/digits/3, the folder of a model, of which the newest version is
    sent, the file of a model, or a tar, tar.gz or zip.

    The server has to allow it: repository = write, or a token with the scope write.
    """
    from servable.client import Client

    path = _version_in(Path(source).absolute())
    name = model or _name_of(path)
    with Client(url, token=token or None, ca=ca, cert=cert) as client, _progress(f"{name} to {url}") as progress:
        found = client.upload(path, name, version, wait=wait, progress=progress, timeout=timeout)
    if as_json:
        write_json({"model": found.model, "version": found.version, "state": found.state, "sha256": found.sha256})
        return
    state = {"AVAILABLE": "answers", None: "is stored, but not served"}.get(found.state, f"is {found.state}")
    say(f"{found.model}: version {found.version} {state}.")


def _version_in(path: Path) -> Path:
    from servable.model.versions import find_version

    return find_version(path) if path.is_dir() else path


def _name_of(path: Path) -> str:
    """The model's name, as paths have it: `digits` for `digits/3` and for `digits.tar.gz`."""
    from servable.model.versions import version_number

    name = path.name
    if path.is_dir():
        return path.parent.name if version_number(name) is not None else name
    while name.endswith(_SUFFIXES):
        name = name.rpartition(".")[0]
    if not name or name == "model":
        raise InvalidArgument(f"{path} does not say which model it is", hint="say it with --model")
    return name


@contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda sent, size: bar.update(task, completed=sent, total=size)
