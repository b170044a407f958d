"""SavedModels of every kind, made with TensorFlow in a process of its own: tests serve them without importing it.

Run as: python saved_models.py FOLDER; each model is version 1 of a model folder in it. `calls.json` says what
TensorFlow itself answers to some calls of each.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

v1 = tf.compat.v1
WORDS = ["a", "bb", "a word of more than twenty-two bytes"]
IMAGES = np.random.default_rng(0).random((8, 784), np.float32)


class Affine(tf.Module):
    """TF2: y = 2 x + 1 and its inverse, as two signatures of one model."""

    def __init__(self) -> None:
        self.factor = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def forward(self, x):
        return {"y": self.factor * x + 1.0, "twice": 2.0 * x}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="y")])
    def back(self, y):
        return {"x": (y - 1.0) / self.factor}


class Words(tf.Module):
    """TF2: strings through a table whose words are in an asset file."""

    def __init__(self, vocabulary: Path) -> None:
        vocabulary.write_text("\n".join(WORDS))
        self.file = tf.saved_model.Asset(str(vocabulary))
        initializer = tf.lookup.TextFileInitializer(
            self.file, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        self.table = tf.lookup.StaticHashTable(initializer, -1)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="words")])
    def look_up(self, words):
        return {"numbers": self.table.lookup(words), "upper": tf.strings.upper(words)}


class Tokens(tf.Module):
    """TF2: an operation of tensorflow-text, and a ragged result as its flat values and row lengths."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def tokenize(self, text):
        import tensorflow_text

        tokens = tensorflow_text.WhitespaceTokenizer().tokenize(text)
        return {"tokens": tokens.flat_values, "row_lengths": tokens.row_lengths()}


class Ragged(tf.Module):
    """TF2: as many words as each text has, padded; and texts put together again from flat words and row lengths."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def split(self, text):
        words = tf.strings.split(text)
        return {"words": words.to_tensor(default_value=""), "lengths": words.row_lengths()}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="words"),
            tf.TensorSpec([None], tf.int64, name="lengths"),
        ]
    )
    def join(self, words, lengths):
        rows = tf.RaggedTensor.from_row_lengths(words, lengths)
        return {"text": tf.strings.reduce_join(rows, axis=1, separator=" ")}


class Complex(tf.Module):
    """TF2: numbers that JSON has no form for, as an input and as an output."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def make(self, x):
        return {"z": tf.complex(x, -x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.complex64, name="z")])
    def part(self, z):
        return {"x": tf.math.real(z)}


class Scaled(tf.Module):
    """TF2: an input that has a default; see `with_default`."""

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float32, name="x"), tf.TensorSpec([], tf.float32, name="scale")]
    )
    def multiply(self, x, scale):
        return {"y": x * scale}


class Endless(tf.Module):
    """TF2: counts so far that no one waits for it."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def count(self, x):
        return {"y": tf.while_loop(lambda y: tf.reduce_max(y) < 1e12, lambda y: [tf.sin(y) + y * 0.0], [x])[0]}


class Large(tf.Module):
    """TF2: 100 MB of weights."""

    def __init__(self) -> None:
        self.weights = tf.Variable(tf.random.stateless_uniform([2500, 10_000], [1, 2]))

    @tf.function(input_signature=[tf.TensorSpec([None, 2500], tf.float32, name="x")])
    def multiply(self, x):
        return {"y": tf.reduce_sum(tf.matmul(x, self.weights), axis=1)}


class Pinned(tf.Module):
    """TF2: its only operation is pinned to a GPU."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def double(self, x):
        with tf.device("/GPU:0"):
            return {"y": x + x}


def half_plus_two(folder: Path) -> None:
    """TF1: variables in a session; predict, and the signatures that parse tf.Example. The tags are `serve` and `v2`."""
    with v1.Graph().as_default(), v1.Session() as session:
        a, b = v1.Variable(0.5, use_resource=False), v1.Variable(2.0, use_resource=False)
        serialized = v1.placeholder(tf.string, name="tf_example")
        parsed = v1.parse_example(serialized, {"x": v1.FixedLenFeature([1], tf.float32)})
        x = v1.placeholder(tf.float32, [None, 1], name="x")
        y, from_example = a * x + b, a * parsed["x"] + b
        classes = v1.tile([["low", "high"]], [v1.shape(from_example)[0], 1])
        scores = v1.concat([2.0 * from_example, from_example], 1)
        session.run(v1.global_variables_initializer())
        build = v1.saved_model.signature_def_utils
        info = v1.saved_model.build_tensor_info
        signatures = {
            "serving_default": build.build_signature_def({"x": info(x)}, {"y": info(y)}, "tensorflow/serving/predict"),
            "regress": build.build_signature_def(
                {"inputs": info(serialized)}, {"outputs": info(from_example)}, "tensorflow/serving/regress"
            ),
            "classify": build.build_signature_def(
                {"inputs": info(serialized)},
                {"classes": info(classes), "scores": info(scores)},
                "tensorflow/serving/classify",
            ),
            "variable": build.build_signature_def(
                {"x": info(x)}, {"b": v1.saved_model.build_tensor_info(b._ref())}, "tensorflow/serving/predict"
            ),
        }
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=signatures)
        builder.save()


def with_default(path: Path, name: str, value: float) -> None:
    """Gives an input of the default signature a default, as tools do that write SavedModels by hand."""
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    signature = model.meta_graphs[0].signature_def["serving_default"]
    signature.defaults[name].CopyFrom(tf.make_tensor_proto(value, tf.float32))
    path.write_bytes(model.SerializeToString())


