"""Makes a version of a Keras 3 model, on whichever backend it computes, or of a `.keras` file.

It becomes a SavedModel where TensorFlow is installed: strings, tables and every preprocessing layer are kept as
they are. `format="onnx"` writes ONNX, which needs PyTorch for the conversion.

What the version takes: the model's inputs by their names; one plain array is called as the examples call it. With
`preprocess`, what that takes. What it gives: the keys of a dict; `outputs` for one tensor; else the names of the output
layers. A model that computes with JAX or PyTorch is saved as a file, which a child process loads with TensorFlow.
"""

from __future__ import annotations

import tempfile
import zipfile
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servable.convert import keras_onnx, saved_model
from servable.convert.call import Call, as_served, call_of_examples, golden_of, line_of
from servable.convert.draft import Draft
from servable.convert.keras_child import in_child, write_keras
from servable.convert.keras_model import (
    answers,
    ask_preprocess,
    backend,
    call_of,
    confined_layers,
    input_names,
    is_layer,
    is_model,
    modules_of,
    predicting,
    require_no_strings,
    serve,
)
from servable.convert.proof import written_signatures
from servable.convert.tensorflow import further_functions
from servable.errors import ConversionError, NotFound
from servable.model.examples import Examples, take_examples
from servable.model.formats import format_of
from servable.model.golden import GoldenExample, read_examples, write_examples
from servable.model.origin import package_versions
from servable.model.signatures import DEFAULT_SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from servable.convert.conversion import Conversion

_SUFFIX = ".keras"
_CONFINED = (
    "put the class into a module that can be imported, and replace a lambda by a function with "
    "@keras.saving.register_keras_serializable()"
)


def takes(model: object) -> bool:
    """Whether it is a model of Keras 3, or the path of a `.keras` file; without importing Keras."""
    if isinstance(model, str | Path):
        return str(model).endswith(_SUFFIX)
    return is_model(model)


def convert(conversion: Conversion) -> Draft:
    """Writes a Keras model with its preprocessing, and gives the model's own answers to the examples.

    Raises:
        ConversionError: The model is not built, does not take the examples, or has a layer that cannot be written. The
            message names the layer.
        NotFound: There is no such file.
    """
    form = _form(conversion)
    if isinstance(conversion.model, str | Path):
        return _convert_file(conversion, form)
    conversion.allow("saved_model", "onnx", preprocess=True, signatures=form == "saved_model")
    _require_functions(conversion)
    model, preprocess = conversion.model, conversion.preprocess
    first = model if preprocess is None else preprocess
    if is_layer(first):
        call = call_of(first, conversion.examples, conversion.datatype)
    else:
        call = call_of_examples(conversion.examples, conversion.datatype)
    if preprocess is None:
        require_no_strings(model, call)
    examples = _several(conversion.examples)
    golden = golden_of(lambda tensors: answers(model, preprocess, call, tensors), call, examples)
    if form == "onnx":
        _write_onnx(conversion, call)
    elif backend() == "tensorflow":
        golden += _write_here(conversion, call)
    else:
        _write_elsewhere(conversion, call, golden)
    return _draft(conversion, form, golden, backend())


def _form(conversion: Conversion) -> str:
    form = conversion.format or ("saved_model" if saved_model.has_tensorflow() else "onnx")
    if form == "saved_model" and not saved_model.has_tensorflow():
        raise ConversionError("TensorFlow is needed to write a SavedModel", hint='pip install "servable[tensorflow]"')
    if form == "onnx":
        _require_torch()
    return form


def _require_torch() -> None:
    for package in ("torch", "onnx"):
        if util.find_spec(package) is None:
            raise ConversionError(
                f"{package} is needed to write Keras models as ONNX",
                hint="pip install torch onnx, or tensorflow for a SavedModel",
            )


def _require_functions(conversion: Conversion) -> None:
    if conversion.signatures and backend() != "tensorflow":
        raise ConversionError(
            f"signatures= takes functions of TensorFlow, and the model computes with {backend()}",
            hint="save it as several models",
        )
    if DEFAULT_SIGNATURE in (conversion.signatures or {}):
        raise ConversionError(f"Signature '{DEFAULT_SIGNATURE}' is the model itself", hint="give it another name")


