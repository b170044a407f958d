"""TensorFlow Lite models of every kind, made with TensorFlow in a process of its own: tests serve them without it.

Run as: python tflite_models.py FOLDER; each model is version 1 of a model folder in it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

import numpy as np
import tensorflow as tf
from flatbuffers import Builder, flexbuffers
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.lite.python import schema_py_generated as schema

FILE = "model.tflite"
ROWS = np.random.default_rng(0).random((64, 32), np.float32)


class Affine(tf.Module):
    """Two signatures; names whose order is not that of the graph; an input that is an output as well."""

    def __init__(self) -> None:
        self.factor = tf.Variable(2.0)

    @tf.function(
        input_signature=[tf.TensorSpec([None, 2], tf.float32, name="z"), tf.TensorSpec([None, 2], tf.float32, name="a")]
    )
    def forward(self, z, a):
        return {"sum": self.factor * z + a, "difference": self.factor * z - a, "same": tf.identity(a)}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="y")])
    def back(self, y):
        return {"x": y / self.factor}


class Dense(tf.Module):
    """A small network, to be quantised."""

    def __init__(self, inputs: int = 32, outputs: int = 64) -> None:
        draw = np.random.default_rng(1).normal(size=(inputs, outputs)).astype(np.float32)
        self.weights = tf.Variable(draw / np.float32(np.sqrt(inputs)))

    @tf.function(input_signature=[tf.TensorSpec([None, 32], tf.float32, name="x")])
    def run(self, x):
        return {"y": tf.nn.tanh(tf.matmul(x, self.weights))}


class Large(Dense):
    """100 MB of weights."""

    def __init__(self) -> None:
        super().__init__(32, 800_000)

    @tf.function(input_signature=[tf.TensorSpec([None, 32], tf.float32, name="x")])
    def run(self, x):
        return {"y": tf.reduce_sum(tf.matmul(x, self.weights), 1)}


class Types(tf.Module):
    """Elements of every type that models are fed with."""

    def __init__(self) -> None:
        dtypes = {"boolean": tf.bool, "byte": tf.uint8, "small": tf.int8, "int": tf.int32, "long": tf.int64}
        dtypes["half"] = tf.float16
        specs = {name: tf.TensorSpec([None], dtype, name=name) for name, dtype in dtypes.items()}
        self.run = tf.function(self.reshaped).get_concrete_function(**specs)

    def reshaped(self, **given):
        return {f"{name}_out": tf.reshape(value, [-1, 1]) for name, value in given.items()}


class Positive(tf.Module):
    """A result whose shape depends on the values."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def run(self, x):
        return {"y": tf.boolean_mask(x, x > 0.0)}


class Words(tf.Module):
    """Strings."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="words")])
    def run(self, words):
        return {"same": tf.identity(words)}


class Inverse(tf.Module):
    """An operation that only all of TensorFlow has."""

    @tf.function(input_signature=[tf.TensorSpec([2, 2], tf.float32, name="x")])
    def run(self, x):
        return {"y": tf.linalg.inv(x)}


class Scaled(tf.Module):
    """A scalar beside a list."""

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float32, name="x"), tf.TensorSpec([], tf.float32, name="by")]
    )
    def run(self, x, by):
        return {"y": x * by}


def convert(module: tf.Module, folder: Path, **signatures) -> tf.lite.TFLiteConverter:
    """A converter of a module's SavedModel, which goes to `folder`."""
    tf.saved_model.save(module, str(folder), signatures=signatures or {"serving_default": module.run})
    return tf.lite.TFLiteConverter.from_saved_model(str(folder))


def half_plus_two() -> bytes:
    """Without signatures of its own: [1, 1] to [1, 1]."""

    @tf.function(input_signature=[tf.TensorSpec([1, 1], tf.float32, name="x")])
    def half(x):
        return x * 0.5 + 2.0

    converter = tf.lite.TFLiteConverter.from_concrete_functions([half.get_concrete_function()], tf.Module())
    model = schema.ModelT.InitFromPackedBuf(converter.convert(), 0)
    model.signatureDefs = None
    model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].name = b"tflite_input:0"
    model.subgraphs[0].tensors[model.subgraphs[0].outputs[0]].name = b"tflite_output"
    return pack(model)


def with_metadata(content: bytes, signatures: dict[str, tuple[str, str]]) -> bytes:
    """A model with signatures where TensorFlow Serving looks for them: name to the tensors of `x` and `y`."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    builder = flexbuffers.Builder()
    with builder.Map():
        for name, (x, y) in sorted(signatures.items()):
            definition = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
            definition.inputs["x"].CopyFrom(meta_graph_pb2.TensorInfo(name=x, dtype=1))
            definition.outputs["y"].CopyFrom(meta_graph_pb2.TensorInfo(name=y, dtype=1))
            builder.Key(name)
            builder.Blob(definition.SerializeToString())
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(builder.Finish())
    entry.name, entry.buffer = b"signature_defs_metadata", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    return pack(model)


def pack(model: schema.ModelT) -> bytes:
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def main(folder: Path) -> None:
    def write(name: str, content: bytes) -> None:
        version = folder / name / "1"
        version.mkdir(parents=True, exist_ok=True)
        (version / FILE).write_bytes(content)

    plain = half_plus_two()
    write("half_plus_two", plain)
    aliases = {"serving_default": ("tflite_input:0", "tflite_output:0"), "other": ("tflite_input:0", "tflite_output")}
    write("aliased", with_metadata(plain, aliases))
    write("lost", with_metadata(plain, {"serving_default": ("nowhere:0", "tflite_output")}))
    affine, sources = Affine(), folder / "saved_models"
    converter = convert(affine, folder / "both" / "1", serving_default=affine.forward, back=affine.back)
    for name in ("affine", "both"):
        write(name, converter.convert())
    for module in (Positive(), Words(), Scaled(), Types(), Large()):
        name = type(module).__name__.lower()
        write(name, convert(module, sources / name).convert())
    converter = convert(Inverse(), sources / "inverse")
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    write("inverse", converter.convert())
    dense = Dense()
    converter = convert(dense, sources / "dense")
    write("dense", converter.convert())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    write("dynamic_range", converter.convert())
    converter.representative_dataset = lambda: ([row[None]] for row in ROWS)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    content = converter.convert()
    write("quantised", content)
    np.savez(folder / "dense.npz", x=ROWS, y=dense.run(ROWS)["y"].numpy(), **scales(content))


def scales(content: bytes) -> dict[str, np.ndarray]:
    """What the integers of a quantised model stand for: `x_scale`, `x_zero`, `y_scale`, `y_zero`."""
    interpreter = tf.lite.Interpreter(model_content=content)
    details = {"x": interpreter.get_input_details()[0], "y": interpreter.get_output_details()[0]}
    quantization = {name: detail["quantization"] for name, detail in details.items()}
    return {
        f"{name}_{what}": np.array(value)
        for name, both in quantization.items()
        for what, value in zip(("scale", "zero"), both, strict=True)
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
