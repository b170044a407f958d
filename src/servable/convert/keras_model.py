"""What a Keras model takes and answers, on whichever backend: read from the model, in the process that holds it."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.convert.call import Call, call_of_examples, line_of, name_outputs
from servable.errors import ConversionError
from servable.model.signatures import TensorSpec
from servable.wire.tensors import BYTES, datatype_of

if TYPE_CHECKING:
    from servable.model.examples import Examples
    from servable.wire.tensors import Tensor

STRING_LAYERS = ("StringLookup", "TextVectorization", "Hashing", "HashedCrossing")


def backend() -> str:
    """The backend of the Keras in this process: `tensorflow`, `jax` or `torch`."""
    import keras

    return str(keras.config.backend())


def is_layer(value: object) -> bool:
    """Whether it is a layer or a model of Keras 3; without importing Keras."""
    keras = sys.modules.get("keras")
    return keras is not None and hasattr(keras, "ops") and isinstance(value, keras.Layer)


def is_model(value: object) -> bool:
    """Whether it is a model of Keras 3; without importing Keras."""
    return is_layer(value) and isinstance(value, sys.modules["keras"].Model)


def call_of(layer: Any, examples: Examples, datatype: str = "FP32") -> Call:
    """How a layer or model is called: what it declares, or else what the examples show.

    Inputs are called as the model calls them; a single array, as the examples call it. An input of shape `[batch, 1]`
    takes plain columns, where the examples have such.

    Raises:
        ConversionError: The examples have other names or another number of dimensions than the model.
    """
    declared = _declared(layer)
    if declared is None:
        parameters = inspect.signature(layer.call).parameters
        keywords = len(examples.arrays) > 1 and set(examples.arrays) <= set(parameters)
        return call_of_examples(examples, datatype, "keywords" if keywords else None)
    form, inputs = declared
    arrays = examples.arrays
    if form == "array" and len(arrays) == 1:
        inputs = dict(zip(arrays, inputs.values(), strict=True))
    if set(inputs) != set(arrays):
        given = "one array" if examples.single else ", ".join(sorted(arrays))
        raise ConversionError(
            f"Model '{layer.name}' takes {_words(form, inputs)}; the examples are {given}",
            hint="give what the model takes; where it takes one array, stack columns in preprocess=",
        )
    specs = tuple(_spec(layer, name, tensor, arrays[name]) for name, tensor in inputs.items())
    return Call(specs, form)


def _words(form: str, inputs: Mapping[str, Any]) -> str:
    return "one array" if form == "array" else ", ".join(sorted(inputs))


def _declared(layer: Any) -> tuple[str, dict[str, Any]] | None:
    """The symbolic inputs by name; None where a model was written as a class, and declares nothing."""
    import keras

    if isinstance(layer, keras.Sequential):
        given = layer.inputs[0] if layer.built and layer.inputs else None
    else:
        given = layer.input if hasattr(layer, "output_names") else None  # only functional models name their outputs
    if isinstance(given, Mapping):
        return ("dict", dict(given)) if all(map(_is_symbolic, given.values())) else None
    if isinstance(given, list | tuple):
        return ("list", {each.name: each for each in given}) if all(map(_is_symbolic, given)) else None
    return ("array", {given.name: given}) if given is not None and _is_symbolic(given) else None


def _is_symbolic(value: object) -> bool:
    import keras

    return isinstance(value, keras.KerasTensor)


def _spec(layer: Any, name: str, tensor: Any, example: Any) -> TensorSpec:
    shape = tuple(-1 if size is None else int(size) for size in tensor.shape)
    if example.ndim == len(shape) - 1 and shape[-1] == 1:
        shape = shape[:-1]
    if example.ndim != len(shape):
        raise ConversionError(
            f"Input '{name}' of model '{layer.name}' has shape {list(shape)}; the examples have {list(example.shape)}",
            hint="the first axis of the examples counts instances",
        )
    return TensorSpec(name, datatype_of_keras(tensor.dtype), (-1, *shape[1:]))


def datatype_of_keras(dtype: str) -> str:
    """The datatype of a dtype of Keras.

    Example:
        >>> datatype_of_keras("string"), datatype_of_keras("float32")
        ('BYTES', 'FP32')
    """
    if dtype in ("string", "bfloat16"):
        return {"string": BYTES, "bfloat16": "BF16"}[dtype]
    return datatype_of(np.empty(0, dtype))


def predicting(function: Any) -> Any:
    """A model or layer as `predict` calls it: layers that augment images do so unless they are told otherwise."""
    if is_layer(function) and "training" in inspect.signature(function.call).parameters:
        return functools.partial(function, training=False)
    return function


def serve(model: Any, preprocess: Any, call: Call, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Preprocessing and model, from named inputs to named outputs; may be traced."""
    if preprocess is None:
        return name_outputs(call.ask(predicting(model), tensors), output_names(model))
    return name_outputs(predicting(model)(call.ask(predicting(preprocess), tensors)), output_names(model))


