"""The arguments of gRPC channels that have a setting here.

Source: https://grpc.github.io/grpc/core/group__grpc__arg__keys.html.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from servable.settings import ServerSettings

logger = logging.getLogger(__name__)

_LARGEST = 2**31 - 1
_MILLISECONDS = {
    "grpc.keepalive_time_ms": "grpc_keepalive",
    "grpc.keepalive_timeout_ms": "grpc_keepalive_timeout",
    "grpc.max_connection_age_ms": "grpc_max_connection_age",
}
_NUMBERS = {
    "grpc.max_concurrent_streams": "grpc_max_streams",
    "grpc.max_receive_message_length": "grpc_max_message_size",
}


def with_channel_arguments(settings: ServerSettings, arguments: str) -> ServerSettings:
    """The settings with what `name=number,name=number` says. What has no setting is logged, and has no effect.

    Example:
        >>> with_channel_arguments(ServerSettings(), "grpc.max_connection_age_ms=60000").grpc_max_connection_age
        60.0
    """
    found: dict[str, Any] = {}
    for argument in filter(None, arguments.split(",")):
        name, _, text = argument.partition("=")
        number = int(text) if re.fullmatch(r"-?\d{1,10}", text, re.ASCII) else None
        if number is None or name not in _MILLISECONDS | _NUMBERS:
            logger.warning("The gRPC channel argument %s has no effect here", argument[:200])
        elif name in _MILLISECONDS:
            # The largest number stands for "never".
            found[_MILLISECONDS[name]] = number / 1000 if 0 < number < _LARGEST else 0.0
        elif number > 0:
            found[_NUMBERS[name]] = min(number, _LARGEST)
    return replace(settings, **found)
