"""Reads config files: messages in protobuf's text format."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from google.protobuf import text_format

from servable.errors import InvalidArgument
from servable.settings.bounded_file import read_bounded
from servable.tfserving import messages

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.message import Message

LARGEST_FILE = 16 << 20
"""Bytes of a config file."""

_DEEPEST = 100


def read_message(path: str | Path, name: str) -> Any:
    """The message of a text file.

    Args:
        path: The file.
        name: The message, e.g. `ModelServerConfig`.

    Raises:
        NotFound: The file is not there.
        InvalidArgument: It cannot be read, is over LARGEST_FILE, or is no such message; then standard error says where,
            as TensorFlow Serving does.

    Example:
        >>> read_message("models.config", "ModelServerConfig")  # doctest: +SKIP
    """
    content = read_bounded(path, LARGEST_FILE, "config file")
    message = messages.new(name)
    if (trouble := _parse(content, message)) is not None:
        print(f"Error parsing text-format {messages.PACKAGE}.{name}: {trouble}", file=sys.stderr)  # noqa: T201
        raise InvalidArgument(f"Invalid protobuf file: '{path}'")
    return message


def _parse(content: bytes, message: Message) -> str | None:
    """Reads `content` into `message`; what is wrong with it, or None."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        return f"the file is not UTF-8: {error.reason} at byte {error.start}"
    if _depth(text) > _DEEPEST:
        return f"messages are nested deeper than {_DEEPEST}"
    try:
        text_format.Parse(text, message, descriptor_pool=messages.pool())
    except (text_format.ParseError, RecursionError) as error:
        return str(error)
    return None


def _depth(text: str) -> int:
    """An upper bound of how deeply messages are nested: the parser calls itself for each."""
    depth = deepest = 0
    for char in text:
        if char in "{<[":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "}>]":
            depth -= 1
    return deepest