def _several(examples: Examples) -> Examples:
    """Examples of more than one row: a graph in which a batch of one is fixed would answer a single one right."""
    if examples.rows != 1:
        return examples
    arrays = {name: array.repeat(3, axis=0) for name, array in examples.arrays.items()}
    return Examples(next(iter(arrays.values())) if examples.single else arrays, arrays, examples.single)


def _draft(conversion: Conversion, form: str, golden: Sequence[GoldenExample], framework: str) -> Draft:
    written = format_of(form, keras_onnx.FILE if form == "onnx" else saved_model.FILE)
    return Draft(
        written,
        as_served(golden, written_signatures(conversion.folder, written)),
        frameworks=package_versions("keras", "tensorflow" if form == "saved_model" else "onnx", framework, "numpy"),
        hint=(
            "some layers are written with the batch size that they were traced with; leave format= away"
            if form == "onnx"
            else "a layer that draws random numbers or keeps a state answers differently each time"
        ),
    )


def _write_here(conversion: Conversion, call: Call) -> list[GoldenExample]:
    """A model of TensorFlow is written in this process, with all that it refers to."""
    model, preprocess = conversion.model, conversion.preprocess
    front = saved_model.traceable(preprocess)

    def function(tensors: dict[str, Any]) -> dict[str, Any]:
        return serve(model, front, call, tensors)

    functions, golden = further_functions(conversion)
    roots = [model, preprocess, conversion.signatures]
    saved_model.write_saved_model(conversion.folder, {DEFAULT_SIGNATURE: (function, call), **functions}, roots)
    return golden


def _write_onnx(conversion: Conversion, call: Call) -> None:
    model, preprocess = conversion.model, conversion.preprocess
    if preprocess is not None and not is_layer(preprocess):
        raise ConversionError(
            "preprocess= of an ONNX version is a Keras layer or model, not a function",
            hint="leave format= away, or write it as layers",
        )
    keras_onnx.require_onnx_layers(model, preprocess, call)
    if backend() == "torch" and confined_layers(model, preprocess):
        write_keras(model, preprocess, call, conversion.folder, "onnx")
    else:
        _write_in_child(conversion, call, preprocess, conversion.folder, "onnx")


def _write_in_child(conversion: Conversion, call: Call, preprocess: Any, folder: Path, form: str) -> None:
    """Has a child load what is saved here with the backend that the format needs."""
    model = conversion.model
    if confined := confined_layers(model, preprocess):
        hint = f"{_CONFINED}, or take format='onnx'" if backend() == "torch" else _CONFINED
        raise ConversionError(f"No other process can make the {confined[0]}", hint=hint)
    with tempfile.TemporaryDirectory() as temporary:
        file = _save_keras(model, Path(temporary) / f"model{_SUFFIX}")
        front = None if preprocess is None else _save_keras(preprocess, Path(temporary) / f"preprocess{_SUFFIX}")
        modules = modules_of(model, preprocess)
        _child_writes(conversion, folder, form, file=file, preprocess=front, modules=modules, call=call.to_json())


def _child_writes(conversion: Conversion, folder: Path, form: str, **arguments: Any) -> None:
    into = {**arguments, "folder": str(folder), "form": form}
    in_child("write", "torch" if form == "onnx" else "tensorflow", into, conversion.say)


def _save_keras(layer: Any, file: Path) -> str:
    import keras

    model = layer if is_model(layer) else keras.Sequential([layer])
    try:
        model.save(file)
    except Exception as error:
        raise ConversionError(f"Keras cannot save '{layer.name}': {line_of(error)}", hint=_CONFINED) from error
    return str(file)


def _write_elsewhere(conversion: Conversion, call: Call, golden: Sequence[GoldenExample]) -> None:
    """A model of JAX or PyTorch becomes a SavedModel by way of a child; a function before it is traced here."""
    preprocess = conversion.preprocess
    function = preprocess if preprocess is not None and not is_layer(preprocess) else None
    own = backend() == "jax" and bool(confined_layers(conversion.model))
    if function is None and not own:
        _write_in_child(conversion, call, preprocess, conversion.folder, "saved_model")
        return
    inner = call if preprocess is None else _inner_call(conversion, call, golden[0])
    with tempfile.TemporaryDirectory() as temporary:
        network = Path(temporary) / "network"
        if own:
            _write_jax(conversion, inner, network)
        else:
            _write_in_child(conversion, inner, None, network, "saved_model")
        conversion.say("Tracing what comes before the model")
        _write_joined(conversion, call, inner, network, list(golden[0].outputs or {}))


