"""Saves modules of TensorFlow and Keras 2, and tells what they answer themselves. In a process of its own.

Run as: python tensorflow_modules.py FOLDER CASE...; what it prints is as for keras_models.py.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "TF_USE_LEGACY_KERAS": "1"}

import numpy as np
import tensorflow as tf

from servable.convert.save import save
from servable.errors import ServableError

FOLDER = Path(sys.argv[1])
X = np.arange(8, dtype=np.float32).reshape(4, 2)
NEW = X + 100


class Affine(tf.Module):
    """y = 3 x + 1, and its inverse."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = tf.Variable(3.0)

    def __call__(self, x):
        return self.factor * x + 1.0

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32)])
    def back(self, y):
        return {"x": (y - 1.0) / self.factor}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32), tf.TensorSpec([None], tf.string)])
    def repeat(self, times, words):
        return tf.repeat(words, times)


class Words(tf.Module):
    """Looks words up in a table whose words are in a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        path.write_text("no\nyes\n")
        keys, values = (tf.string, tf.lookup.TextFileIndex.WHOLE_LINE), (tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER)
        self.table = tf.lookup.StaticHashTable(tf.lookup.TextFileInitializer(str(path), *keys, *values), -1)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="ignored")])
    def look_up(self, words):
        return self.table.lookup(tf.strings.lower(words)), tf.strings.length(words)


class Sum(tf.Module):
    def __call__(self, left, right):
        return left + right


def affine():
    module = Affine()
    further = {"back": module.back, "repeat": module.repeat}
    return module, module, X, NEW, {"signatures": further}


def words():
    module = Words(FOLDER / "words.txt")
    new = np.array(["YES", "perhaps"])
    return module, module.look_up, np.array(["no", "Yes"]), new, {"signatures": {"serving_default": module.look_up}}


def keywords():
    return Sum(), Sum(), {"left": X, "right": X}, {"left": NEW, "right": X}, {}


def text_before():
    """A preprocessing with a branch that depends on its values."""

    def numbers(text):
        parsed = tf.strings.to_number(text)
        if tf.reduce_max(parsed) > 1e6:
            parsed = parsed * 0.0
        return parsed

    module = Affine()
    return module, lambda x: module(numbers(x)), np.array(["1", "2.5"]), np.array(["7", "9e5"]), {"preprocess": numbers}


def keras_2():
    import tf_keras

    model = tf_keras.Sequential([tf_keras.layers.Dense(3, input_shape=(2,))])
    return model, model, X, NEW, {}


def untracked():
    """A variable that nothing but a function of another module knows."""
    module = Affine()
    made = {}

    def scale(x):
        made.setdefault("factor", tf.lookup.experimental.DenseHashTable(tf.int64, tf.float32, 1.0, -1, -2))
        return x * made["factor"].lookup(tf.constant([5], tf.int64))

    class Hidden:
        __slots__ = ("function",)

        def __call__(self, x):
            return self.function(x)

    hidden = Hidden()
    hidden.function = scale
    return module, module, X, NEW, {"preprocess": hidden}


def nothing_to_call():
    return tf.Module(), None, X, NEW, {}


def no_function():
    return Affine(), None, X, NEW, {"signatures": {"back": 3}}


def as_onnx():
    return Affine(), None, X, NEW, {"format": "onnx"}


def failing():
    return Sum(), None, {"left": X, "right": np.array(["a"])}, NEW, {}


def folder():
    """Left for the test to save: it is a path that is given."""
    module = Affine()
    signatures = {"serving_default": tf.function(module).get_concrete_function(tf.TensorSpec([None, 2], name="x"))}
    tf.saved_model.save(module, str(FOLDER / "made_by_tensorflow"), signatures | {"back": module.back})
    return module, module, None, NEW, {}


def ask(function, value):
    if function is None:
        return {}
    columns = {name: tf.constant(each) for name, each in value.items()} if isinstance(value, dict) else None
    answer = function(tf.constant(value)) if columns is None else function(**columns)
    if isinstance(answer, tuple):
        answer = {f"output_{index}": each for index, each in enumerate(answer)}
    named = answer if isinstance(answer, dict) else {"outputs": answer}
    return {name: each.numpy().tolist() for name, each in named.items()}


def plain(value):
    return {name: each.tolist() for name, each in value.items()} if isinstance(value, dict) else value.tolist()


def run(name: str) -> dict[str, Any]:
    model, function, examples, new, arguments = globals()[name]()
    if examples is not None:
        try:
            save(model, FOLDER / name, examples=examples, **arguments)
        except ServableError as error:
            return {"error": type(error).__name__, "message": str(error), "hint": error.hint}
    return {"inputs": plain(new), "answers": ask(function, new)}


if __name__ == "__main__":
    print(json.dumps({name: run(name) for name in sys.argv[2:]}))
