"""Trains small Keras models, saves them, tells what Keras itself answers. For one backend in a process of its own.

Run as: KERAS_BACKEND=... python keras_models.py FOLDER CASE...; each case is a model folder in it. The last line that
it prints is JSON: by case, inputs that were not among the examples with Keras' answers, or the error that save raised.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}

import keras
import numpy as np
import pandas as pd
from keras import layers, ops
from sklearn.datasets import load_digits, load_iris

from servable.convert.save import save
from servable.errors import ServableError

FOLDER = Path(sys.argv[1])
IRIS = load_iris().data.astype("float32")
SPECIES = load_iris().target
DIGITS = load_digits().images.astype("float32")[..., None]
TEXTS = np.array(["good film", "bad film", "good music", "bad noise"] * 4, object)
PEOPLE = pd.DataFrame(
    {"age": [20, 30, np.nan, 50] * 4, "n rooms": [1.0, 2, 3, 4] * 4, "job": ["baker", "", "cook", "baker"] * 4}
)
NEW_PEOPLE = pd.DataFrame({"age": [np.nan, 44], "n rooms": [2.0, np.nan], "job": ["astronaut", "cook"]})


def fit(model, x, y, loss="sparse_categorical_crossentropy"):
    model.compile("adam", loss)
    model.fit(x, y, epochs=1, verbose=0)
    return model


def normalization(x):
    layer = layers.Normalization()
    layer.adapt(x)
    return layer


def classifier(*hidden, shape=(4,), classes=3):
    return keras.Sequential([keras.Input(shape), *hidden, layers.Dense(classes, activation="softmax")])


def digits():
    """All that becomes a wrong file on one way or another: augmentation, Normalization, exact GELU, pooling."""
    first = [layers.RandomFlip(), layers.Rescaling(1 / 16), normalization(DIGITS / 16)]
    convolution = [layers.Conv2D(4, 3, activation="gelu"), layers.MaxPooling2D()]
    hidden = [*first, *convolution, layers.Dropout(0.5), layers.Flatten()]
    model = classifier(*hidden, shape=(8, 8, 1), classes=10)
    fit(model, DIGITS[:320], load_digits().target[:320])
    return model, DIGITS[:8], DIGITS[400:440], {"input_name": "image"}


def normalized():
    model = fit(classifier(normalization(IRIS), layers.Dense(8, activation="gelu")), IRIS, SPECIES)
    return model, IRIS[::20], IRIS[1::7], {}


def images():
    """Images of any size and of bytes, with layers that do nothing but while a model is trained."""
    inputs = keras.Input((None, None, 1), dtype="uint8", name="image")
    small = layers.RandomFlip()(layers.Resizing(8, 8)(layers.Rescaling(1 / 255)(inputs)))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(small)))
    pixels = np.random.default_rng(1).integers(0, 255, (6, 12, 10, 1), np.uint8)
    return model, pixels[:4], pixels[4:], {}


def as_onnx(case):
    def case_as_onnx():
        model, examples, new, arguments = case()
        return model, examples, new, arguments | {"format": "onnx"}

    return case_as_onnx


def people():
    """Columns with gaps and unknown words in, two named outputs."""
    age, rooms = keras.Input((1,), name="age"), keras.Input((1,), name="rooms")
    job = keras.Input((1,), dtype="string", name="job")
    filled = [ops.where(ops.isnan(each), 2.5, each) for each in (age, rooms)]
    lookup = layers.StringLookup(output_mode="one_hot")
    lookup.adapt(PEOPLE["job"][PEOPLE["job"] != ""].to_numpy())
    joined = layers.Concatenate()([*filled, lookup(job)])
    outputs = {"bought": layers.Dense(1, activation="sigmoid")(joined), "score": layers.Dense(2)(joined)}
    return keras.Model({"age": age, "n rooms": rooms, "job": job}, outputs), PEOPLE, NEW_PEOPLE, {}


def text():
    vectorize = layers.TextVectorization(output_sequence_length=4)
    vectorize.adapt(TEXTS)
    inputs = keras.Input((), dtype="string", name="text")
    pooled = layers.GlobalAveragePooling1D()(layers.Embedding(10, 4)(vectorize(inputs)))
    return keras.Model(inputs, layers.Dense(2)(pooled)), TEXTS[:4], np.array(["unheard of", "good", ""]), {}


def vocabulary_file():
    path = FOLDER / "jobs.txt"
    path.write_text("baker\ncook\n")
    inputs = keras.Input((), dtype="string")
    numbers = layers.StringLookup(vocabulary=str(path), output_mode="one_hot")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(numbers))
    return model, np.array(["baker", "pilot"]), np.array(["cook", "?"]), {}


def transformer():
    inputs = keras.Input((None, 4), name="steps")
    attended = layers.LayerNormalization()(inputs + layers.MultiHeadAttention(2, 4)(inputs, inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(8, activation="gelu")(attended)))
    steps = np.random.default_rng(0).random((6, 5, 4), np.float32)
    return model, steps, steps[1:3, :5], {}


def lists():
    a, b = keras.Input((2,), name="left"), keras.Input((2,), name="right")
    model = keras.Model([a, b], [layers.Dense(1, name="sum")(a + b), layers.Dense(2, name="both")(a)])
    x = {"left": IRIS[:4, :2], "right": IRIS[:4, 2:]}
    return model, x, {"left": IRIS[60:63, :2], "right": IRIS[60:63, 2:]}, {}


@keras.saving.register_keras_serializable()
class Doubling(layers.Layer):
    """A layer that no other process knows, since it is in the script itself."""

    def call(self, x):
        return 2 * x


def own_layer():
    return classifier(Doubling(name="twofold")), IRIS[::20], IRIS[1::7], {}


@keras.saving.register_keras_serializable()
class FixedBatch(layers.Layer):
    """The number of rows becomes a constant when the layer is traced."""

    def call(self, x):
        rows = x.shape[0]
        return x if rows is None else ops.reshape(x, (int(rows), 4))


def fixed_batch():
    return classifier(FixedBatch()), IRIS[:1], IRIS[1::7], {}


def lookup_before():
    """A layer for strings, before a network with a layer of a module that another process can import."""
    from keras_layers import Tripling

    lookup = layers.StringLookup(vocabulary=["baker", "cook"], output_mode="one_hot")
    jobs = np.array(["cook", "pilot", "baker"])
    return classifier(Tripling(), shape=(3,)), jobs, np.array(["baker", ""]), {"preprocess": lookup}


def lambda_layer():
    return classifier(layers.Lambda(lambda x: x * 2, name="twice")), IRIS[::20], IRIS[1::7], {}


class Written(keras.Model):
    """A model that is a class, and declares no inputs."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs["a"] + inputs["b"])


