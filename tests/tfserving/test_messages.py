from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import descriptor_pool

from servable.tfserving import messages

if TYPE_CHECKING:
    from types import SimpleNamespace

FILES = (
    "apis.model_management",
    "config.log_collector_config",
    "config.logging_config",
    "config.model_server_config",
    "config.monitoring_config",
    "config.ssl_config",
    "servables.tensorflow.session_bundle_config",
    "sources.storage_path.file_system_storage_path_source",
)


def described(message: Any) -> dict[str, Any]:
    """A message and those inside it: name -> its fields."""
    fields = {
        field.name: (
            field.number,
            field.type,
            field.is_repeated,
            field.message_type and field.message_type.full_name,
            field.containing_oneof and field.containing_oneof.name,
        )
        for field in message.fields
    }
    inner = [described(each) for each in message.nested_types]
    return {message.full_name: fields} | {name: value for each in inner for name, value in each.items()}


@pytest.mark.parametrize("name", FILES)
def test_every_message_is_the_one_that_proto_declares(name: str, tfs: SimpleNamespace) -> None:
    file = importlib.import_module(f"tensorflow_serving.{name}_pb2").DESCRIPTOR
    for message in file.message_types_by_name.values():
        if message.name == "ReloadConfigResponse":  # written by the data plane
            continue
        assert described(messages.pool().FindMessageTypeByName(message.full_name)) == described(message)


def test_the_pool_is_not_that_of_other_packages() -> None:
    assert messages.pool() is not descriptor_pool.Default()
