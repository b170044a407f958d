"""`preprocess`, then the model, as one function of named arrays: for frameworks whose models are functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from servable.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTPUT_NAME = "outputs"
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Chain:
    """What is to be served.

    Attributes:
        model: Takes what `preprocess` gives: a dict becomes its arguments by name, a tuple those by position.
        preprocess: Takes the inputs; None where the model does.
        leaf: The framework's type of arrays.
    """

    model: Callable[..., Any]
    preprocess: Callable[..., Any] | None
    leaf: type | tuple[type, ...]

    def __call__(self, value: Any) -> dict[str, Any]:
        """The named outputs for one array, or for a dict of arrays.

        Raises:
            ConversionError: The functions do not take what they are given, or give what is no array.
        """
        if self.preprocess is not None:
            value = apply(self.preprocess, value)
        return dict(name_outputs(apply(self.model, value), self.leaf))


def apply(function: Callable[..., Any], value: Any) -> Any:
    """Calls a function with what the one before gave.

    Example:
        >>> apply(lambda x, y: x - y, {"y": 1, "x": 3})
        2
    """
    if isinstance(value, Mapping):
        return _apply_named(function, value)
    if isinstance(value, tuple):
        return function(*value)
    return function(value)


def _apply_named(function: Callable[..., Any], value: Mapping[str, Any]) -> Any:
    signature = inspect.signature(getattr(function, "forward", function))
    try:
        signature.bind(**value)
    except TypeError:
        names = [name for name, parameter in signature.parameters.items() if parameter.kind in _POSITIONAL]
        required = [name for name in names if signature.parameters[name].default is inspect.Parameter.empty]
        if len(required) != 1 or required[0] in value:
            raise ConversionError(
                f"{title(function)} takes {', '.join(signature.parameters) or 'nothing'}; given are {', '.join(value)}",
                hint="call the inputs what the function calls its arguments",
            ) from None
        return function(dict(value))  # a function of one dict, as many are in JAX
    return function(**value)


def name_outputs(answer: Any, leaf: type | tuple[type, ...], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names for the arrays of an answer.

    One array is `outputs`; a dict keeps its keys, a named tuple its fields; others are `output_0`, `output_1`, and so
    on. What is nested gets its names joined by `_`. None is left out.

    Example:
        >>> dict(name_outputs({"a": 1, "b": (2, 3), "c": None}, int))
        {'a': 1, 'b_0': 2, 'b_1': 3}
    """
    if isinstance(answer, leaf):
        yield prefix or OUTPUT_NAME, answer
    elif isinstance(answer, Mapping):
        for key, value in answer.items():
            yield from name_outputs(value, leaf, f"{prefix}_{key}" if prefix else str(key))
    elif isinstance(answer, Sequence) and not isinstance(answer, str | bytes):
        fields = getattr(answer, "_fields", range(len(answer)))
        for field, value in zip(fields, answer, strict=True):
            alone = str(field) if isinstance(field, str) else f"output_{field}"
            yield from name_outputs(value, leaf, f"{prefix}_{field}" if prefix else alone)
    elif answer is not None:
        where = f" as '{prefix}'" if prefix else ""
        raise ConversionError(
            f"The model gives a value of type {type(answer).__name__}{where}, which is no array",
            hint="give arrays, or a dict or tuple of them",
        )


def title(model: Any) -> str:
    """What to call a function or an object in messages.

    Example:
        >>> title(functools.partial(len)), title(3)
        ('len', 'int')
    """
    if isinstance(model, functools.partial):
        return title(model.func)
    name = getattr(model, "__name__", None)
    return name if isinstance(name, str) else type(model).__name__
