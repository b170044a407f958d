"""Reads a file that somebody named, and not more of it than it may have."""

from __future__ import annotations

from pathlib import Path

from servable.errors import InvalidArgument, NotFound


def read_bounded(path: str | Path, largest: int, what: str) -> bytes:
    """The bytes of a file.

    Args:
        path: The file.
        largest: Bytes that it may have.
        what: What it is called in an error, e.g. `config file`.

    Raises:
        NotFound: It is not there.
        InvalidArgument: It cannot be read, or is larger.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(largest + 1)
    except FileNotFoundError:
        raise NotFound(f"{path}; No such file or directory") from None
    except OSError as error:
        raise InvalidArgument(f"{path}; {error.strerror}") from None
    if len(content) > largest:
        raise InvalidArgument(f"The {what} {path} is larger than {largest} bytes")
    return content
