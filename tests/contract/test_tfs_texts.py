"""TensorFlow Serving's error texts, letter by letter, that no other contract test holds: reference/tf-serving.md."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import requests
from onnx import TensorProto, helper

import tiny_models
from contract.model_server_process import run
from servers import eventually, model_server
from tiny_models import onnx_model
from version_folders import publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import SimpleNamespace

    from servable.server import ModelServer

Code = grpc.StatusCode
SAVED = ("affine", "complex", "half_plus_two", "words")


@pytest.fixture(scope="module")
def saved(saved_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """A server of SavedModels: what TensorFlow's runtime says is told by it alone."""
    folder = tmp_path_factory.mktemp("saved")
    for name in SAVED:
        shutil.copytree(saved_models / name, folder / name)
    with model_server(folder, batch="off", load_retries=0) as server:
        server.wait_until_ready(60)
        yield server


def post(server: ModelServer, place: str, body: str) -> tuple[int, str]:
    answer = requests.post(f"http://{server.addresses.rest}/v1/models/{place}", body, timeout=20)
    assert answer.headers["Content-Type"] == "application/json"
    return answer.status_code, answer.json()["error"]


IN_ELEMENT = "Failed to process element: "
WRONG_TYPE = "is not of expected type:"

REST = [
    # Section 2.2 and 2.3: what is wrong with the JSON, and where.
    ("float", '{"instances": [x]}', "JSON Parse error: Invalid value. at offset: 15"),
    ("float", '{"instances": ["x"]}',
     f"{IN_ELEMENT}0 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"x\" Type: String {WRONG_TYPE} float"),
    ("float", '{"inputs": ["x"]}', f'JSON Value: "x" Type: String {WRONG_TYPE} float'),
    ("float", '{"inputs": "x"}', f'JSON Value: "x" Type: String {WRONG_TYPE} float'),
    ("int32", '{"inputs": [1.0]}', f"JSON Value: 1.0 Type: Number {WRONG_TYPE} int32"),
    ("float", '{"signature_name": 1, "instances": [1]}',
     ('JSON Value: {\n    "signature_name": 1,\n    "instances": [\n        1\n    ]\n} '
      "not formatted correctly. 'signature_name' key must be a string value.")),
    # Section 2.4: rows.
    ("float", "{}", "Missing 'inputs' or 'instances' key"),
    ("float", "[[1, 2], [1, 2, 3]]",
     f"{IN_ELEMENT}1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 2 but got: 3"),
    ("float", "[[1, 2], [[1, 2]]]",
     f"{IN_ELEMENT}1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape [2] but got: [1,2]"),
    ("add", '[{"a": 1, "c": 2}]',
     (f"{IN_ELEMENT}0 key: c of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have named input: c")),
    ("add", '[{"a": 1}]',
     f'{IN_ELEMENT}0 of \'instances\' list. JSON object: {{\n    "a": 1\n}} keys must be equal to: a,b'),
    ("string", '[{"b64": "*"}]',
     f"{IN_ELEMENT}0 of 'instances' list. Error: INVALID_ARGUMENT: Unable to base64 decode"),
    ("float", "[[1, 2], [1, [2]]]",
     (f"{IN_ELEMENT}1 of 'instances' list. Error: INVALID_ARGUMENT: Encountered list at unexpected level: 1 "
      "expected < 1")),
]  # fmt: skip


@pytest.mark.parametrize(("model", "body", "text"), REST)
def test_a_rest_request_is_refused_in_these_words(server: ModelServer, model: str, body: str, text: str) -> None:
    body = f'{{"instances": {body}}}' if body.startswith("[") else body
    assert post(server, f"{model}:predict", body) == (400, text)


@pytest.mark.tensorflow
def test_no_rows_in_are_no_predictions_out(saved: ModelServer) -> None:
    url = f"http://{saved.addresses.rest}/v1/models/words:predict"
    answer = requests.post(url, '{"inputs": []}', timeout=20)
    assert answer.json() == {"outputs": {"numbers": [], "upper": []}}


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ('{"inputs": [1]}', 400, "Failed to write JSON value for tensor type: complex64"),
        ('{"instances": [1]}', 400, "Failed to write JSON value for tensor type: complex64"),
        ('{"signature_name": "part", "inputs": [1]}', 501, "Conversion of JSON Value: 1 to type: complex64"),
        (
            '{"signature_name": "part", "instances": [1]}',
            400,
            f"{IN_ELEMENT}0 of 'instances' list. Error: UNIMPLEMENTED: Conversion of JSON Value: 1 to type: complex64",
        ),
    ],
)
def test_types_that_json_has_no_form_for_are_told(saved: ModelServer, body: str, status: int, text: str) -> None:
    assert post(saved, "complex:predict", body) == (status, text)


