"""SavedModels of every origin, served over REST and gRPC: answers are those of TensorFlow itself."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests

from servers import model_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import SimpleNamespace

    import grpc

    from servable.server import ModelServer

pytestmark = pytest.mark.tensorflow

CALLS = {
    "a_tf2_module": ("affine", "serving_default"),
    "its_second_signature": ("affine", "back"),
    "a_table_with_an_asset_file": ("words", "serving_default"),
    "a_graph_of_tf1": ("half_plus_two", "serving_default"),
    "strings_that_become_ragged": ("ragged", "serving_default"),
    "ragged_strings_of_flat_words": ("ragged", "join"),
    "preprocessing_in_keras_3": ("prepared", "serving_default"),
    "texts_in_keras_2": ("legacy", "serving_default"),
    "a_network_of_keras_3": ("network", "serving_default"),
}
DTYPES = {"float32": 1, "string": 7, "int64": 9}


@pytest.fixture(scope="module")
def server(saved_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    folder = tmp_path_factory.mktemp("served")
    for name in {model for model, _ in CALLS.values()} | {"scaled"}:
        shutil.copytree(saved_models / name, folder / name)
    with model_server(folder, load_retries=0) as server:
        server.wait_until_ready(60)
        yield server


@pytest.fixture(params=CALLS.values(), ids=CALLS)
def call(request: pytest.FixtureRequest, saved_models: Path) -> dict[str, Any]:
    """A call with TensorFlow's own answer, as the process wrote it that made the models."""
    calls = json.loads((saved_models / "calls.json").read_text())
    return next(each for each in calls if (each["model"], each["signature"]) == request.param)


def same(found: Any, expected: Any) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    if expected.dtype.kind == "U":
        assert found.tolist() == expected.tolist()
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def predict(server: ModelServer, call: dict[str, Any], **body: Any) -> Any:
    url = f"http://{server.addresses.rest}/v1/models/{call['model']}:predict"
    answer = requests.post(url, json={"signature_name": call["signature"], **body}, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_columns_are_answered_as_tensorflow_does(server: ModelServer, call: dict[str, Any]) -> None:
    given = {name: values for name, (_, values) in call["inputs"].items()}
    outputs = predict(server, call, inputs=given)["outputs"]
    if len(call["outputs"]) == 1:
        outputs = dict.fromkeys(call["outputs"], outputs)
    assert set(outputs) == set(call["outputs"])
    for name, expected in call["outputs"].items():
        same(outputs[name], expected)


def test_rows_are_answered_as_tensorflow_does(server: ModelServer, call: dict[str, Any]) -> None:
    columns = [values for _, values in call["inputs"].values()]
    rows = [dict(zip(call["inputs"], row, strict=True)) for row in zip(*columns, strict=True)]
    predictions = predict(server, call, instances=rows)["predictions"]
    for name, expected in call["outputs"].items():
        found = predictions if len(call["outputs"]) == 1 else [row[name] for row in predictions]
        same(found, expected)


def test_tensors_are_answered_as_tensorflow_does(
    server: ModelServer,
    call: dict[str, Any],
    tfs: SimpleNamespace,
    channel: Callable[[ModelServer], grpc.Channel],
) -> None:
    request = tfs.predict.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = call["model"], call["signature"]
    for name, (dtype, values) in call["inputs"].items():
        request.inputs[name].CopyFrom(tensor(tfs, dtype, values))
    answer = tfs.prediction(channel(server)).Predict(request, timeout=20)
    assert set(answer.outputs) == set(call["outputs"])
    for name, expected in call["outputs"].items():
        same(elements(answer.outputs[name]), expected)


def tensor(tfs: SimpleNamespace, dtype: str, values: Any) -> Any:
    array = np.array(values)
    found = tfs.tensor.TensorProto(dtype=DTYPES[dtype])
    for size in array.shape:
        found.tensor_shape.dim.add(size=size)
    if dtype == "string":
        found.string_val.extend(text.encode() for text in array.ravel().tolist())
    else:
        found.tensor_content = array.astype(dtype).tobytes()
    return found


def elements(found: Any) -> np.ndarray:
    values = {1: found.float_val, 9: found.int64_val}.get(found.dtype)
    if values is None:
        values = [text.decode() for text in found.string_val]
    return np.array(values).reshape([dim.size for dim in found.tensor_shape.dim])


def test_an_input_that_is_left_out_has_the_default_of_its_signature(
    server: ModelServer, tfs: SimpleNamespace, channel: Callable[[ModelServer], grpc.Channel]
) -> None:
    request = tfs.predict.PredictRequest(inputs={"x": tfs.floats([1, 2])})
    request.model_spec.name = "scaled"
    service = tfs.prediction(channel(server))
    assert list(service.Predict(request, timeout=20).outputs["y"].float_val) == [3, 6]
    request.inputs["scale"].CopyFrom(tfs.floats(5))
    assert list(service.Predict(request, timeout=20).outputs["y"].float_val) == [5, 10]


def test_classify_and_regress_parse_examples_inside_the_graph(
    server: ModelServer, tfs: SimpleNamespace, channel: Callable[[ModelServer], grpc.Channel]
) -> None:
    url = f"http://{server.addresses.rest}/v1/models/half_plus_two"
    examples = [{"x": 1.0}, {"x": 5.0}]
    found = requests.post(f"{url}:classify", json={"signature_name": "classify", "examples": examples}, timeout=20)
    assert found.json() == {"results": [[["low", 5.0], ["high", 2.5]], [["low", 9.0], ["high", 4.5]]]}
    found = requests.post(f"{url}:regress", json={"signature_name": "regress", "examples": examples}, timeout=20)
    assert found.json() == {"results": [2.5, 4.5]}
    request = tfs.inference.MultiInferenceRequest()
    for each in examples:
        request.input.example_list.examples.add().features.feature["x"].float_list.value.append(each["x"])
    for method in ("classify", "regress"):
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "half_plus_two", method
    classified, regressed = tfs.prediction(channel(server)).MultiInference(request, timeout=20).results
    rows = classified.classification_result.classifications
    assert [(row.classes[1].label, row.classes[1].score) for row in rows] == [("high", 2.5), ("high", 4.5)]
    assert [each.value for each in regressed.regression_result.regressions] == [2.5, 4.5]
