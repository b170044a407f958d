from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from servable.settings import ServerSettings
from servable.tfserving.channel import with_channel_arguments

if TYPE_CHECKING:
    import pytest


def test_arguments_of_grpc_become_settings() -> None:
    arguments = "grpc.max_connection_age_ms=1500,grpc.max_concurrent_streams=7,grpc.max_receive_message_length=100"
    expected = ServerSettings(grpc_max_connection_age=1.5, grpc_max_streams=7, grpc_max_message_size=100)
    assert with_channel_arguments(ServerSettings(), arguments) == expected


def test_no_limit_stays_no_limit() -> None:
    never = with_channel_arguments(ServerSettings(), "grpc.keepalive_time_ms=2147483647")
    assert never == ServerSettings(grpc_keepalive=0.0)
    assert with_channel_arguments(ServerSettings(), "grpc.max_receive_message_length=-1,") == ServerSettings()


def test_what_has_no_setting_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = with_channel_arguments(ServerSettings(), "grpc.lb_policy_name=x,grpc.keepalive_time_ms=soon")
    assert found == ServerSettings()
    assert len(caplog.records) == 2
    assert "grpc.lb_policy_name=x has no effect" in caplog.text
