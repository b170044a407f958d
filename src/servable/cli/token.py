"""`servable token`: makes, shows and revokes the tokens of a server."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from servable.cli.options import json_option
from servable.cli.output import columns, say, write, write_json
from servable.errors import SettingsError
from servable.settings.kinds import read_duration
from servable.settings.token_file import SCOPES, Token, create_token, read_tokens, revoke_token

if TYPE_CHECKING:
    from collections.abc import Callable

    Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_FILE = "tokens.json"
_VARIABLE = "SERVABLE_TOKENS"
_HEADS = ("name", "scopes", "created", "expires")


def _file_option(command: Decorated) -> Decorated:
    return click.option(
        "--tokens",
        "file",
        metavar="FILE",
        envvar=_VARIABLE,
        default=_FILE,
        help=f"The file of tokens, as in the setting tokens. [{_VARIABLE}, else {_FILE}]",
    )(command)


@click.group()
def token() -> None:
    """Make, show and revoke the tokens of a server.

    The tokens are in a file that servable serve --tokens FILE follows: a new token is good, and a revoked one is
    refused, as soon as the file has changed. The file holds hashes, not the tokens.
    """


@token.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    required=True,
    help="What it is good for: predict for predictions, read for metadata, status and metrics, write for changing what "
    "is served, admin for everything. May be repeated.",
)
@click.option("--expires", metavar="TIME", help="How long it is good, e.g. 30d. [for ever]")
@_file_option
def create(name: str, scopes: tuple[str, ...], expires: str | None, file: str) -> None:
    """Make a token, and print it.

    It is printed once and cannot be had again. Clients send it as Authorization: Bearer TOKEN, or take it from
    SERVABLE_TOKEN.
    """
    try:
        lifetime = None if expires is None else read_duration(expires)
    except ValueError as error:
        raise SettingsError(f"--expires {error}") from None
    made = create_token(Path(file), name, scopes, lifetime=lifetime)
    say(f"The token {name} is in {file} now. Keep what follows; it is not shown again:")
    write(made)


@token.command("list")
@_file_option
@json_option
def list_tokens(file: str, as_json: bool) -> None:
    """Show the tokens: their names, scopes and times, not the tokens themselves."""
    found = read_tokens(Path(file))
    if as_json:
        write_json([_described(each) for each in found])
    elif found:
        write(columns([_HEADS, *(_row(each) for each in found)]))
    else:
        say(f"There are no tokens in {file}")


@token.command()
@click.argument("name")
@_file_option
def revoke(name: str, file: str) -> None:
    """Remove a token: servers refuse it from then on."""
    revoke_token(Path(file), name)
    say(f"The token {name} is no longer good.")


def _described(found: Token) -> dict[str, Any]:
    times = {"created": _time(found.created), "expires": _time(found.expires)}
    return {"name": found.name, "id": found.id, "scopes": list(found.scopes)} | times


def _row(found: Token) -> tuple[str, ...]:
    end = _time(found.expires) or "never"
    ended = " (expired)" if found.has_expired(time.time()) else ""
    return found.name, ",".join(found.scopes), _time(found.created) or "", end + ended


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
