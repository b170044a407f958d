"""Where the requests of each model are logged, as the data plane is told (`native/dataplane/src/request_log/`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servable.errors import SettingsError

if TYPE_CHECKING:
    from servable.settings import PerModelSettings

_MODE = 0o700
# Everything else may mean something to a file system, or to a shell.
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]|^\.")


@dataclass(frozen=True, slots=True)
class LogTarget:
    """What a list of models says about the log of one of them.

    Attributes:
        prefix: Files are named `PREFIX-DATE-TIME-NUMBER.EXTENSION`.
        sample: Share of the requests that is logged, from 0 to 1.
    """

    prefix: Path
    sample: float


def describe_log(model: str, settings: PerModelSettings, listed: LogTarget | None = None) -> dict[str, Any] | None:
    """What the data plane is told about a model's log; None where there is none.

    Args:
        model: Its name.
        settings: Its settings.
        listed: What the list of models says; goes before the settings.
    """
    if listed is None and not settings.request_log:
        return None
    target = listed or LogTarget(log_folder(settings.request_log, model) / "requests", settings.request_log_sample)
    return {
        "prefix": str(target.prefix.absolute()),
        "sample": target.sample,
        "format": settings.request_log_format,
        "max_bytes": settings.request_log_max_size,
    }


def log_folder(folder: str | Path, model: str) -> Path:
    """The folder of one model's log; what a file system may not take in a name is written as %XX.

    Example:
        >>> log_folder("logs", "a/b").name
        'a%2Fb'
    """
    return Path(folder) / _UNSAFE.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), model)


def make_log_folder(folder: str) -> None:
    """Makes the folder of the request logs, for its owner alone, where it is missing.

    Raises:
        SettingsError: It cannot be made.
    """
    try:
        Path(folder).mkdir(mode=_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"request_log {folder} is no folder that can be made: {error.strerror}") from None