def _inner_call(conversion: Conversion, call: Call, example: GoldenExample) -> Call:
    """What the network itself takes: what `preprocess` makes of the examples."""
    middle = ask_preprocess(conversion.preprocess, call, example.inputs)
    if isinstance(middle, list | tuple):
        middle = dict(zip(input_names(conversion.model, len(middle)), middle, strict=True))
    return call_of(conversion.model, take_examples(middle), conversion.datatype)


def _write_jax(conversion: Conversion, call: Call, folder: Path) -> None:
    """Keras' own way from JAX to TensorFlow: for layers that only this process knows."""
    import keras

    model = conversion.model

    names = saved_model.plain_names(spec.name for spec in call.specs)

    def function(tensors: dict[str, Any]) -> dict[str, Any]:
        answer = serve(model, None, call, {name: tensors[plain] for plain, name in names.items()})
        return {plain: answer[name] for plain, name in saved_model.plain_names(answer).items()}

    specs = {plain: saved_model.tensor_spec(spec, plain) for plain, spec in zip(names, call.specs, strict=True)}
    try:
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint(DEFAULT_SIGNATURE, function, [specs])
        archive.write_out(str(folder), verbose=False)
    except Exception as error:
        raise ConversionError(f"Model '{model.name}' cannot be written: {line_of(error)}", hint=_CONFINED) from error


def _write_joined(conversion: Conversion, call: Call, inner: Call, network: Path, answered: list[str]) -> None:
    """Writes a network that is a SavedModel already, which answers these outputs, with what comes before it."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(network))
    run = loaded.signatures[DEFAULT_SIGNATURE]
    preprocess = conversion.preprocess
    front = predicting(saved_model.traceable(preprocess))
    # Inside of a SavedModel its functions keep the names that they were traced with.
    inputs = saved_model.plain_names(spec.name for spec in inner.specs)
    outputs = saved_model.plain_names(answered)

    def function(tensors: dict[str, Any]) -> dict[str, Any]:
        middle = tensors if front is None else inner.named(call.ask(front, tensors))
        answer = run(**{plain: _fit(middle[spec.name], spec) for plain, spec in zip(inputs, inner.specs, strict=True)})
        return {name: answer[plain] for plain, name in outputs.items()}

    saved_model.write_saved_model(conversion.folder, {DEFAULT_SIGNATURE: (function, call)}, [preprocess, loaded])


def _fit(value: Any, spec: Any) -> Any:
    import tensorflow as tf

    wanted = saved_model.tensor_spec(spec)
    return value if wanted.dtype == tf.string else tf.cast(value, wanted.dtype)


def _convert_file(conversion: Conversion, form: str) -> Draft:
    conversion.allow("saved_model", "onnx")
    file = Path(conversion.model).absolute()
    if not file.is_file():
        raise NotFound(f"There is no file {file}")
    if not zipfile.is_zipfile(file):
        raise ConversionError(f"{file.name} is no file that Keras 3 has written", hint="write it by model.save(path)")
    framework = next((each for each in ("tensorflow", "jax", "torch") if util.find_spec(each)), None)
    if util.find_spec("keras") is None or framework is None:
        raise ConversionError("Keras is needed to read a .keras file", hint="pip install keras tensorflow")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        examples = _several(conversion.examples)
        write_examples(folder, [GoldenExample(call_of_examples(examples, conversion.datatype).bind(examples))])
        arguments = {
            "file": str(file),
            "examples": temporary,
            "single": examples.single,
            "datatype": conversion.datatype,
            "folder": str(conversion.folder) if form == "saved_model" else None,
        }
        call = in_child("answer", framework, arguments, conversion.say)
        golden = read_examples(folder)
    if form == "onnx":
        _child_writes(conversion, conversion.folder, form, file=str(file), preprocess=None, modules=[], call=call)
    return _draft(conversion, form, golden, framework)
