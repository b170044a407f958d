"""Request logs: which file holds what, and their records one after the other.

A record is a serialized `tensorflow.serving.PredictionLog`. Files of TFRecords (`*.tfrecord`, and any other name) hold
them as they are; files of JSON lines (`*.jsonl`, `*.json`) hold one a line in protobuf's own JSON form. A file is read
piece by piece, so a log may be larger than the memory.
"""

from __future__ import annotations

import glob
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from servable.errors import InvalidArgument, NotFound
from servable.wire.log_json import record_of_line
from servable.wire.log_metadata import LogMetadata, read_metadata
from servable.wire.tfrecord import read_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

logger = logging.getLogger(__name__)

TFRECORD, JSON_LINES = ".tfrecord", (".jsonl", ".json")
MAX_RECORD_BYTES = 1 << 30
MAX_FILES = 100_000


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of a log.

    Attributes:
        number: Its place in the log, from 1, counting those of other models too.
        file: Where it stands.
        data: The serialized `PredictionLog`.
        metadata: What is known about it; empty where the log does not say.
    """

    number: int
    file: Path
    data: bytes
    metadata: LogMetadata


def log_files(log: str | Path) -> list[Path]:
    """The files of a log, oldest first.

    Args:
        log: A file, a folder (with all `*.tfrecord` and `*.jsonl` files in it and below), or a glob.

    Raises:
        NotFound: There is nothing of that name.
        InvalidArgument: There are more than MAX_FILES.
    """
    path = Path(log)
    if path.is_dir():
        found = [file for suffix in (TFRECORD, *JSON_LINES) for file in path.rglob(f"*{suffix}") if file.is_file()]
    elif path.is_file():
        return [path]
    else:
        found = [Path(name) for name in glob.iglob(str(log)) if Path(name).is_file()]  # noqa: PTH207  # may be absolute
        if not found:
            raise NotFound(f"There is no request log {log}", hint="name a file, a folder, or a glob in quotes")
    if len(found) > MAX_FILES:
        raise InvalidArgument(f"{log} has more than {MAX_FILES} files")
    return sorted(found, key=lambda file: (file.name, file))


def read_log(files: Sequence[Path], model: str | None = None) -> Iterator[LogRecord]:
    """The records of these files, one after the other.

    A last record that is cut short, as a server leaves it that was killed, is logged and passed over. So is a file that
    was removed meanwhile, as a server does that keeps its log small.

    Args:
        files: As `log_files` gives them.
        model: Only records of this model, and those that name none.

    Raises:
        InvalidArgument: A file is no log, or is damaged.
    """
    number = 0
    for file in files:
        for data in _records(file):
            number += 1
            metadata = read_metadata(data)
            if model is None or metadata.model in ("", model):
                yield LogRecord(number, file, data, metadata)


def _records(file: Path) -> Iterator[bytes]:
    try:
        yield from _lines(file) if file.suffix in JSON_LINES else _tfrecords(file)
    except FileNotFoundError:
        logger.warning("%s has been removed meanwhile", file)
    except InvalidArgument as error:
        raise InvalidArgument(f"{file}: {error}", hint=error.hint) from None


def _tfrecords(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        yield from read_records(opened, max_bytes=MAX_RECORD_BYTES, if_cut_short=lambda: _tell_cut_short(file))


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while line := opened.readline(MAX_RECORD_BYTES):
            if not line.endswith(b"\n"):
                if len(line) == MAX_RECORD_BYTES:
                    raise InvalidArgument(f"A line is longer than {MAX_RECORD_BYTES} bytes")
                _tell_cut_short(file)
                return
            yield record_of_line(line)


def _tell_cut_short(file: Path) -> None:
    logger.warning("The last record of %s is cut short; it is passed over", file)
