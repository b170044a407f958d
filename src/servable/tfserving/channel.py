"""The arguments of gRPC channels that have a setting here.

Source: https://grpc.github.io/grpc/core/group__grpc__arg__keys.html.
"""

from __future__ import annotations

import logging
import re

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


def channel_settings(arguments: str) -> dict[str, float | int]:
    """The settings that `name=number,name=number` comes to. What has no setting is logged, and has no effect.

    Example:
        >>> channel_settings("grpc.max_connection_age_ms=60000,grpc.max_concurrent_streams=10")
        {'grpc_max_connection_age': 60.0, 'grpc_max_streams': 10}
    """
    settings: dict[str, float | int] = {}
    for argument in filter(None, arguments.split(",")):
        name, _, text = argument.partition("=")
        number = int(text) if re.fullmatch(r"-?\d{1,10}", text, re.ASCII) else None
        if number is None or name not in _MILLISECONDS | _NUMBERS:
            logger.warning("The gRPC channel argument %s has no effect here", argument[:200])
        elif name in _MILLISECONDS:
            # The largest number stands for "never".
            settings[_MILLISECONDS[name]] = number / 1000 if 0 < number < _LARGEST else 0.0
        elif number > 0:
            settings[_NUMBERS[name]] = min(number, _LARGEST)
    return settings
