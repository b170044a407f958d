"""Makes a version of a tf.Module, of a model of Keras 2, or of a folder that holds a SavedModel.

Of a module, the function to serve is `signatures["serving_default"]` where that is given, else the module itself. It is
called with what the examples are: one array, a dict, or keywords where its arguments are called so. A tf.function with
an input_signature of its own keeps that. A SavedModel is copied with all its signatures, and answers the examples
itself.
"""

from __future__ import annotations

import inspect
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.convert.call import Call, as_served, call_of_examples, golden_of, line_of, name_outputs
from servable.convert.draft import Draft
from servable.convert.onnx_file import split_for
from servable.convert.proof import written_signatures
from servable.convert.saved_model import FILE, Function, as_tensorflow, traceable, write_saved_model
from servable.errors import ConversionError
from servable.model.examples import bind_inputs
from servable.model.formats import format_of
from servable.model.golden import FILE_NAME as GOLDEN_FILE
from servable.model.golden import GoldenExample
from servable.model.manifest import FILE_NAME as MANIFEST_FILE
from servable.model.origin import package_versions
from servable.model.signatures import DEFAULT_SIGNATURE, TensorSpec, find_signature
from servable.wire.tensors import BYTES, datatype_of

if TYPE_CHECKING:
    from servable.convert.conversion import Conversion
    from servable.wire.tensors import Tensor

_FILES = (FILE, "saved_model.pbtxt")
_NO_FUNCTION = 'give it __call__, or signatures={"serving_default": module.function}'


def takes(model: object) -> bool:
    """Whether it is a tf.Module, or the path of a SavedModel's folder; without importing TensorFlow."""
    if isinstance(model, str | Path):
        return any((Path(model) / name).is_file() for name in _FILES)
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(model, getattr(tensorflow, "Module", ()))


def convert(conversion: Conversion) -> Draft:
    """Writes a module as a SavedModel with its own answers to the examples, or copies a SavedModel.

    Raises:
        ConversionError: There is no function to serve, it does not take the examples, or it cannot be traced.
    """
    if isinstance(conversion.model, str | Path):
        return _copy(conversion)
    conversion.allow("saved_model", preprocess=True, signatures=True)
    given = dict(conversion.signatures or {})
    model = given.pop(DEFAULT_SIGNATURE, conversion.model)
    if not callable(model):
        raise ConversionError(f"{type(model).__name__} has no function to serve", hint=_NO_FUNCTION)
    function, eager, call = _with_preprocess(conversion, model)
    golden = golden_of(_asker(eager, call), call, conversion.examples)
    functions, further = further_functions(conversion)
    roots = [conversion.model, conversion.preprocess, conversion.signatures]
    write_saved_model(conversion.folder, {DEFAULT_SIGNATURE: (function, call), **functions}, roots)
    form = format_of("saved_model", FILE)
    return Draft(
        form,
        as_served([*golden, *further], written_signatures(conversion.folder, form)),
        frameworks=package_versions("tensorflow", "numpy"),
        hint="a function that draws random numbers or keeps a state answers differently each time",
    )


def _with_preprocess(conversion: Conversion, model: Callable[..., Any]) -> tuple[Function, Function, Call]:
    """The function to trace, the same to ask, and what both take."""
    preprocess = conversion.preprocess
    call = call_of_function(model if preprocess is None else preprocess, conversion)
    if preprocess is None:
        return _named(model, call), _named(model, call), call
    front = traceable(preprocess)

    def traced(tensors: dict[str, Any]) -> Mapping[str, Any]:
        return name_outputs(model(call.ask(front, tensors)))

    def eager(tensors: dict[str, Any]) -> Mapping[str, Any]:
        return name_outputs(model(call.ask(preprocess, tensors)))

    return traced, eager, call


def _named(function: Callable[..., Any], call: Call) -> Function:
    return lambda tensors: name_outputs(call.ask(function, tensors))


def _asker(function: Function, call: Call) -> Callable[[dict[str, Tensor]], dict[str, Any]]:
    """Asks a function of TensorFlow in numpy's arrays."""

    def ask(inputs: dict[str, Tensor]) -> dict[str, Any]:
        try:
            answer = function(as_tensorflow(inputs))
        except Exception as error:
            names = ", ".join(spec.name for spec in call.specs)
            raise ConversionError(f"The model fails on the examples ({names}): {line_of(error)}") from error
        return {name: np.asarray(value) for name, value in answer.items()}

    return ask


