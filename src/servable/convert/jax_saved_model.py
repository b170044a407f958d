"""The part of a JAX model's conversion that needs TensorFlow; it runs in a child where nothing else uses TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from jax.experimental import jax2tf

from servable.convert.chain import apply
from servable.convert.jax_program import read_program, without_paths
from servable.engines.python_model import describe
from servable.errors import ConversionError
from servable.wire.tensors import BYTES, numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def run_before(before: Any, arrays: Mapping[str, Any], *, single: bool) -> Any:
    """What TensorFlow's preprocessing makes of the inputs, with arrays of numpy.

    Raises:
        ConversionError: It fails on them.
    """
    try:
        made = _before(before, {name: tf.constant(array) for name, array in arrays.items()}, single=single)
    except ConversionError:
        raise
    except Exception as error:
        raise ConversionError(f"preprocess fails on the examples: {describe(error)[:500]}") from error
    return tf.nest.map_structure(lambda tensor: tensor.numpy(), made)


def _before(before: Any, tensors: Mapping[str, Any], *, single: bool) -> Any:
    value = next(iter(tensors.values())) if single else dict(tensors)
    return value if before is None else apply(before, value)


def write(
    say: Callable[[str], None],  # noqa: ARG001  # how children are called
    program: str,
    form: Mapping[str, Any],
    folder: str,
    before: Any = None,
) -> None:
    """Writes a SavedModel that runs a traced program.

    Args:
        say: Not used: it is one stage.
        program: The folder of `Program.write`.
        form: Inputs and outputs, of `Form.to_json`.
        folder: Where the SavedModel goes.
        before: What comes before, in TensorFlow.

    Raises:
        ConversionError: The preprocessing uses a table that nobody holds.
    """
    traced = read_program(Path(program))
    rows = "(rows, ...)" if traced.batched else None
    shapes = [None, [rows] * (len(traced.exported.in_avals) - len(traced.weights))]
    call = jax2tf.convert(
        traced.exported.call, polymorphic_shapes=shapes, with_gradient=False, native_serialization_platforms=["cpu"]
    )
    module = tf.Module()
    module.before = before
    module.weights = [tf.Variable(weight, trainable=False) for weight in traced.weights]

    def serve(*tensors: Any) -> dict[str, Any]:
        named = dict(zip([name for name, *_ in form["inputs"]], tensors, strict=True))
        value = _before(before, named, single=form["single"])
        return dict(zip(form["outputs"], call(module.weights, tf.nest.flatten(value)), strict=True))

    signature = [tf.TensorSpec(shape, _dtype(datatype), name) for name, datatype, shape in form["inputs"]]
    serve = tf.function(serve, input_signature=signature, autograph=False)
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    try:
        with without_paths():
            tf.saved_model.save(module, folder, signatures={"serving_default": serve}, options=options)
    except AssertionError as error:
        raise ConversionError(
            "preprocess uses a table or a variable that would not be saved with it",
            hint="make it a tf.Module that holds its tables as attributes, with a tf.function __call__",
        ) from error
    except Exception as error:
        raise ConversionError(f"TensorFlow cannot save it: {describe(error)[:500]}") from error


def _dtype(datatype: str) -> Any:
    return tf.string if datatype == BYTES else tf.as_dtype(np.dtype(numpy_dtype(datatype)))
