"""Converters of ours in the registries of skl2onnx, for as long as one conversion takes."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# Options that ensembles pass on to their parts.
_OPTIONS: dict[str, list[bool]] = {"zipmap": [False, True], "nocl": [False, True], "output_class_labels": [False]}
_lock = threading.RLock()  # the registries are skl2onnx's own, and there is one of each


def alias_of(kind: type) -> str:
    """What skl2onnx is to call the operator of a type that is converted here."""
    return f"Servable{kind.__name__}"


@contextmanager
def registered(
    kinds: Iterable[type],
    parse: Callable[..., Any],
    shape: Callable[[Any], None],
    convert: Callable[[Any, Any, Any], None],
    *,
    raw_scores: bool = False,
) -> Iterator[None]:
    """Registers converters for some types, and puts back what was there before.

    Args:
        kinds: The types of estimators.
        parse: Declares the outputs of an operator.
        shape: Says what types and shapes they have.
        convert: Writes the operator's nodes.
        raw_scores: Whether it knows the option of this name.
    """
    from skl2onnx import _parse, _supported_operators, update_registered_converter
    from skl2onnx.common import _registration

    registries = (
        _supported_operators.sklearn_operator_name_map,
        _registration._converter_pool,  # noqa: SLF001  # nothing public takes a converter back
        _registration._shape_calculator_pool,  # noqa: SLF001
        _parse.sklearn_parsers_map,
    )
    options = _OPTIONS | ({"raw_scores": [False, True]} if raw_scores else {})
    with _lock, ExitStack() as after:
        for registry in registries:
            after.callback(_restore, registry, dict(registry))
        for kind in kinds:
            update_registered_converter(
                kind, alias_of(kind), shape, convert, overwrite=True, parser=parse, options=options
            )
        yield


def _restore(registry: dict[Any, Any], content: dict[Any, Any]) -> None:
    registry.clear()
    registry.update(content)
