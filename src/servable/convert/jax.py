"""Makes a version of a JAX function with its parameters: as SavedModel, of which XLA compiles the inside."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.convert.child import run_in_child
from servable.convert.draft import Draft
from servable.errors import ConversionError
from servable.model.formats import format_of
from servable.model.golden import GoldenExample
from servable.model.origin import package_versions
from servable.wire.tensors import BYTES, Tensor, as_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from servable.convert.conversion import Conversion
    from servable.model.examples import Examples

FILE = "saved_model.pb"
_NAME = re.compile("[A-Za-z][A-Za-z0-9_]*")
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}


def takes(model: object) -> bool:
    """Whether it is a function, a `functools.partial` or a callable pytree, in a process that uses JAX."""
    jax = sys.modules.get("jax")
    if jax is None or not callable(model) or isinstance(model, type):
        return False
    if isinstance(model, functools.partial) or inspect.isroutine(model) or isinstance(model, type(jax.jit(len))):
        return True
    leaves = jax.tree_util.tree_leaves(model)
    return not any(leaf is model for leaf in leaves) and any(isinstance(leaf, jax.Array) for leaf in leaves)


def convert(conversion: Conversion) -> Draft:
    """Writes a function as a SavedModel, with its own answers to the examples.

    Arrays that `functools.partial`, `jax.tree_util.Partial` or a pytree holds become variables; arrays that a function
    closes over become constants. The number of rows stays open; XLA compiles each number of rows when it comes first.
    The names of a dict of examples are those of the function's arguments, or the function takes the dict itself.

    Args:
        conversion: Its `preprocess` is a function of JAX; or, for strings, one of TensorFlow: a `tf.function`, or a
            `tf.Module` with `__call__`, which has to hold the tables that it uses.

    Raises:
        ConversionError: JAX cannot trace it, only for one number of rows, or TensorFlow is not installed.
    """
    conversion.allow("saved_model", preprocess=True)
    if importlib.util.find_spec("tensorflow") is None:
        raise ConversionError(
            "JAX models are saved as SavedModels, and TensorFlow is not installed",
            hint='pip install "servable[tensorflow-cpu]"',
        )
    from servable.convert.jax_program import Function, trace

    before, preprocess = _sides(conversion.preprocess)
    function = Function(conversion.model, preprocess)
    examples, datatype = conversion.examples, conversion.datatype
    records = [_record(function, before, part, datatype) for part in examples.split()]
    conversion.say("Tracing the function")
    first = records[0]
    program = trace(function, _given(before, first.inputs, single=examples.single))
    if program.batched:
        records += [_record(function, before, part, datatype) for part in examples.first_row()]
    conversion.say("Writing a SavedModel")
    _write(conversion, program, first, before)
    return Draft(
        format_of("saved_model", FILE),
        records,
        frameworks=package_versions("jax", "jaxlib", "tensorflow", "numpy"),
        hint="the function keeps a state, or draws random numbers that nobody gave it a key for",
    )


def _sides(preprocess: Any) -> tuple[Any, Any]:
    """`preprocess` as (a function of TensorFlow, a function of JAX), one of which is None."""
    if preprocess is not None and not callable(preprocess):
        raise ConversionError(f"preprocess= is a {type(preprocess).__name__}", hint="give a function of arrays")
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and (
        isinstance(preprocess, tensorflow.Module)
        or hasattr(preprocess, "get_concrete_function")
        or any(cls.__module__.split(".")[0] == "keras" for cls in type(preprocess).__mro__)
    ):
        return preprocess, None
    return None, preprocess


def _record(function: Any, before: Any, part: Examples, datatype: str) -> GoldenExample:
    inputs = _inputs(part, datatype, strings=before is not None)
    return GoldenExample(inputs, function.answers(_given(before, inputs, single=part.single)))


def _inputs(examples: Examples, datatype: str, *, strings: bool) -> dict[str, Tensor]:
    """The examples as tensors: floats as asked for; other numbers as JAX has them, which is in 32 bits by default."""
    import jax

    if datatype not in ("FP32", "FP64"):
        raise ConversionError(f"Numbers become FP32 or FP64, not {datatype}")
    if datatype == "FP64" and not jax.config.jax_enable_x64:
        raise ConversionError(
            "JAX computes in float32 here", hint='jax.config.update("jax_enable_x64", True) before anything else'
        )
    inputs = {}
    for name, array in examples.arrays.items():
        if not _NAME.fullmatch(name):
            raise ConversionError(
                f"An input of a SavedModel cannot be called '{name}'",
                hint="take letters, digits and underscores, with a letter first",
            )
        tensor = as_tensor(array)
        if tensor.datatype == BYTES and not strings:
            raise ConversionError(
                f"Input '{name}' holds strings, and JAX has none",
                hint="give preprocess= a tf.function, or a tf.Module with __call__, that makes numbers of them",
            )
        if tensor.datatype != BYTES:
            floats = np.issubdtype(array.dtype, np.floating)
            kept = strings or floats or array.dtype.itemsize < 8 or jax.config.jax_enable_x64
            narrow = {"INT64": "INT32", "UINT64": "UINT32"}.get(tensor.datatype)
            tensor = as_tensor(array, datatype if floats else None if kept else narrow)
        inputs[name] = tensor
    return inputs


def _given(before: Any, inputs: Mapping[str, Tensor], *, single: bool) -> Any:
    """What goes into JAX: one array, or a dict; or whatever TensorFlow's side makes of them."""
    arrays = {name: tensor.array for name, tensor in inputs.items()}
    if before is None:
        return next(iter(arrays.values())) if single else arrays
    from servable.convert.jax_saved_model import run_before

    return run_before(before, arrays, single=single)


def _write(conversion: Conversion, program: Any, example: GoldenExample, before: Any) -> None:
    from servable.convert.jax_program import Form

    form = Form.of(program, example, single=conversion.examples.single)
    with tempfile.TemporaryDirectory() as scratch:
        program.write(Path(scratch))
        arguments: dict[str, Any] = {"program": scratch, "form": form.to_json(), "folder": str(conversion.folder)}
        if "tensorflow" in sys.modules:
            from servable.convert.jax_saved_model import write

            write(conversion.say, **arguments, before=before)
            return
        import jax

        environment = {**_QUIET, "JAX_ENABLE_X64": str(int(jax.config.jax_enable_x64))}
        run_in_child("servable.convert.jax_saved_model:write", arguments, conversion.say, environment)
