"""The command `servable`: one module for each subcommand, imported when it is asked for.

Data goes to standard output, everything else to standard error. The exit status is 0, 1 where the work failed, or 2
where the command line is wrong.
"""

from __future__ import annotations

import click

from servable.cli.commands import Commands

_COMMANDS = (
    "serve", "status", "predict", "upload", "load", "unload", "remove", "rollback", "pin", "check", "diff", "replay",
    "token", "doctor", "config",
)  # fmt: skip
_EPILOG = """\
\b
Completion of commands and flags, for bash (zsh and fish likewise):
  eval "$(_SERVABLE_COMPLETE=bash_source servable)"
"""


def _show_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from servable.version import __version__

        click.echo(f"servable {__version__}")
        context.exit()


@click.group(
    cls=Commands,
    commands_of="servable.cli",
    names=_COMMANDS,
    invoke_without_command=True,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
@click.pass_context
def main(context: click.Context) -> None:
    """Serve, version and swap trained models."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)


__all__ = ["main"]
