"""What a child process does for a Keras model: load it with another backend, and write it from there."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servable.convert.call import Call, golden_of, line_of
from servable.convert.child import run_in_child
from servable.errors import ConversionError
from servable.model.examples import Examples
from servable.model.golden import read_examples, write_examples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_BACKENDS = ("tensorflow", "jax", "torch")


def in_child(name: str, backend: str, arguments: Mapping[str, Any], say: Callable[[str], None]) -> Any:
    """Runs one of the functions below in a child whose Keras has this backend. It takes no GPU."""
    environment = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    return run_in_child(f"{__name__}:{name}", arguments, say, environment)


def write(
    say: Callable[[str], None],
    *,
    file: str,
    preprocess: str | None,
    modules: list[str],
    call: dict[str, Any],
    folder: str,
    form: str,
) -> None:
    """Writes a model as a SavedModel or as ONNX; `modules` define its layers."""
    for module in modules:
        importlib.import_module(module)
    say(f"Loading {Path(file).name} with Keras on {os.environ['KERAS_BACKEND']}")
    model, front = load_keras(file), None if preprocess is None else load_keras(preprocess)
    say(f"Writing it as {form}")
    write_keras(model, front, Call.from_json(call), Path(folder), form)


def write_keras(model: Any, preprocess: Any, call: Call, folder: Path, form: str) -> None:
    """Writes a model of this process' backend: on TensorFlow as a SavedModel, on PyTorch as ONNX."""
    from servable.convert import keras_onnx
    from servable.convert.keras_model import serve
    from servable.convert.saved_model import write_saved_model

    if form == "onnx":
        keras_onnx.write_keras_onnx(model, preprocess, call, folder / keras_onnx.FILE)
        return

    def function(tensors: dict[str, Any]) -> dict[str, Any]:
        return serve(model, preprocess, call, tensors)

    write_saved_model(folder, {"serving_default": (function, call)}, [model, preprocess])


def answer(
    say: Callable[[str], None], *, file: str, examples: str, single: bool, datatype: str, folder: str | None
) -> dict[str, Any]:
    """Has a model file answer the examples in a folder, in place; returns what it takes.

    Where a `folder` is named, it is written there as a SavedModel, too.
    """
    from servable.convert.keras_model import answers, call_of, require_no_strings

    say(f"Loading {Path(file).name} with Keras on {os.environ['KERAS_BACKEND']}")
    model = load_keras(file)
    (given,) = read_examples(Path(examples))
    arrays = {name: tensor.array for name, tensor in given.inputs.items()}
    value = Examples(next(iter(arrays.values())) if single else arrays, arrays, single)
    call = call_of(model, value, datatype)
    require_no_strings(model, call)
    golden = golden_of(lambda tensors: answers(model, None, call, tensors), call, value)
    write_examples(Path(examples), golden)
    if folder is not None:
        say("Writing it as saved_model")
        write_keras(model, None, call, Path(folder), "saved_model")
    return call.to_json()


def load_keras(file: str) -> Any:
    """Loads a .keras file; raises ConversionError where it is none, or holds what only the user's own code knows."""
    import keras

    try:
        return keras.saving.load_model(file, compile=False)
    except Exception as error:
        raise ConversionError(
            f"{Path(file).name} cannot be loaded: {line_of(error)}",
            hint="classes of your own must be in a module that can be imported; a lambda must become a function with "
            "@keras.saving.register_keras_serializable()",
        ) from error
