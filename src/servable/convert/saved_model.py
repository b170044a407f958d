"""Writes SavedModels with TensorFlow: functions become signatures, tables and their files come along.

TensorFlow is imported here when something is written, so this is for processes that use it: the caller's own, or a
child.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
import warnings
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from importlib import util
from typing import TYPE_CHECKING, Any

from servable.convert.call import line_of
from servable.errors import ConversionError
from servable.wire.tensors import BYTES, numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from servable.convert.call import Call
    from servable.model.signatures import TensorSpec
    from servable.wire.tensors import Tensor

FILE = "saved_model.pb"
# What a function takes: named tensors of TensorFlow in, named tensors out.
Function = Callable[[dict[str, Any]], Mapping[str, Any]]
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNTRACKED = "'untracked' resource"


def has_tensorflow() -> bool:
    """Whether TensorFlow is installed; it is not imported for that."""
    return util.find_spec("tensorflow") is not None


def write_saved_model(folder: Path, functions: Mapping[str, tuple[Function, Call]], roots: Iterable[object]) -> None:
    """Writes functions as the signatures of a SavedModel.

    Args:
        folder: Where to write.
        functions: By name of the signature, a function and what it takes.
        roots: Models, layers and functions in which to look for tables; what variables there are is seen in the traces.

    Raises:
        ConversionError: A function cannot be traced, or uses a table that is in none of the roots.
    """
    import tensorflow as tf

    holder = tf.Module()
    traces: dict[str, Any] = {}
    renamed: dict[str, dict[str, dict[str, str]]] = {}
    with _quiet():
        for name, (function, call) in functions.items():
            traces[name], renamed[name] = _trace(function, call, name)
        holder.parts = [list(trace.graph.variables) for trace in traces.values()]
        holder.resources = list(_resources(roots))
        # Gradients of functions that came out of another SavedModel cannot be written again, and serving asks for none.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        try:
            tf.saved_model.save(holder, str(folder), signatures=traces, options=options)
        except Exception as error:
            raise ConversionError(f"TensorFlow cannot write it: {line_of(error)}", hint=_hint(error)) from error
    _rename(folder / FILE, renamed)


def _hint(error: Exception) -> str | None:
    if _UNTRACKED in str(error):
        return (
            "keep tables and variables as attributes of a tf.Module or a layer, and give its method or the layer itself"
        )
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TensorFlow's advice about names, and its notices to itself, out of the user's terminal."""
    import tensorflow as tf

    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _trace(function: Function, call: Call, name: str) -> tuple[Any, dict[str, dict[str, str]]]:
    """A concrete function, and which of its names stand for which: TensorFlow takes no column called `n rooms`."""
    import tensorflow as tf

    inputs = plain_names(spec.name for spec in call.specs)
    outputs: dict[str, str] = {}

    def serve(tensors: dict[str, Any]) -> dict[str, Any]:
        answer = function({name: tensors[plain] for plain, name in inputs.items()})
        outputs.update(plain_names(answer))
        by_name = {name: plain for plain, name in outputs.items()}
        # An output that is an input as it came needs an operation of its own to be found in the graph.
        return {by_name[name]: tf.identity(value) for name, value in answer.items()}

    specs = {plain: tensor_spec(spec, plain) for plain, spec in zip(inputs, call.specs, strict=True)}
    try:
        trace = tf.function(serve, autograph=False).get_concrete_function(specs)
    except ConversionError:
        raise
    except Exception as error:
        raise ConversionError(
            f"Signature '{name}' cannot be traced by TensorFlow: {line_of(error)}",
            hint="use operations of TensorFlow and layers, no numpy and no Python on values",
        ) from error
    return trace, {"inputs": inputs, "outputs": outputs}


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Names that TensorFlow takes while it traces, and which names they stand for."""
    names = list(names)
    return {n if _PLAIN_NAME.fullmatch(n) else f"servable_{index}": n for index, n in enumerate(names)}


def traceable(function: Any) -> Any:
    """A plain function with its branches and loops in a form that can be traced; anything else as it is."""
    import tensorflow as tf

    return tf.function(function) if isinstance(function, types.FunctionType | types.MethodType) else function


def tensor_spec(spec: TensorSpec, name: str | None = None) -> Any:
    """The tf.TensorSpec of an input."""
    import tensorflow as tf

    shape = None if spec.shape is None else [None if size == -1 else size for size in spec.shape]
    kind = tf.string if spec.datatype == BYTES else tf.as_dtype(numpy_dtype(spec.datatype))
    return tf.TensorSpec(shape, kind, name=name or spec.name)


def as_tensorflow(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Tensors as TensorFlow has them."""
    import tensorflow as tf

    return {name: tf.constant(t.array, tf.string if t.datatype == BYTES else None) for name, t in tensors.items()}


def _resources(roots: Iterable[object]) -> Iterator[Any]:
    """The tables that can be reached from models, layers, functions and what functions refer to."""
    from tensorflow.saved_model.experimental import TrackableResource

    waiting = list(roots)
    seen: dict[int, object] = {}
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen[id(each)] = each  # kept alive: the id of what is gone may come again
        if isinstance(each, TrackableResource):
            yield each
        else:
            waiting += _parts(each)


def _parts(each: Any) -> list[Any]:
    """What a thing is made of, or refers to, in which there may be tables."""
    import tensorflow as tf

    parts: list[Any] = []
    match each:
        case list() | tuple() | set():
            parts += each
        case Mapping():
            parts += each.values()
        case types.FunctionType():
            parts += _closure(each)
        case types.MethodType():
            parts += each.__self__, each.__func__
        case functools.partial():
            parts += each.func, *each.args, *each.keywords.values()
        case tf.types.experimental.GenericFunction():
            parts.append(getattr(each, "python_function", None))
        case _ if isinstance(each, tf.Module) or (callable(each) and not isinstance(each, type)):
            parts += getattr(each, "__dict__", {}).values()
    return parts


def _closure(function: types.FunctionType) -> list[Any]:
    try:
        found = inspect.getclosurevars(function)
    except ValueError:  # a variable that has no value yet
        return []
    return [*found.nonlocals.values(), *found.globals.values()]


def _rename(file: Path, renamed: Mapping[str, Mapping[str, Mapping[str, str]]]) -> None:
    """Gives inputs and outputs the names that TensorFlow does not take while it traces."""
    if all(plain == name for sides in renamed.values() for side in sides.values() for plain, name in side.items()):
        return
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    signatures = model.meta_graphs[0].signature_def
    for signature, sides in renamed.items():
        for side, names in sides.items():
            tensors = getattr(signatures[signature], side)
            for plain, name in names.items():
                if plain != name:
                    tensors[name].CopyFrom(tensors[plain])
                    del tensors[plain]
    file.write_bytes(model.SerializeToString())
