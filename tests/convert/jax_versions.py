"""Versions of JAX functions, made in a child that has TensorFlow: tests do not import TensorFlow."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf

from servable.convert.save import save
from servable.errors import ServableError

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = np.array(["red", "green", "blue", "never seen"])
WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3) ** 2 / 20


class Words(tf.Module):
    """Words to one-hot vectors, by a table that the module holds."""

    def __init__(self) -> None:
        super().__init__()
        pairs = tf.lookup.KeyValueTensorInitializer(["red", "green", "blue"], tf.constant([0, 1, 2], tf.int64))
        self.table = tf.lookup.StaticHashTable(pairs, 3)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, words):
        return tf.one_hot(self.table.lookup(words), 4)


@tf.function
def measured(word, factor):
    """No table: the length of the word, as a dict of the model's arguments."""
    return {"x": tf.one_hot(tf.strings.length(word) % 4, 4), "scale": factor[:, None]}


def scores(weights, x, scale=1.0):
    return jax.nn.softmax(x @ weights) * scale


def pooled(kernel, x):
    x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


class Counts:
    """A function that is another one with every call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return x + self.calls


def save_torch(folder: Path) -> int:
    import torch

    return save(torch.nn.Linear(3, 2), folder, examples=WEIGHTS).number


def make(say: Callable[[str], None], folder: str) -> dict[str, Any]:
    """Saves versions into a folder of model folders. Returns errors by name, and two images with their answer."""
    models, words = Path(folder), Words()
    model = functools.partial(scores, jnp.asarray(WEIGHTS))
    save(model, models / "words", examples=WORDS, preprocess=words, input_name="word")
    factors = np.array([1, 2, 3, 4], np.float32)
    save(model, models / "measured", examples={"word": WORDS, "factor": factors}, preprocess=measured)
    images = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
    convolution = jax.tree_util.Partial(pooled, jax.random.normal(jax.random.key(0), (3, 3, 1, 2)))
    save(convolution, models / "pooled", examples=images)
    made = {"images": images[:2].tolist(), "pooled": convolution(images[:2]).tolist()}
    untracked = tf.function(lambda texts: tf.one_hot(words.table.lookup(texts), 4))
    failing = tf.function(tf.strings.to_number)
    for name, function, examples, preprocess in [
        ("untracked", model, WORDS, untracked),
        ("failing", model, WORDS, failing),
        ("counts", Counts().__call__, WEIGHTS, None),
    ]:
        try:
            save(function, models / name, examples=examples, preprocess=preprocess)
        except ServableError as error:
            made[name] = [error.message, error.hint]

    made["torch"] = save_torch(models / "torch")
    jax.config.update("jax_enable_x64", True)
    save(lambda x, n: (x * 2, n), models / "wide", examples={"x": WEIGHTS, "n": np.arange(4)}, datatype="FP64")
    return made
