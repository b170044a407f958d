"""`servable load`: has a running server serve a model that was unloaded or has failed."""

from __future__ import annotations

import click

from servable.cli.options import credentials_options, timeout_option, url_option
from servable.cli.output import say


@click.command()
@click.argument("model")
@click.option("--version", type=click.IntRange(0, 2**63 - 1), metavar="N", help="Pin the model to this version.")
@click.option("--unpin", is_flag=True, help="Take the model's pin away: the version policy decides again.")
@url_option
@credentials_options
@timeout_option
def load(
    *,
    model: str,
    version: int | None,
    unpin: bool,
    url: str,
    token: str | None,
    ca: str | None,
    cert: str | None,
    timeout: float,
) -> None:
    """Load MODEL into a running server, and return once it answers.

    It is for a model that was unloaded, or that failed and is to be tried again. New versions are loaded by themselves.
    """
    from servable.client import Client

    if unpin and version is not None:
        raise click.UsageError("Give --version or --unpin, not both")
    with Client(url, token=token or None, ca=ca, cert=cert) as client:
        if unpin:
            client.unpin(model, timeout=timeout)
        client.load(model, version, timeout=timeout)
    say(f"{model}: {'answers' if version is None else f'version {version} is pinned and answers'}.")
