"""`servable unload`: takes a model of a running server out of service."""

from __future__ import annotations

import shlex

import click

from servable.cli.options import credentials_options, timeout_option, url_option
from servable.cli.output import say


@click.command()
@click.argument("model")
@url_option
@credentials_options
@timeout_option
def unload(*, model: str, url: str, token: str | None, ca: str | None, cert: str | None, timeout: float) -> None:
    """Unload MODEL from a running server; its files stay.

    Requests that are being answered are finished. The model stays unloaded, whatever new versions come, until it is
    loaded again or the server restarts.
    """
    from servable.client import Client

    with Client(url, token=token or None, ca=ca, cert=cert) as client:
        client.unload(model, timeout=timeout)
    say(f"{model}: unloaded. To undo it: servable load {shlex.quote(model)}")
