"""Keras on JAX and on PyTorch: a child with TensorFlow writes a SavedModel of them, one with PyTorch writes ONNX."""

from __future__ import annotations

import onnx
import pytest
from keras_runs import Run

# Two scripts at once, and each of them has children.
pytestmark = [pytest.mark.keras, pytest.mark.timeout(300)]

JAX = ["digits_onnx", "own_layer", "function_before", "people", "further"]
TORCH = ["lookup_before", "own_layer", "own_layer_onnx", "transformer_onnx", "fixed_batch_onnx"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    runs = {
        "jax": Run("keras_models.py", tmp_path_factory.mktemp("jax"), *JAX, backend="jax"),
        "torch": Run("keras_models.py", tmp_path_factory.mktemp("torch"), *TORCH, backend="torch"),
    }
    yield runs
    for run in runs.values():
        run.close()


def test_onnx_has_no_inputs_but_those_of_the_model_and_pools_as_keras_does(runs):
    assert "(image: FP32 [-1, 8, 8, 1]) -> outputs: FP32 [-1, 10]" in runs["jax"].saved("digits_onnx")
    graph = onnx.load(runs["jax"].folder / "digits_onnx" / "1" / "model.onnx").graph
    assert [each.name for each in graph.input] == ["image"]


def test_a_layer_that_only_this_process_knows_is_written_by_jax_itself(runs):
    assert runs["jax"].saved("own_layer") == "serving_default(inputs: FP32 [-1, 4]) -> outputs: FP32 [-1, 3]"


def test_a_network_of_jax_is_served_behind_tables_of_tensorflow(runs):
    assert "job: BYTES [-1], n rooms: FP32 [-1]" in runs["jax"].saved("function_before")


def test_a_lookup_layer_and_layers_of_modules_are_made_again_in_the_child(runs):
    assert runs["torch"].saved("lookup_before") == "serving_default(inputs: BYTES [-1]) -> outputs: FP32 [-1, 3]"


def test_a_layer_of_the_script_is_written_as_onnx_in_the_process_that_knows_it(runs):
    assert "inputs: FP32 [-1, 4]" in runs["torch"].saved("own_layer_onnx")


@pytest.mark.parametrize(
    ("backend", "case", "words"),
    [
        ("jax", "people", "Input 'job' of model"),
        ("jax", "people", "StringLookup layer 'string_lookup"),
        ("jax", "further", "functions of TensorFlow"),
        ("torch", "own_layer", "No other process can make the Doubling layer 'twofold'"),
        ("torch", "own_layer", "format='onnx'"),
        ("torch", "fixed_batch_onnx", "reshape"),
        ("torch", "transformer_onnx", "MultiHeadAttention layer 'multi_head_attention"),
    ],
)
def test_what_cannot_be_saved_is_named(runs, backend, case, words):
    assert words in runs[backend].error(case)