def test_what_cannot_be_joined_runs_alone_where_upstream_refuses_it(
    models: Path, start: Callable[..., ModelServer]
) -> None:
    """Section 5: rows of different number, and scalars, are an error there."""
    spec = (TensorProto.FLOAT, None)
    node = helper.make_node("Add", ["a", "b"], ["total"])
    publish_onnx(models / "add", 1, onnx_model([node], {"a": spec, "b": spec}, {"total": spec}))
    server = start(batch="on")
    url = f"http://{server.addresses.rest}/v1/models/add:predict"
    for a, b, total in ([1, 2], [3], [4, 5]), (1, 2, 3), ([[1], [2]], [1, 1], [[2, 2], [3, 3]]):
        assert requests.post(url, json={"inputs": {"a": a, "b": b}}, timeout=20).json() == {"outputs": total}


@pytest.fixture
def predict(
    saved: ModelServer, tfs: SimpleNamespace, channel: Callable[[ModelServer], grpc.Channel]
) -> Callable[..., tuple[Code, str]]:
    """How Predict is refused: `predict(model, version=3, x=[[1, 2]])`."""
    service = tfs.prediction(channel(saved))

    def refusal(model: str, version: int | None = None, **inputs: Any) -> tuple[Code, str]:
        request = tfs.predict.PredictRequest()
        request.model_spec.name = model
        if version is not None:
            request.model_spec.version.value = version
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(value if hasattr(value, "dtype") else tfs.floats(value))
        with pytest.raises(grpc.RpcError) as caught:
            service.Predict(request, timeout=20)
        return caught.value.code(), caught.value.details()

    return refusal


@pytest.mark.tensorflow
def test_grpc_tells_names_of_tensors_and_what_the_runtime_says(
    predict: Callable[..., tuple[Code, str]], tfs: SimpleNamespace
) -> None:
    integers = tfs.tensor.TensorProto(dtype=3, int_val=[1, 2])
    integers.tensor_shape.dim.add(size=1)
    integers.tensor_shape.dim.add(size=2)
    code, text = predict("affine", x=integers)
    assert (code, "Expects arg[0] to be float but int32 is provided" in text) == (Code.INVALID_ARGUMENT, True)
    code, text = predict("half_plus_two", z=[[1]])
    missing = "Signature input alias: x(feed name: x:0) not found in request and no default value provided. "
    assert (code, text.startswith(missing)) == (Code.INVALID_ARGUMENT, True)
    assert predict("half_plus_two", 2, x=[[1]]) == (
        Code.NOT_FOUND,
        "Servable not found for request: Specific(half_plus_two, 2)",
    )


@pytest.mark.tensorflow
def test_fields_of_newer_clients_are_passed_over(
    saved: ModelServer, tfs: SimpleNamespace, channel: Callable[[ModelServer], grpc.Channel]
) -> None:
    request = tfs.predict.PredictRequest(inputs={"x": tfs.floats([[1]])})
    request.model_spec.name = "half_plus_two"
    # client_id (6), predict_streamed_options (5) and request_options (7), of which our declaration knows nothing.
    message = request.SerializeToString() + b"\x32\x03me!" + b"\x2a\x02\x08\x01" + b"\x3a\x00"
    call = channel(saved).unary_unary("/tensorflow.serving.PredictionService/Predict")
    answer = tfs.predict.PredictResponse.FromString(call(message, timeout=20))
    assert list(answer.outputs["y"].float_val) == [2.5]


@pytest.mark.parametrize("service", ["", "ModelService", "PredictionService"])
def test_health_is_told_under_names_without_a_package(
    server: ModelServer, channel: Callable[[ModelServer], grpc.Channel], service: str
) -> None:
    request = bytes([10, len(service)]) + service.encode()
    assert channel(server).unary_unary("/grpc.health.v1.Health/Check")(request, timeout=20) == b"\x08\x01"


FILES = {
    "model_config_file": "tensorflow.serving.ModelServerConfig",
    "batching_parameters_file": "tensorflow.serving.BatchingParameters",
    "monitoring_config_file": "tensorflow.serving.MonitoringConfig",
    "ssl_config_file": "tensorflow.serving.SSLConfig",
    "tensorflow_session_config_file": "tensorflow.ConfigProto",
}


@pytest.mark.tensorflow
@pytest.mark.parametrize("flag", FILES)
def test_a_file_that_does_not_parse_is_told_with_its_kind_of_message(flag: str, tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("nonsense: 1")
    done = run("--model_base_path=/m", "--enable_batching", f"--{flag}={file}")
    assert done.returncode == 255
    assert f"Error parsing text-format {FILES[flag]}: " in done.stderr
    assert f"Failed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file: '{file}'" in done.stdout


def test_a_warm_up_file_of_another_form_fails_the_load_and_says_which_form_it_has_to_have(
    models: Path, start: Callable[..., ModelServer]
) -> None:
    version = publish_onnx(models / "m", 1, tiny_models.double())
    (version / "assets.extra").mkdir()
    (version / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"this is no TFRecord of any kind")
    server = start(ready=False, load_retries=0)
    url = f"http://{server.addresses.rest}/v1/models/m"

    def status() -> Any:
        return requests.get(url, timeout=20).json().get("model_version_status", [{}])[0]

    assert eventually(lambda: status().get("state") == "END")
    assert status()["status"]["error_code"] == "DATA_LOSS"
    assert status()["status"]["error_message"].endswith("Please verify your warmup data is in TFRecord format.")
