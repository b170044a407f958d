"""Logging of the server process: text on a terminal, one JSON object a line elsewhere."""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from servable.settings import ServerSettings

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def set_up_logging(settings: ServerSettings) -> None:
    """Sends the log of this process to standard error, in the form and from the level that the settings say."""
    handler = StderrHandler()
    handler.setFormatter(TextFormatter() if is_text(settings) else JsonFormatter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    threading.excepthook = _log_fault


def is_text(settings: ServerSettings) -> bool:
    """Whether log lines are text: asked for, or not said and standard error is a terminal."""
    return settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())


class StderrHandler(logging.Handler):
    """Writes to what standard error is at that moment: a live display may have put itself before it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:  # logging must never end what it tells of
            self.handleError(record)


class JsonFormatter(logging.Formatter):
    """One line: time (ISO 8601, UTC), level, logger, message, what was passed in `extra`, and `error` with a trace."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD and name not in line}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """`12:34:56 warning  message`; characters that steer a terminal are replaced, further lines are indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).replace(record.levelname, record.levelname.lower(), 1)
        lines = text.replace("\r", "\n").split("\n")
        return "\n    ".join("".join(each if each.isprintable() else "\ufffd" for each in line) for line in lines)


def _log_fault(fault: threading.ExceptHookArgs) -> None:
    if fault.exc_value is not None and not isinstance(fault.exc_value, SystemExit):
        name = fault.thread.name if fault.thread else "unknown"
        logging.getLogger("servable").critical("The thread %s ended with an error", name, exc_info=fault.exc_value)