def input_names(model: Any, count: int) -> list[str]:
    """What to call the inputs of a model that takes a list of them."""
    names = [tensor.name for tensor in getattr(model, "inputs", None) or []]
    return names if len(names) == count else [f"input_{index}" for index in range(count)]


def output_names(model: Any) -> list[str]:
    return list(getattr(model, "output_names", None) or [])


def answers(model: Any, preprocess: Any, call: Call, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the framework itself answers, as numpy arrays.

    Raises:
        ConversionError: Preprocessing or model raise an error.
    """
    where = f"model '{model.name}'"
    try:
        if preprocess is None:
            value = call.ask(predicting(model), as_given(tensors))
        else:
            where = "preprocess"
            middle = ask_preprocess(preprocess, call, tensors)
            where = f"model '{model.name}'"
            value = predicting(model)(middle)
    except Exception as error:
        raise ConversionError(f"Calling {where} fails on the examples: {line_of(error)}") from error
    return {name: as_numpy(each) for name, each in name_outputs(value, output_names(model)).items()}


def ask_preprocess(preprocess: Any, call: Call, tensors: Mapping[str, Tensor]) -> Any:
    """What `preprocess` makes of the inputs. Functions get tensors of TensorFlow, whatever the model computes with."""
    if is_layer(preprocess):
        return call.ask(predicting(preprocess), as_given(tensors))
    from servable.convert.saved_model import as_tensorflow

    value = call.ask(preprocess, as_tensorflow(tensors))
    return value if backend() == "tensorflow" else _each(value, as_numpy)


def as_given(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Tensors as a layer takes them: those of its backend. Strings are TensorFlow's, where the backend is."""
    import keras

    if backend() == "tensorflow":
        from servable.convert.saved_model import as_tensorflow

        return as_tensorflow(tensors)
    return {
        name: tensor.array if tensor.datatype == BYTES else keras.ops.convert_to_tensor(tensor.array)
        for name, tensor in tensors.items()
    }


def as_numpy(value: Any) -> Any:
    import keras

    return keras.ops.convert_to_numpy(value) if keras.ops.is_tensor(value) else np.asarray(value)


def _each(value: Any, function: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: function(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [function(each) for each in value]
    return function(value)


def layers_of(*roots: Any) -> list[Any]:
    """Layers and models with all that is inside them; what is no layer is left out."""
    return [each for root in roots if is_layer(root) for each in root._flatten_layers()]  # noqa: SLF001  # no public way


def title(layer: Any) -> str:
    return f"{type(layer).__name__} layer '{layer.name}'"


def confined_layers(*roots: Any) -> list[str]:
    """The layers that another process cannot make again: those of a lambda, and classes of the script itself."""
    return [title(each) for each in layers_of(*roots) if _is_confined(each)]


def _is_confined(layer: Any) -> bool:
    return any(
        _module(each) == "__main__" or "<" in getattr(each, "__qualname__", "")  # <locals>, <lambda>
        for each in _made_by(layer)
    )


def _made_by(layer: Any) -> list[Any]:
    """The code that another process needs to make a layer: its class, and what a Lambda calls."""
    return [type(layer), layer.function] if type(layer).__name__ == "Lambda" else [type(layer)]


def _module(code: Any) -> str:
    return str(getattr(code, "__module__", None) or "keras")


def modules_of(*roots: Any) -> list[str]:
    """The modules, other than Keras' own, that define the layers: a process has to import them to know the layers."""
    names = {_module(code) for layer in layers_of(*roots) for code in _made_by(layer)}
    return sorted(name for name in names if name != "keras" and not name.startswith("keras."))


def require_no_strings(model: Any, call: Call) -> None:
    """Refuses a model that would have to compute on strings, which only TensorFlow does, by the name of its input."""
    strings = [spec.name for spec in call.specs if spec.datatype == BYTES]
    if not strings or backend() == "tensorflow":
        return
    lookups = ", ".join(title(each) for each in layers_of(model) if type(each).__name__ in STRING_LAYERS)
    raise ConversionError(
        f"Input '{strings[0]}' of model '{model.name}' takes strings, on which Keras does not compute with {backend()}",
        hint=f"give what takes them ({lookups or 'a lookup'}) as preprocess=, or train with TensorFlow",
    )
