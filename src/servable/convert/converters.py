"""Which converter makes a version of which model. No framework is imported that is not in use already."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from servable.convert.conversion import Conversion
    from servable.convert.draft import Draft

_MODULES = (
    "onnx_file",
    "tflite_file",
    "keras",
    "tensorflow",
    "booster",
    "sklearn",
    "torch",
    "jax",
    "python_object",
)
"""In the order in which they are asked. The last one takes anything that has `predict`, and says what is missing."""


class Converter(Protocol):
    """What each of these modules has."""

    def takes(self, model: object) -> bool:
        """Whether it knows this kind of model; tells it from the object, and imports nothing for that."""

    def convert(self, conversion: Conversion) -> Draft:
        """Writes the model into the folder, and gives the framework's own answers to the examples.

        Raises:
            ConversionError: It cannot be written. The message names the layer or step, the hint what to do instead.
        """


def converter_of(model: object) -> Converter:
    """The converter for a model.

    Example:
        >>> converter_of("model.onnx").__name__
        'servable.convert.onnx_file'
    """
    for name in _MODULES[:-1]:
        converter = _module(name)
        if converter.takes(model):
            return converter
    return _module(_MODULES[-1])


def _module(name: str) -> Converter:
    return cast("Converter", importlib.import_module(f"servable.convert.{name}"))
