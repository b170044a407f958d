"""Options that several commands share, and one for every setting of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from servable.settings import CONFIG_FILE, CONFIG_VARIABLE, SECTIONS, TOKEN_VARIABLE, ServerSettings, Setting, table
from servable.settings.kinds import BOOL

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable.model.tolerance import Tolerance

    Decorated = TypeVar("Decorated", bound=Callable[..., Any])

MODELS_VARIABLE = "SERVABLE_MODELS"
MODELS_FOLDER = "models"
URL_VARIABLE = "SERVABLE_URL"
DEFAULT_URL = "http://127.0.0.1:8501"

config_option = click.option(
    "--config", metavar="FILE", help=f"Settings in TOML. [{CONFIG_VARIABLE}, else ./{CONFIG_FILE} if there is one]"
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
models_option = click.option(
    "--models",
    metavar="DIR",
    envvar=MODELS_VARIABLE,
    default=MODELS_FOLDER,
    help=f"The folder of models. [{MODELS_VARIABLE}, else {MODELS_FOLDER}]",
)
timeout_option = click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, 86400, min_open=True),
    default=30.0,
    help="How long the answer may take. [30]",
)


class _SettingOption(click.Option):
    """The option of one setting; its value is text, read with all the others by `load_server_settings`."""

    def __init__(self, setting: Setting) -> None:
        flag = f"{setting.flag}/--no-{setting.flag[2:]}" if setting.kind is BOOL else setting.flag
        default = setting.kind.show(setting.default) or "none"
        self.section = setting.section
        super().__init__(
            [setting.name, flag],
            default=None,
            type=bool if setting.kind is BOOL else str,
            metavar=None if setting.kind is BOOL else setting.kind.metavar,
            help=f"{setting.help[0].upper()}{setting.help[1:]}. [{default}]",
        )


class SettingsCommand(click.Command):
    """A command with an option for every setting; its help lists them by section."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [_SettingOption(setting) for setting in table(ServerSettings)]

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {section: [] for section in ("Options", *SECTIONS)}
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
            if record is not None:
                sections[getattr(parameter, "section", "Options")].append(record)
        for section, records in sections.items():
            with formatter.section(section):
                formatter.write_dl(records)


def tolerance_option(command: Decorated) -> Decorated:
    """`--tolerance`, for commands that compare answers; see `read_tolerance`."""
    return click.option(
        "--tolerance",
        metavar="ABS[,REL]",
        help="How far numbers may be apart. [what the version's manifest says, else by datatype]",
    )(command)


def read_tolerance(text: str | None) -> dict[str, Tolerance] | None:
    """The tolerance of every datatype of floating point; None where nothing is said.

    Raises:
        BadParameter: It is not one or two numbers.
    """
    from servable.model.tolerance import DEFAULTS, Tolerance

    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 2 or not all(0 <= number < float("inf") for number in numbers):
        raise click.BadParameter(f"{text!r} is not one or two numbers", param_hint="--tolerance")
    absolute, relative = numbers[0], numbers[1] if len(numbers) == 2 else 0.0
    return dict.fromkeys(DEFAULTS, Tolerance(absolute, relative))


def credentials_options(command: Decorated) -> Decorated:
    """`--token`, `--ca` and `--cert`, for commands that ask a server."""
    token = click.option(
        "--token",
        metavar="TOKEN",
        envvar=TOKEN_VARIABLE,
        help=f"The token that the server asks for. [{TOKEN_VARIABLE}]",
    )
    ca = click.option(
        "--ca", metavar="FILE", help="Certificates in PEM that the server's own must come from. [those of the system]"
    )
    cert = click.option(
        "--cert", metavar="FILE", help="The client's certificate and private key in PEM, for a server with mutual TLS."
    )
    return token(ca(cert(command)))


def url_option(command: Decorated) -> Decorated:
    """`--url`, for commands whose arguments are something else."""
    return click.option(
        "--url",
        envvar=URL_VARIABLE,
        default=DEFAULT_URL,
        help=f"The server, e.g. grpc://localhost:8500. [{URL_VARIABLE}, else {DEFAULT_URL}]",
    )(command)
