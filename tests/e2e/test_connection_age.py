"""gRPC connections that are old end after their calls, and clients come back on new ones."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import grpc

from version_folders import publish_python

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import SimpleNamespace

    from gates import Gate
    from servable.server import ModelServer


def test_a_call_outlives_the_age_of_its_connection_and_the_next_one_takes_another(
    models: Path,
    gate: Gate,
    start: Callable[..., ModelServer],
    tfs: SimpleNamespace,
    channel: Callable[[ModelServer], grpc.Channel],
) -> None:
    publish_python(models / "slow", 1, gate.source)
    server = start(request_timeout=60.0, grpc_max_connection_age=0.3)
    request = tfs.predict.PredictRequest()
    request.model_spec.name = "slow"
    request.inputs["x"].CopyFrom(tfs.floats([[1, 2]]))
    aged = threading.Event()
    client = channel(server)
    ready = grpc.channel_ready_future(client)
    ready.result(timeout=20)
    client.subscribe(lambda state: aged.set() if state is not grpc.ChannelConnectivity.READY else None)
    aged.clear()
    call = tfs.prediction(client).Predict.future(request, timeout=60)
    gate.wait_for_a_call()
    assert aged.wait(20), "the connection did not end"
    assert not call.done()
    gate.open()
    assert list(call.result().outputs["y"].float_val) == [2, 4]
    assert list(tfs.prediction(client).Predict(request, timeout=20).outputs["y"].float_val) == [2, 4]
