"""`servable remove`: deletes a version, or a whole model, from a running server's disk."""

from __future__ import annotations

import click

from servable.cli.options import credentials_options, timeout_option, url_option
from servable.cli.output import printable, say


@click.command()
@click.argument("model")
@click.option("--version", type=click.IntRange(0, 2**63 - 1), metavar="N", help="This version alone.")
@click.option("--yes", is_flag=True, help="Do not ask before a whole model is deleted.")
@url_option
@credentials_options
@timeout_option
def remove(
    *,
    model: str,
    version: int | None,
    yes: bool,
    url: str,
    token: str | None,
    ca: str | None,
    cert: str | None,
    timeout: float,
) -> None:
    """Delete MODEL, or one version of it, from the disk of a running server.

    Where the newest version is deleted, the one before it takes over.
    """
    from servable.client import Client

    if version is None and not yes:
        click.confirm(printable(f"Delete {model} with all its versions from {url}?"), abort=True, err=True)
    with Client(url, token=token or None, ca=ca, cert=cert) as client:
        client.remove(model, version, timeout=timeout)
    say(f"{model}: {'removed' if version is None else f'version {version} is removed'}.")
