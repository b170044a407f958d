"""Loaded versions without files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from servable import _native
from servable.engines.load import Loaded
from servable.model.formats import Format
from servable.model.signatures import declared_signature, signatures_to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNATURE = declared_signature({"inputs": {"x": ("FP32", [-1])}, "outputs": {"y": ("FP32", [-1])}})


@pytest.fixture
def loaded() -> Iterator[Callable[..., Loaded]]:
    """Makes versions that answer with what they were asked; `batch_safe` says what was proven."""
    made = []

    def load(*, batch_safe: bool | None = None) -> Loaded:
        def echo(signature: str, inputs: list[tuple[str, str, tuple[int, ...], object]]) -> list[object]:
            return [("y", *tensor[1:]) for tensor in inputs]

        servable = _native.load_python(echo, signatures_to_json([SIGNATURE]), "{}")
        made.append(servable)
        return Loaded(servable, (SIGNATURE,), batch_safe, 10, Format("python", "model.py", "python"), None, 0, 0.0)

    yield load
    for servable in made:
        servable.release()
        assert servable.wait_ended(10)