def subclassed():
    x = {"a": IRIS[:5].astype("float64"), "b": IRIS[5:10].astype("float64")}
    return Written(), x, {"a": IRIS[60:62], "b": IRIS[70:72]}, {}


class Arguments(keras.Model):
    """A model with two arguments."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, left, right, training=False):
        return self.dense(left - right)


def arguments():
    x = {"left": IRIS[:5], "right": IRIS[5:10]}
    return Arguments(), x, {"left": IRIS[60:62], "right": IRIS[70:72]}, {}


def layer_before():
    return classifier(), IRIS[::20], IRIS[1::7], {"preprocess": normalization(IRIS)}


def model_before():
    """A model of preprocessing layers before the model that was trained."""
    age, job = keras.Input((1,), name="age"), keras.Input((1,), dtype="string", name="job")
    lookup = layers.StringLookup(vocabulary=["baker", "cook"], output_mode="multi_hot")
    features = keras.Model({"age": age, "job": job}, layers.Concatenate()([layers.Rescaling(0.01)(age), lookup(job)]))
    columns = {"age": np.array([[20.0], [30.0]]), "job": np.array([["cook"], ["pilot"]])}
    return classifier(shape=(4,)), columns, columns, {"preprocess": features}


def function_before():
    """TensorFlow's own tables, and layers of Keras, before a network of any backend."""
    import tensorflow as tf

    pairs = tf.lookup.KeyValueTensorInitializer(["baker", "cook"], tf.constant([1, 2], tf.int64))
    jobs = tf.lookup.StaticHashTable(pairs, 0)
    scale = layers.Rescaling(0.1)

    def features(row):
        numbers = tf.stack([row["age"], row["n rooms"]], axis=1)
        numbers = tf.where(tf.math.is_nan(numbers), 0.0, numbers)
        return {"all features": tf.concat([scale(numbers), tf.one_hot(jobs.lookup(row["job"]), 3)], axis=1)}

    inputs = keras.Input((5,))
    network = keras.Model({"all features": inputs}, {"the score": layers.Dense(3)(inputs)})
    return network, PEOPLE, NEW_PEOPLE, {"preprocess": features}


