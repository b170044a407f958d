"""Writes Keras models as ONNX, in a process whose Keras computes with PyTorch.

Of Keras' own ways to ONNX only this one is sound. By way of TensorFlow, the constants of Normalization become inputs,
and exact GELU and lookups are written as operations that no engine has; by way of JAX, pooling is written over the
wrong axes. All of those write a file without raising.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from servable.convert.call import line_of
from servable.convert.keras_model import STRING_LAYERS, layers_of, serve, title
from servable.errors import ConversionError
from servable.wire.tensors import BYTES, numpy_dtype

if TYPE_CHECKING:
    from pathlib import Path

    from servable.convert.call import Call

FILE = "model.onnx"
_UNKNOWN = {
    **dict.fromkeys((*STRING_LAYERS, "IntegerLookup"), "needs tables or strings, which ONNX lacks"),
    **dict.fromkeys(("MultiHeadAttention", "GroupedQueryAttention"), "cannot be written as ONNX with an open batch"),
}
_SAVED_MODEL = "leave format= away: a SavedModel holds it as it is"


def write_keras_onnx(model: Any, preprocess: Any, call: Call, file: Path) -> None:
    """Writes preprocessing and model as one graph with an open batch.

    Args:
        model: A model of Keras on PyTorch.
        preprocess: A layer or a model, or None.
        call: What goes into the first of both.
        file: Where to write.

    Raises:
        ConversionError: A layer, which the message names, has no equivalent in ONNX.
    """
    require_onnx_layers(model, preprocess, call)
    import keras
    import onnx

    names: list[str] = []
    try:
        inputs = {
            spec.name: keras.Input(
                batch_shape=[None if size == -1 else size for size in spec.shape or ()],
                dtype=str(numpy_dtype(spec.datatype)),
                name=f"input_{index}",
            )
            for index, spec in enumerate(call.specs)
        }
        outputs = serve(model, preprocess, call, inputs)
        names = list(outputs)
        whole = keras.Model(list(inputs.values()), list(outputs.values()))
        whole([keras.ops.zeros([size or 1 for size in each.shape], each.dtype) for each in inputs.values()])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole.export(str(file), format="onnx", verbose=False)
    except Exception as error:
        raise ConversionError(
            f"Model '{model.name}' cannot be written as ONNX: {line_of(error)}", hint=_SAVED_MODEL
        ) from error
    written = onnx.load(file)
    _rename(written.graph, list(inputs), names)
    onnx.save(written, file)


def require_onnx_layers(model: Any, preprocess: Any, call: Call) -> None:
    """Refuses what is known to have no equivalent in ONNX; raises ConversionError with the name of the layer."""
    for layer in layers_of(model, preprocess):
        if reason := _UNKNOWN.get(type(layer).__name__):
            raise ConversionError(f"The {title(layer)} {reason}", hint=_SAVED_MODEL)
    strings = [spec.name for spec in call.specs if spec.datatype == BYTES]
    if strings:
        raise ConversionError(
            f"Input '{strings[0]}' takes strings, which Keras cannot write as ONNX", hint=_SAVED_MODEL
        )


def _rename(graph: Any, inputs: list[str], outputs: list[str]) -> None:
    """Calls inputs and outputs what clients call them. The exporter numbers outputs, and takes no name with a space."""
    new: dict[str, str] = {}
    for tensors, names in ((graph.input, inputs), (graph.output, outputs)):
        new |= {tensor.name: name for tensor, name in zip(tensors, names, strict=True)}
    taken = {name for node in graph.node for name in node.output} | {each.name for each in graph.initializer}
    for name in (taken & set(new.values())) - set(new):
        new[name] = f"{name}_inside"
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    for tensor in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        tensor.name = new.get(tensor.name, tensor.name)
