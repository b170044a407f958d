"""SavedModels under measurement, made by TensorFlow in a process of its own: `python -m bench.saved_models FOLDER`.

`mlp` is the very network of `models.mlp()`; `classify` is the same behind a serialized tf.Example. `lookup` looks words
up in a table, `text` splits sentences into words first. `heavy` multiplies by a matrix of 300 MB. `large-0` and
`large-1` hold 1 GB each and answer with classes of their own.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench.models import CLASSES, FEATURES, INPUT, OUTPUT, mlp
from bench.tools import WORK, BenchError

FOLDER = WORK / "saved_models"
WORDS = ["red", "green", "blue", "small", "large", "old", "new", "round", "square", "heavy"]
HEAVY_ROWS, HEAVY_COLUMNS = 7500, 10_000
"""Of a matrix of float32: 300 MB."""
LARGE_ROWS, LARGE_WIDTH = 250_000, 1000
"""Of a table of float32: 1 GB."""


def saved_model(name: str) -> Path:
    """The folder of a SavedModel; made once, by another process, so that this one stays without TensorFlow."""
    path = FOLDER / name
    if not (path / "saved_model.pb").exists():
        mlp()
        command = [sys.executable, "-m", "bench.saved_models", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"The SavedModel {name} could not be made:\n{done.stderr[-2000:]}")
    return path


def _weights() -> list[Any]:
    """The two matrices and biases of `models.mlp()`."""
    import onnx
    from onnx import numpy_helper

    return [numpy_helper.to_array(weight) for weight in onnx.load(mlp()).graph.initializer]


def make(name: str) -> None:
    """Makes one model. Imports TensorFlow."""
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    tf = importlib.import_module("tensorflow")

    partial = FOLDER / f"{name}.partial"
    kinds = {"mlp": _mlp, "classify": _classify, "lookup": _lookup, "text": _text, "heavy": _heavy}
    made, function = kinds[name](tf) if name in kinds else _large(tf, int(name.rpartition("-")[2]))
    tf.saved_model.save(made, str(partial), signatures=function)
    partial.rename(FOLDER / name)


def _dense(tf: Any, module: Any) -> Any:
    w1, b1, w2, b2 = _weights()
    module.weights = [tf.Variable(weight) for weight in (w1, b1, w2, b2)]

    def network(x: Any) -> Any:
        first, first_bias, second, second_bias = module.weights
        return tf.nn.softmax(tf.nn.relu(x @ first + first_bias) @ second + second_bias)

    return network


def _mlp(tf: Any) -> tuple[Any, Any]:
    module = tf.Module()
    network = _dense(tf, module)

    def predict(x: Any) -> Any:
        return {OUTPUT: network(x)}

    return module, tf.function(predict, input_signature=[tf.TensorSpec([None, FEATURES], tf.float32, name=INPUT)])


def _classify(tf: Any) -> tuple[Any, Any]:
    module = tf.Module()
    network = _dense(tf, module)
    names = tf.constant([[str(number) for number in range(CLASSES)]])

    def classify(inputs: Any) -> Any:
        parsed = tf.io.parse_example(inputs, {INPUT: tf.io.FixedLenFeature([FEATURES], tf.float32)})
        scores = network(parsed[INPUT])
        return {"classes": tf.tile(names, [tf.shape(scores)[0], 1]), "scores": scores}

    return module, tf.function(classify, input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])


def _table(tf: Any, module: Any) -> Any:
    """Words to rows of ten numbers."""
    keys = tf.lookup.KeyValueTensorInitializer(WORDS, list(range(1, len(WORDS) + 1)), tf.string, tf.int64)
    module.table = tf.lookup.StaticHashTable(keys, 0)
    rows = np.random.default_rng(2).standard_normal((len(WORDS) + 1, CLASSES)).astype(np.float32)
    module.rows = tf.Variable(rows)
    return lambda words: tf.gather(module.rows, module.table.lookup(words))


def _lookup(tf: Any) -> tuple[Any, Any]:
    module = tf.Module()
    embed = _table(tf, module)

    def predict(x: Any) -> Any:
        return {OUTPUT: tf.nn.softmax(tf.reduce_sum(embed(x), axis=1))}

    return module, tf.function(predict, input_signature=[tf.TensorSpec([None, 4], tf.string, name=INPUT)])


def _text(tf: Any) -> tuple[Any, Any]:
    module = tf.Module()
    embed = _table(tf, module)

    def predict(x: Any) -> Any:
        words = tf.strings.split(tf.strings.regex_replace(tf.strings.lower(x), r"[^a-z ]", ""))
        rows = tf.ragged.map_flat_values(embed, words)
        return {OUTPUT: tf.nn.softmax(tf.reduce_sum(rows, axis=1))}

    return module, tf.function(predict, input_signature=[tf.TensorSpec([None], tf.string, name=INPUT)])


def _heavy(tf: Any) -> tuple[Any, Any]:
    module = tf.Module()
    module.weights = tf.Variable(tf.random.stateless_uniform([HEAVY_ROWS, HEAVY_COLUMNS], [1, 2]))

    def multiply(x: Any) -> Any:
        return {OUTPUT: tf.reduce_sum(tf.matmul(x, module.weights), axis=1)}

    spec = tf.TensorSpec([None, HEAVY_ROWS], tf.float32, name=INPUT)
    return module, tf.function(multiply, input_signature=[spec])


def _large(tf: Any, favourite: int) -> tuple[Any, Any]:
    module = tf.Module()
    module.table = tf.Variable(tf.zeros([LARGE_ROWS, LARGE_WIDTH]) + 1e-6)
    bias = np.zeros(CLASSES, np.float32)
    bias[favourite] = 1000.0

    def predict(x: Any) -> Any:
        row = tf.cast(tf.reduce_sum(x, axis=1), tf.int32) % LARGE_ROWS
        return {OUTPUT: tf.nn.softmax(tf.gather(module.table, row)[:, :CLASSES] + bias)}

    return module, tf.function(predict, input_signature=[tf.TensorSpec([None, FEATURES], tf.float32, name=INPUT)])


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    make(Path(sys.argv[1]).name)
