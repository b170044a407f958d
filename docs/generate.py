"""Writes the pages of docs/reference/ that are made from the code: settings, errors, commands, tested versions.

Usage: python docs/generate.py [--check]

With --check nothing is written; the exit status is 1 where a page is not current.
"""

from __future__ import annotations

import inspect
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from servable import errors
from servable.settings import SECTIONS, ModelSettings, ServerSettings, Setting, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Made by docs/generate.py: change the code, not this page. -->\n"
HELP_WIDTH = 100


SETTINGS_INTRO = """
# Settings

Every setting can be given as a flag of `servable serve`, as an environment variable, or in a TOML file. The first that
says something wins, in this order; `servable config` shows every value and where it comes from.

```toml title="servable.toml"
rest_port = 8501
max_body_size = "64MiB"
request_timeout = "30s"
```

The file is `servable.toml` in the working directory, or the one that `--config` or `SERVABLE_CONFIG` names. Unknown
names in it are errors. Sizes are in bytes or have a unit (`64MiB`, `1GB`); times are in seconds or have units (`250ms`,
`1h30m`).

Settings marked with ● can also be set for one model, in a `servable.toml` in the folder that holds its versions.
"""

ERRORS_INTRO = """
# Errors

Everything that servable raises, in a program or as the answer of a server, is one of these. The code is a stable word;
it does not change between releases. Many errors have a hint: what to do about it.
"""

ERRORS_OUTRO = """
A client raises the class whose status the server answered with, and keeps the server's text. Over REST
`FailedPrecondition` cannot be told from `InvalidArgument`: both are 400.

Python's own classes work too: `InvalidArgument` is a `ValueError`, `NotFound` a `LookupError`, `DeadlineExceeded` a
`TimeoutError`.
"""

VERSIONS_INTRO = """
# Tested versions

The versions of the frameworks and engines that the tests ran with when they last passed; the tests compare this page
with what is installed. Others that [the extras](../start/install.md) allow should do as well: a version is proven when
it is saved, and again when it is loaded.
"""

FRAMEWORKS = {
    "TensorFlow": ("tensorflow", "served, saved"),
    "Keras": ("keras", "saved"),
    "Keras 2": ("tf-keras", "saved"),
    "PyTorch": ("torch", "saved"),
    "JAX": ("jax", "saved"),
    "scikit-learn": ("scikit-learn", "saved"),
    "XGBoost": ("xgboost-cpu", "saved"),
    "LightGBM": ("lightgbm", "saved"),
    "ONNX Runtime": ("onnxruntime", "served"),
    "LiteRT": ("ai-edge-litert", "served"),
    "TensorFlow Text": ("tensorflow-text", "served"),
    "ONNX": ("onnx", "converts"),
    "skl2onnx": ("skl2onnx", "converts"),
    "ONNX Script": ("onnxscript", "converts"),
    "obstore": ("obstore", "reads and writes buckets"),
    "gRPC": ("grpcio", "client"),
    "pandas": ("pandas", "inputs"),
    "NumPy": ("numpy", "everywhere"),
}
"""Name -> the package that the tests install, and what it is for here."""

COMMANDS_INTRO = """
# Commands

Data goes to standard output, everything else to standard error. The exit status is 0, 1 where the work failed, or 2
where the command line is wrong.
"""


def settings_page() -> str:
    """Every setting, by section."""
    parts = [NOTE + SETTINGS_INTRO]
    rows = table(ServerSettings, ModelSettings)
    for section in SECTIONS:
        parts.append(f"## {section}\n")
        parts.append("| setting | default | flag and variable | what it does |\n|---|---|---|---|")
        parts.append("\n".join(_setting_row(row) for row in rows if row.section == section) + "\n")
    return "\n".join(parts)


def _setting_row(row: Setting) -> str:
    default = row.kind.show(row.default)
    shown = f"`{default}`" if default else "none"
    ways = f"`{row.flag}`<br>`{row.environment}`" if row.flag else "only in the file of a model"
    mark = " ●" if row.per_model else ""
    return f"| `{row.name}`{mark}<br>{row.kind.name} | {shown} | {ways} | {_cell(row.help)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def errors_page() -> str:
    """Every error class, with its code and statuses."""
    drawing = inspect.cleandoc(str(errors.__doc__).split("\n\n")[1])
    rows = (
        f"| `{cls.__name__}` | `{cls.code}` | {cls.http_status} | {cls.grpc_status} |" for cls in errors.all_errors()
    )
    table_head = "| class | code | HTTP | gRPC |\n|---|---|---|---|"
    return "\n".join([NOTE + ERRORS_INTRO, f"```text\n{drawing}\n```\n", table_head, *rows, ERRORS_OUTRO])


def commands_page() -> str:
    """Every command with its help."""
    from servable.cli import main

    settings = main.context_settings | {"terminal_width": HELP_WIDTH, "max_content_width": HELP_WIDTH}
    parts = (_command_part(path, command, settings) for path, command in _commands("servable", main))
    return "\n".join([NOTE + COMMANDS_INTRO, *parts])


def _commands(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _commands(f"{path} {name}", child)


def _command_part(path: str, command: click.Command, settings: Mapping[str, Any]) -> str:
    context = click.Context(command, info_name=path, **settings)
    return f"## {path}\n\n```text\n{command.get_help(context)}\n```\n"


def versions_page() -> str:
    """The installed version of every framework."""
    rows = (f"| {name} | {metadata.version(package)} | {use} |" for name, (package, use) in FRAMEWORKS.items())
    return "\n".join([NOTE + VERSIONS_INTRO, "| framework | version | here |\n|---|---|---|", *rows, ""])


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "errors.md": errors_page,
    "commands.md": commands_page,
    "versions.md": versions_page,
}


def main(arguments: list[str]) -> int:
    """Writes the pages, or with --check compares them; the exit status."""
    check = arguments == ["--check"]
    stale = []
    for name, page in PAGES.items():
        path, text = REFERENCE / name, page()
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if not check:
                path.write_text(text)
    if stale:
        click.echo(("not current: " if check else "written: ") + ", ".join(stale), err=True)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
