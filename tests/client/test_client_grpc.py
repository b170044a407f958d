"""servable.Client over gRPC, against a server that speaks with Google's own protobuf code."""

from __future__ import annotations

import sys
from typing import Any

import grpc
import numpy as np
import pytest

from servable.client import Client, VersionStatus
from servable.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)

X = np.arange(4, dtype=np.float32).reshape(2, 2)
PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
HEALTH = "/grpc.health.v1.Health/Check"


@pytest.fixture
def server(rpc_server: Any, stubs: Any) -> Any:
    """A server with a model that doubles x; `requests` are the messages it got."""
    rpc_server.requests = []
    # Imported before a client waits for an answer: TensorFlow may come with them.
    pages, predicts = stubs("get_model_metadata"), stubs("predict")

    def metadata(message: bytes, _: grpc.ServicerContext) -> bytes:
        request = pages.GetModelMetadataRequest.FromString(message)
        rpc_server.requests.append(request)
        response = pages.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = 7
        signatures = pages.SignatureDefMap()
        for name in ("serving_default", "other"):
            definition = signatures.signature_def[name]
            for tensors, alias in ((definition.inputs, "x"), (definition.outputs, "y")):
                tensors[alias].name = f"{alias}:0"
                tensors[alias].dtype = 1
                tensors[alias].tensor_shape.dim.add().size = -1
                tensors[alias].tensor_shape.dim.add().size = 2
        signatures.signature_def["shapeless"].inputs["x"].dtype = 9
        signatures.signature_def["shapeless"].inputs["x"].tensor_shape.unknown_rank = True
        signatures.signature_def["resource"].inputs["x"].dtype = 20
        response.metadata["signature_def"].Pack(signatures)
        return bytes(response.SerializeToString())

    def predict(message: bytes, _: grpc.ServicerContext) -> bytes:
        request = predicts.PredictRequest.FromString(message)
        rpc_server.requests.append(request)
        response = predicts.PredictResponse()
        tensor = request.inputs["x"]
        doubled = 2 * np.frombuffer(tensor.tensor_content, np.float32)
        response.outputs["y"].dtype = 1
        response.outputs["y"].tensor_shape.CopyFrom(tensor.tensor_shape)
        response.outputs["y"].float_val.extend(doubled.tolist())
        return bytes(response.SerializeToString())

    rpc_server.methods |= {METADATA: metadata, PREDICT: predict}
    return rpc_server


def failing(code: grpc.StatusCode, text: str) -> Any:
    def method(_: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(code, text)
        raise AssertionError

    return method


def test_an_array_goes_in_and_an_array_comes_out(server: Any) -> None:
    with Client(server.url) as client:
        np.testing.assert_array_equal(client.predict("m", X), 2 * X, strict=True)
    assert server.requests[-1].model_spec.name == "m"
    assert server.requests[-1].model_spec.signature_name == "serving_default"
    assert not server.requests[-1].model_spec.HasField("version")


def test_version_label_signature_and_outputs_are_passed_on(server: Any) -> None:
    with Client(server.url) as client:
        client.predict("m", X, version=7, signature="other", outputs=["y"])
        client.predict("m", X, label="stable")
    first, second = server.requests[1], server.requests[3]
    assert (first.model_spec.version.value, first.model_spec.signature_name) == (7, "other")
    assert list(first.output_filter) == ["y"]
    assert second.model_spec.version_label == "stable"


def test_metadata_tells_the_signatures_that_can_be_called(server: Any) -> None:
    with Client(server.url) as client:
        found = client.metadata("m")
    assert found.version == 7
    assert set(found.signatures) == {"serving_default", "other", "shapeless"}
    assert str(found.signatures["other"]) == "other(x: FP32 [-1, 2]) -> y: FP32 [-1, 2]"
    assert found.signatures["shapeless"].inputs[0].shape is None


def test_status_tells_every_version(server: Any, stubs: Any) -> None:
    response = stubs("get_model_status").GetModelStatusResponse()
    for version, state in ((2, 20), (1, 50)):
        response.model_version_status.add(version=version, state=state)
    response.model_version_status[1].status.error_code = 8
    response.model_version_status[1].status.error_message = "no memory"
    server.methods[STATUS] = lambda *_: bytes(response.SerializeToString())
    with Client(server.url) as client:
        assert client.status("m") == [
            VersionStatus(2, "LOADING"),
            VersionStatus(1, "END", "RESOURCE_EXHAUSTED", "no memory"),
        ]
        assert not client.ready("m")
        response.model_version_status[0].state = 30
        assert client.ready("m")


def test_readiness_is_what_the_health_service_says(server: Any) -> None:
    with Client(server.url) as client:
        server.methods[HEALTH] = lambda *_: b"\x08\x02"
        assert not client.ready()
        server.methods[HEALTH] = lambda *_: b"\x08\x01"
        assert client.ready()


def test_a_server_without_health_service_is_ready_when_it_answers(server: Any) -> None:
    with Client(server.url) as client:
        assert client.ready()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidArgument),
        (grpc.StatusCode.FAILED_PRECONDITION, FailedPrecondition),
        (grpc.StatusCode.UNAVAILABLE, Unavailable),
    ],
)
def test_a_status_becomes_a_typed_error(server: Any, code: grpc.StatusCode, expected: type[Exception]) -> None:
    server.methods[PREDICT] = failing(code, "the reason")
    with Client(server.url, retry=None) as client, pytest.raises(expected, match="the reason"):
        client.predict("m", X)


@pytest.mark.parametrize(("header", "seconds"), [("1500", 1.5), ("-1", None), ("soon", None)])
def test_unavailable_says_when_to_come_back(server: Any, header: str, seconds: float | None) -> None:
    def method(_: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("grpc-retry-pushback-ms", header),))
        context.abort(grpc.StatusCode.UNAVAILABLE, "busy")
        raise AssertionError

    server.methods[PREDICT] = method
    with Client(server.url, retry=None) as client, pytest.raises(Unavailable, match="busy") as caught:
        client.predict("m", X)
    assert caught.value.retry_after == seconds


def test_a_late_answer_is_a_deadline_error(server: Any) -> None:
    server.methods[STATUS] = failing(grpc.StatusCode.DEADLINE_EXCEEDED, "late")
    with Client(server.url) as client, pytest.raises(DeadlineExceeded, match="No answer within 5 s"):
        client.status("m", timeout=5)


def test_a_message_that_is_none_is_an_error(server: Any) -> None:
    server.methods[STATUS] = lambda *_: b"\xff\xff"
    with Client(server.url) as client, pytest.raises(InvalidArgument):
        client.status("m")


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with Client("grpc://127.0.0.1:1") as client, pytest.raises(Unavailable):
        client.status("m")


def test_a_closed_client_says_so(server: Any) -> None:
    client = Client(server.url)
    client.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        client.status("m")


def test_a_unix_socket_is_an_address(tmp_path: Any) -> None:
    with Client(f"unix:{tmp_path}/none.sock") as client, pytest.raises(Unavailable):
        client.status("m")


def test_without_grpcio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "servable.client.grpc_transport", raising=False)
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(FailedPrecondition) as caught:
        Client("grpc://localhost:8500")
    assert "servable[grpc]" in str(caught.value.hint)