def wrong_before():
    """What comes before the model is another thing in the version than in the hands of the user."""
    import tensorflow as tf

    model, examples, new, _ = normalized()
    return model, examples, new, {"preprocess": lambda x: x if tf.executing_eagerly() else x / 255}


def untraceable_before():
    return classifier(), IRIS[::20], IRIS[1::7], {"preprocess": lambda x: np.log(x.numpy())}


def further():
    model, examples, new, _ = normalized()
    return model, examples, new, {"signatures": {"logits": lambda x: {"log": ops.log(model(x))}}}


def other_names():
    model, examples, new, _ = lists()
    return model, {"left": examples["left"], "wrong": examples["right"]}, new, {}


def replaced():
    model, examples, new, _ = normalized()
    return model, examples, new, {"signatures": {"serving_default": lambda x: x}}


def one_row():
    """What is proven on one row alone would say nothing about batches."""
    model, examples, new, _ = normalized()
    return model, examples[:1], new, {}


def other_rank():
    model, examples, new, _ = normalized()
    return model, examples[0], new, {}


def a_file():
    """Left for the test to save: it is a path that is given."""
    model, _, new, _ = people()
    model.save(FOLDER / "people.keras")
    return model, None, new, {}


AS_ONNX = (digits, text, people, transformer, own_layer, function_before, fixed_batch)
CASES = {f"{case.__name__}_onnx": as_onnx(case) for case in AS_ONNX}


def tensors(value):
    """As the framework takes them, for the answers that the version is compared with."""
    columns = dict(value) if isinstance(value, dict | pd.DataFrame) else {"": value}
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        columns = {name: tf.constant(np.asarray(each)) for name, each in columns.items()}
        columns = {n: tf.cast(each, tf.float32) if each.dtype == tf.float64 else each for n, each in columns.items()}
    else:
        columns = {name: np.asarray(each) for name, each in columns.items()}
    return columns.get("", columns)


def ask(model, value, preprocess=None):
    value = tensors(value)
    if preprocess is not None and not isinstance(preprocess, layers.Layer):
        import tensorflow as tf

        value = {name: tf.constant(np.asarray(each)) for name, each in value.items()}
        value = {n: tf.cast(each, tf.float32) if each.dtype == tf.float64 else each for n, each in value.items()}
    if preprocess is not None:
        value = preprocess(value)
        if isinstance(value, dict):
            value = {name: ops.convert_to_tensor(np.asarray(each)) for name, each in value.items()}
        elif keras.config.backend() != "tensorflow":
            value = np.asarray(value)
    if isinstance(value, dict) and hasattr(model, "output_names") and isinstance(model.input, list):
        value = [value[tensor.name] for tensor in model.inputs]
    if isinstance(model, Arguments):
        answer = model(**value)
    else:
        answer = model(value) if isinstance(model, Written) else model(value, training=False)
    if isinstance(answer, list | tuple):
        answer = dict(zip(model.output_names, answer, strict=True))
    named = answer if isinstance(answer, dict) else {"outputs": answer}
    return {name: ops.convert_to_numpy(each).tolist() for name, each in named.items()}


def plain(value):
    return (
        {n: np.asarray(each).tolist() for n, each in dict(value).items()} if hasattr(value, "keys") else value.tolist()
    )


def run(name: str) -> dict[str, Any]:
    keras.utils.set_random_seed(3)
    model, examples, new, arguments = CASES.get(name, globals().get(name))()
    if examples is not None:
        try:
            save(model, FOLDER / name, examples=examples, **arguments)
        except ServableError as error:
            return {"error": type(error).__name__, "message": str(error), "hint": error.hint}
    return {"inputs": plain(new), "answers": ask(model, new, arguments.get("preprocess"))}


if __name__ == "__main__":
    print(json.dumps({name: run(name) for name in sys.argv[2:]}))