def main(folder: Path) -> None:
    import keras

    half_plus_two(folder / "half_plus_two" / "1")
    affine = Affine()
    signatures = {"serving_default": affine.forward, "back": affine.back}
    tf.saved_model.save(affine, str(folder / "affine" / "1"), signatures=signatures)
    words = Words(folder / "words.txt")
    tf.saved_model.save(words, str(folder / "words" / "1"), signatures=words.look_up)
    ragged, numbers = Ragged(), Complex()
    signatures = {"serving_default": ragged.split, "join": ragged.join}
    tf.saved_model.save(ragged, str(folder / "ragged" / "1"), signatures=signatures)
    signatures = {"serving_default": numbers.make, "part": numbers.part}
    tf.saved_model.save(numbers, str(folder / "complex" / "1"), signatures=signatures)
    modules = [(Tokens(), "tokenize"), (Endless(), "count"), (Large(), "multiply"), (Pinned(), "double")]
    for module, name in [*modules, (Scaled(), "multiply")]:
        path = folder / type(module).__name__.lower() / "1"
        tf.saved_model.save(module, str(path), signatures=getattr(module, name))
    with_default(folder / "scaled" / "1" / "saved_model.pb", "scale", 3.0)
    layers = [keras.layers.Dense(100, activation="relu"), keras.layers.Dense(10, activation="softmax")]
    network = keras.Sequential([keras.Input((784,), name="image"), *layers])
    network.export(str(folder / "network" / "1"), verbose=False)
    np.save(folder / "images.npy", IMAGES)
    np.save(folder / "answers.npy", network(IMAGES).numpy())
    prepared(keras, folder)
    legacy(folder)
    record_calls(folder)


def prepared(keras, folder: Path) -> None:
    """Keras 3: preprocessing of numbers and strings inside the model, two inputs, one output."""
    ages = np.array([[20.0], [40.0], [60.0]], np.float32)
    age, town = keras.Input((1,), name="age"), keras.Input((1,), name="town", dtype="string")
    normalization = keras.layers.Normalization()
    normalization.adapt(ages)
    lookup = keras.layers.StringLookup(vocabulary=["Oslo", "Bergen"], output_mode="one_hot")
    joined = keras.layers.Concatenate()([normalization(age), lookup(town)])
    model = keras.Model({"age": age, "town": town}, keras.layers.Dense(1, kernel_initializer="ones")(joined))
    model.export(str(folder / "prepared" / "1"), verbose=False)


def legacy(folder: Path) -> None:
    """Keras 2: texts of any length become ragged numbers inside the model; a second, numeric input."""
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    text, age = tf_keras.Input((), name="text", dtype="string"), tf_keras.Input((1,), name="age")
    words = tf_keras.layers.TextVectorization(vocabulary=["good", "bad"], ragged=True)(text)
    vectors = tf_keras.layers.Embedding(4, 3)(words)
    mean = tf_keras.layers.Lambda(lambda rows: tf.reduce_sum(rows, axis=1))(vectors)
    joined = tf_keras.layers.Concatenate()([mean, tf_keras.layers.Normalization(mean=40.0, variance=4.0)(age)])
    score = tf_keras.layers.Dense(1, activation="sigmoid", name="score")(joined)
    model = tf_keras.Model({"text": text, "age": age}, {"score": score, "mean": mean})
    model.save(str(folder / "legacy" / "1"), save_format="tf")


CALLS = [
    ("affine", "serving_default", {"x": ("float32", [[1.5, -2.0], [0.1, 1e7]])}),
    ("affine", "back", {"y": ("float32", [[3.0, 5.0]])}),
    ("words", "serving_default", {"words": ("string", ["bb", "none", "a word of more than twenty-two bytes", ""])}),
    ("half_plus_two", "serving_default", {"x": ("float32", [[1.0], [2.0], [5.0]])}),
    ("ragged", "serving_default", {"text": ("string", ["to be or not", "", "be"])}),
    ("ragged", "join", {"words": ("string", ["to", "be", "or"]), "lengths": ("int64", [2, 0, 1])}),
    ("prepared", "serving_default", {"age": ("float32", [[40.0], [25.0]]), "town": ("string", [["Oslo"], ["Rome"]])}),
    ("legacy", "serving_default", {"text": ("string", ["a good one", "bad"]), "age": ("float32", [[42.0], [7.0]])}),
    ("network", "serving_default", {"image": ("float32", IMAGES[:2].tolist())}),
]


def record_calls(folder: Path) -> None:
    """Writes what TensorFlow answers, as JSON: numbers with all their digits, strings as text."""
    calls = []
    for name, signature, given in CALLS:
        with v1.Graph().as_default(), v1.Session() as session:
            known = v1.saved_model.load(session, ["serve"], str(folder / name / "1")).signature_def[signature]
            feed = {
                known.inputs[key].name: np.array(values, object if dtype == "string" else dtype)
                for key, (dtype, values) in given.items()
            }
            answer = session.run({key: info.name for key, info in known.outputs.items()}, feed)
        outputs = {key: listed(array) for key, array in answer.items()}
        calls.append({"model": name, "signature": signature, "inputs": given, "outputs": outputs})
    (folder / "calls.json").write_text(json.dumps(calls))


def listed(array: np.ndarray) -> list:
    return np.strings.decode(array.astype("S"), "utf-8").tolist() if array.dtype == object else array.tolist()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
