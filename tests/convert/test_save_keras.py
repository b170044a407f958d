"""Keras on TensorFlow: what was saved answers as Keras did, with its preprocessing inside."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import requests
from keras_runs import Run, arrays, compare

from servable.client import Client
from servable.convert.save import save
from servable.errors import ConversionError, NotFound
from servable.model.load import load
from servers import model_server

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(300)]

SAVED = ["digits", "people", "text", "vocabulary_file", "transformer", "lists", "own_layer", "lambda_layer"]
SAVED += ["subclassed", "arguments", "layer_before", "function_before", "model_before", "further", "one_row", "a_file"]
SAVED += ["images"]
REFUSED = ["wrong_before", "untraceable_before", "other_names", "other_rank", "replaced"]
REFUSED_AS_ONNX = ["text_onnx", "people_onnx", "transformer_onnx", "own_layer_onnx", "function_before_onnx"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = Run("keras_models.py", tmp_path_factory.mktemp("keras"), *SAVED, *REFUSED, *REFUSED_AS_ONNX)
    yield run
    run.close()


@pytest.mark.parametrize(
    ("case", "signature"),
    [
        ("digits", "image: FP32 [-1, 8, 8, 1]) -> outputs: FP32 [-1, 10]"),
        ("text", "inputs: BYTES [-1]) -> outputs: FP32 [-1, 2]"),
        ("transformer", "inputs: FP32 [-1, -1, 4]) -> outputs: FP32 [-1, -1, 2]"),
        ("images", "inputs: UINT8 [-1, -1, -1, 1]) -> outputs: FP32 [-1, 3]"),
        ("lists", "left: FP32 [-1, 2], right: FP32 [-1, 2]) -> both: FP32 [-1, 2], sum: FP32 [-1, 1]"),
        ("own_layer", "inputs: FP32 [-1, 4]) -> outputs: FP32 [-1, 3]"),
        ("lambda_layer", "inputs: FP32 [-1, 4]) -> outputs: FP32 [-1, 3]"),
        ("arguments", "left: FP32 [-1, 4], right: FP32 [-1, 4]) -> outputs: FP32 [-1, 3]"),
        ("subclassed", "a: FP32 [-1, 4], b: FP32 [-1, 4]) -> outputs: FP32 [-1, 3]"),
    ],
)
def test_new_inputs_are_answered_as_keras_does(run, case, signature):
    assert run.saved(case) == f"serving_default({signature}"


def test_columns_with_missing_values_and_unknown_categories_go_in_as_they_are(run):
    columns = "age: FP32 [-1], job: BYTES [-1], n rooms: FP32 [-1]"
    assert run.saved("people") == f"serving_default({columns}) -> bought: FP32 [-1, 1], score: FP32 [-1, 2]"


def test_what_comes_before_the_model_is_inside(run):
    assert "inputs: FP32 [-1, 4]" in run.saved("layer_before")
    assert "age: FP32 [-1], job: BYTES [-1], n rooms: FP32 [-1]" in run.saved("function_before")
    assert "age: FP32 [-1, 1], job: BYTES [-1, 1])" in run.saved("model_before")


def test_a_vocabulary_from_a_file_is_among_the_assets(run):
    run.saved("vocabulary_file")
    assert (run.folder / "vocabulary_file" / "1" / "assets" / "jobs.txt").read_text() == "baker\ncook\n"


def test_further_functions_are_further_signatures(run):
    run.saved("further")
    told = run["further"]
    with load(run.folder / "further") as servable:
        assert sorted(servable.signatures) == ["logits", "serving_default"]
        logits = servable.predict(arrays(told["inputs"]), signature="logits")
    np.testing.assert_allclose(logits, np.log(told["answers"]["outputs"]), atol=1e-4)


def test_one_example_is_enough_but_proves_nothing_of_rows_together(run):
    assert run.saved("one_row", batch_safe=None).startswith("serving_default(inputs: FP32 [-1, 4])")


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("wrong_before", "GoldenMismatch: The version does not answer as the model does:\noutput   datatype  outside"),
        ("untraceable_before", "cannot be traced by TensorFlow"),
        ("other_names", "takes left, right; the examples are left, wrong"),
        ("other_rank", "has shape [-1, 4]; the examples have [4]"),
        ("replaced", "'serving_default' is the model itself"),
        ("text_onnx", "TextVectorization layer 'text_vectorization"),
        ("people_onnx", "StringLookup layer 'string_lookup"),
        ("transformer_onnx", "MultiHeadAttention layer 'multi_head_attention"),
        ("own_layer_onnx", "Doubling layer 'twofold'"),
        ("function_before_onnx", "a Keras layer or model, not a function"),
    ],
)
def test_what_cannot_be_saved_is_named(run, case, words):
    assert words in run.error(case)
    assert not (run.folder / case / "1").exists()


def test_a_server_answers_clients_of_tensorflow_serving(run):
    people, digits = run["people"], run["digits"]
    with model_server({name: run.folder / name for name in ("people", "digits")}) as server:
        server.wait_until_ready(30)
        rows = [{"age": 44, "n rooms": 2.5, "job": "cook"}, {"age": 44, "n rooms": 2.5, "job": "astronaut"}]
        url = f"http://{server.addresses.rest}/v1/models/people:predict"
        answer = requests.post(url, json={"instances": rows}, timeout=10).json()
        with Client(f"http://{server.addresses.rest}") as client:
            images = client.predict("digits", np.array(digits["inputs"], np.float32))
    np.testing.assert_allclose(images, np.array(digits["answers"]["outputs"]), rtol=1e-4, atol=1e-5)
    with load(run.folder / "people") as servable:
        direct = servable.predict({name: [row[name] for row in rows] for name in people["inputs"]})
    for row, bought in zip(answer["predictions"], direct["bought"], strict=True):
        np.testing.assert_allclose(row["bought"], bought, rtol=1e-5)


def test_a_keras_file_is_read_in_a_child(run, tmp_path):
    told, said = run["a_file"], []
    columns = {name: np.array(values) for name, values in told["inputs"].items()}
    before = set(sys.modules)  # another test may have imported it
    version = save(run.folder / "people.keras", tmp_path / "people", examples=columns, progress=said.append)
    assert "n rooms: FP32 [-1]" in compare(version.path, told)
    assert "Loading people.keras with Keras on tensorflow" in said
    assert "keras" not in set(sys.modules) - before


def test_a_file_that_is_no_keras_model_is_refused(tmp_path):
    (tmp_path / "m.keras").write_text("nothing")
    with pytest.raises(ConversionError, match=r"m\.keras is no file that Keras 3 has written"):
        save(tmp_path / "m.keras", tmp_path / "m", examples=[1.0])
    with pytest.raises(NotFound, match=r"other\.keras"):
        save(tmp_path / "other.keras", tmp_path / "m", examples=[1.0])


def test_what_comes_before_a_file_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="preprocess"):
        save(tmp_path / "m.keras", tmp_path / "m", examples=[1.0], preprocess=abs)