def call_of_function(function: Any, conversion: Conversion) -> Call:
    """How a function is called: by its own input_signature, or else as the examples show."""
    declared = _declared(function)
    if declared is not None:
        return declared
    names = set(conversion.examples.arrays)
    keywords = not conversion.examples.single and names <= _parameters(function)
    return call_of_examples(conversion.examples, conversion.datatype, "keywords" if keywords else None)


def _parameters(function: Any) -> set[str]:
    try:
        parameters = inspect.signature(getattr(function, "python_function", function)).parameters.values()
    except (TypeError, ValueError):
        return set()
    return {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}


def _declared(function: Any) -> Call | None:
    """The input_signature of a tf.function; of a module, that of its __call__."""
    import tensorflow as tf

    if isinstance(function, tf.Module):
        function = function.__call__ if callable(function) else None
    signature = getattr(function, "input_signature", None)
    if not signature:
        return None
    parameters = [name for name in inspect.signature(function.python_function).parameters if name != "self"]
    if len(signature) == 1 and isinstance(signature[0], Mapping):
        return Call(tuple(_spec(name, spec) for name, spec in signature[0].items()), "dict")
    if not all(isinstance(spec, tf.TensorSpec) for spec in signature) or len(parameters) < len(signature):
        raise ConversionError(
            "An input_signature is a list of tf.TensorSpec, or one dict of them",
            hint="write the function with one argument for each input",
        )
    return Call(tuple(_spec(name, spec) for name, spec in zip(parameters, signature, strict=False)), "keywords")


def _spec(name: str, spec: Any) -> TensorSpec:
    import tensorflow as tf

    shape = None if spec.shape.rank is None else tuple(-1 if size is None else size for size in spec.shape)
    kind = BYTES if spec.dtype == tf.string else datatype_of(np.empty(0, spec.dtype.as_numpy_dtype))
    return TensorSpec(name, kind, shape)


def further_functions(conversion: Conversion) -> tuple[dict[str, tuple[Function, Call]], list[GoldenExample]]:
    """The functions of `signatures=`, and their own answers where they take what the examples are.

    Raises:
        ConversionError: One is no function, or fails on the examples.
    """
    functions: dict[str, tuple[Function, Call]] = {}
    golden: list[GoldenExample] = []
    for name, function in (conversion.signatures or {}).items():
        if name == DEFAULT_SIGNATURE:
            continue
        if not callable(function):
            raise ConversionError(f"Signature '{name}' is no function but a {type(function).__name__}")
        call = call_of_function(function, conversion)
        functions[name] = _named(function, call), call
        if _fits(call, conversion):
            golden += golden_of(_asker(functions[name][0], call), call, conversion.examples, name)
    return functions, golden


def _fits(call: Call, conversion: Conversion) -> bool:
    """Whether a function takes the examples; what takes something else goes without golden examples."""
    try:
        call.bind(conversion.examples)
    except ConversionError:
        return False
    return len(call.specs) == 1 or not conversion.examples.single


def _copy(conversion: Conversion) -> Draft:
    conversion.allow("saved_model")
    source = Path(conversion.model).absolute()
    if conversion.folder.resolve().is_relative_to(source.resolve()):
        raise ConversionError(f"{source} cannot be copied into itself", hint="save it into another folder")
    own = shutil.ignore_patterns(MANIFEST_FILE, Path(GOLDEN_FILE).name)  # a new version has its own of these
    try:
        shutil.copytree(source, conversion.folder, ignore=own, dirs_exist_ok=True)
    except OSError as error:
        raise ConversionError(f"{source} cannot be copied: {line_of(error)}") from error
    file = next(name for name in _FILES if (source / name).is_file())
    form = format_of("saved_model", file)
    signature = find_signature(written_signatures(conversion.folder, form), None)
    parts = split_for(conversion.examples, signature)
    records = [GoldenExample(bind_inputs(part, signature), None, signature.name) for part in parts]
    return Draft(form, records, frameworks=package_versions("tensorflow"))
