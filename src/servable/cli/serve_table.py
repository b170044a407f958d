"""The live table of `servable serve` on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from servable.cli.curl import curl_line
from servable.cli.output import first_line, printable, size_text
from servable.cli.serve_display import places, reachable, served

if TYPE_CHECKING:
    from rich.console import RenderableType

    from servable.server import Addresses
    from servable.server.report import ServerReport, VersionReport

_STYLES = {"AVAILABLE": "green", "LOADING": "yellow", "START": "yellow", "UNLOADING": "cyan", "END": "red"}
_HEADS = ("model", "version", "state", "format", "batching", "memory", "note")


class LiveTable:
    """A table at the bottom of the terminal; log lines go by above it."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        # Drawn anew when something changes, not by a clock.
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False)
        self._rest: str | None = None  # its URL
        self._has_shown_a_request = False

    def start(self, addresses: Addresses) -> None:
        for place in places(addresses):
            self._say(f"Listening on {place}")
        if addresses.rest:
            self._rest = f"{'https' if addresses.tls else 'http'}://{reachable(addresses.rest)}"
            self._say(f"Metrics on {self._rest}/metrics, health on {self._rest}/readyz")
        self._live.start()

    def show(self, report: ServerReport) -> None:
        self._suggest_request(report)
        self._live.update(Group(_table(report), _summary(report)), refresh=True)

    def end(self) -> None:
        self._live.stop()

    def _suggest_request(self, report: ServerReport) -> None:
        """Once, above the table, where a long line is not broken and so can be copied."""
        if self._has_shown_a_request or self._rest is None:
            return
        for row in report.versions:
            if row.default and row.signatures:
                self._has_shown_a_request = True
                self._say("Try, in another terminal:")
                self._say(f"  {curl_line(self._rest, row.model, row.signatures[0])}")
                return

    def _say(self, text: str) -> None:
        self._console.print(Text(printable(text)), soft_wrap=True)


def _table(report: ServerReport) -> RenderableType:
    table = Table(*_HEADS, title_justify="left", header_style="bold")
    for row in report.versions:
        table.add_row(*_cells(row))
    return table


def _cells(row: VersionReport) -> list[Text]:
    number = "" if row.version is None else f"{row.version}"
    return [
        Text(first_line(row.model)),
        Text(number, style="bold" if row.default else ""),
        Text(row.state, style=_STYLES.get(row.state, "")),
        Text(row.format),
        Text(row.batching),
        Text(size_text(row.memory), justify="right"),
        Text(first_line(row.note), style="red" if row.failed else ""),
    ]


def _summary(report: ServerReport) -> Text:
    if report.starting:
        return Text("Loading ...")
    if report.not_ready:
        return Text(f"Not ready: {first_line('; '.join(report.not_ready))}", style="red")
    return Text(f"Ready: {printable(served(report))}. Ctrl-C ends the server")
