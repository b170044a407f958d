"""Makes a version of any Python object with `predict`.

Never a pickle: a version holds the source of the class as `model.py`, beside what the object's own `save(folder)`
writes, and is restored by `Class.load(folder)`. An object without anything to keep needs neither: `Class()` makes it.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.convert.draft import Draft
from servable.convert.python_source import imported_packages, module_source
from servable.engines.python import check_outputs
from servable.engines.python_model import Calling, describe
from servable.errors import ConversionError, Internal, InvalidArgument, ServableError
from servable.model.examples import bind_inputs, is_text
from servable.model.formats import format_of
from servable.model.golden import FILE_NAME as GOLDEN_FILE
from servable.model.golden import GoldenExample
from servable.model.manifest import FILE_NAME as MANIFEST_FILE
from servable.model.origin import package_versions
from servable.model.signatures import DEFAULT_SIGNATURE, Signature, TensorSpec, declared_signature
from servable.wire.tensors import Tensor, as_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from servable.convert.conversion import Conversion
    from servable.model.examples import Examples

FILE = "model.py"
OUTPUT_NAME = "outputs"
_SAVE_LOAD = "give it save(self, folder) and a classmethod load(cls, folder)"


def takes(model: object) -> bool:
    """Whether it has a method `predict`."""
    return callable(getattr(model, "predict", None)) and not inspect.ismodule(model) and not isinstance(model, type)


def convert(conversion: Conversion) -> Draft:
    """Writes an object's class and data into a folder, with its own answers to the examples.

    `predict` is called with what the examples are: one array, or a dict of arrays. Its answer is one array, which is
    then called `outputs`, or a dict of arrays. The signature follows from both, unless the object has an attribute
    `signature` (see `declared_signature`).

    Raises:
        ConversionError: It has no predict, or predict fails on the examples; its class cannot be written as a
            module, or that imports what is not installed; it has a state that nothing would save.
    """
    model, examples, folder = conversion.model, conversion.examples, conversion.folder
    if not takes(model):
        raise ConversionError(
            f"{_title(model)} cannot be saved",
            hint="known are the models that docs/guides/saving.md lists, and objects with a method predict(x)",
        )
    if conversion.preprocess is not None:
        raise ConversionError(f"{_title(model)} takes no preprocess=", hint="call it at the start of predict")
    conversion.allow("python")
    source = module_source(type(model))
    _save_state(model, folder)
    (folder / FILE).write_text(source, encoding="utf-8")
    declared = _declared(model)
    records = [_record(model, part, declared) for part in examples.split()]
    signature = declared or _derived(records[0])
    text = any(is_text(array) for array in examples.arrays.values())
    calling = Calling("array" if examples.single else "dict", text=text)
    return Draft(
        format_of("python", FILE),
        records,
        signatures=(signature,),
        frameworks=package_versions("numpy", *imported_packages(source)),
        engine_options={"class": type(model).__name__, **calling.to_options()},
        hint="what load(folder) restores is not what save(folder) was given, or predict is not deterministic",
    )


def _title(model: Any) -> str:
    return f"Class {model.__name__}" if isinstance(model, type) else f"An object of type {type(model).__name__}"


def _save_state(model: Any, folder: Path) -> None:
    cls = type(model)
    has_save, has_load = callable(getattr(model, "save", None)), callable(getattr(cls, "load", None))
    if not has_save and not has_load:
        _require_no_state(model)
        return
    if not (has_save and has_load):
        missing = "load" if has_save else "save"
        raise ConversionError(f"{cls.__name__} has no {missing}", hint=_SAVE_LOAD)
    try:
        model.save(folder)
    except Exception as error:
        raise ConversionError(f"save of {cls.__name__} raised {describe(error)}") from error
    for reserved in (FILE, MANIFEST_FILE, GOLDEN_FILE):
        if (folder / reserved).exists():
            raise ConversionError(f"save of {cls.__name__} wrote {reserved}, which the version needs", hint="rename it")


def _require_no_state(model: Any) -> None:
    cls = type(model)
    try:
        fresh = cls()
    except Exception as error:
        raise ConversionError(f"{cls.__name__}() cannot make it again: {describe(error)}", hint=_SAVE_LOAD) from error
    state, made = _state(model), _state(fresh)
    lost = [name for name in state if name not in made or not _equal(state[name], made[name])]
    if lost:
        raise ConversionError(
            f"{cls.__name__} has a state that would be lost: {', '.join(sorted(lost))}", hint=_SAVE_LOAD
        )


def _state(model: Any) -> dict[str, Any]:
    slots = [name for cls in type(model).__mro__ for name in getattr(cls, "__slots__", ())]
    return {name: getattr(model, name) for name in slots if hasattr(model, name)} | getattr(model, "__dict__", {})


def _equal(a: Any, b: Any) -> bool:
    try:
        return type(a) is type(b) and bool(np.all(a == b))
    except Exception:  # whatever cannot be compared has to be saved
        return False


def _declared(model: Any) -> Signature | None:
    declaration = getattr(model, "signature", None)
    return declared_signature(declaration) if isinstance(declaration, dict) else None


def _record(model: Any, part: Examples, declared: Signature | None) -> GoldenExample:
    name = type(model).__name__
    try:
        answer = model.predict(part.value)
    except ServableError:
        raise
    except Exception as error:
        raise ConversionError(f"predict of {name} fails on the examples: {describe(error)}") from error
    if declared is None:
        named = answer if hasattr(answer, "keys") else {OUTPUT_NAME: answer}
        return GoldenExample(_tensors("Input", part.arrays), _tensors("Output", named))
    try:
        return GoldenExample(bind_inputs(part, declared), check_outputs(name, answer, declared))
    except Internal as error:
        raise ConversionError(str(error), hint="mend the signature that the class declares") from error


def _tensors(side: str, arrays: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors = {}
    for name in arrays:
        try:
            tensors[name] = as_tensor(arrays[name])
        except InvalidArgument as error:
            raise ConversionError(f"{side} '{name}': {error}", hint=error.hint) from error
    return tensors


def _derived(record: GoldenExample) -> Signature:
    """The signature that examples and answers show; the first axis is open where all agree on its size."""
    outputs = record.outputs or {}
    sizes = {tensor.shape[0] if tensor.shape else None for tensor in (*record.inputs.values(), *outputs.values())}
    batched = len(sizes) == 1 and None not in sizes
    return Signature(DEFAULT_SIGNATURE, _specs(record.inputs, batched), _specs(outputs, batched))


def _specs(tensors: Mapping[str, Tensor], batched: bool) -> tuple[TensorSpec, ...]:
    first = (-1,) if batched else ()
    return tuple(
        TensorSpec(name, tensor.datatype, (*first, *tensor.shape[len(first) :])) for name, tensor in tensors.items()
    )
