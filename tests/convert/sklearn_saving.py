"""What the tests of estimators share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from threadpoolctl import threadpool_limits

from servable.convert.save import save
from servable.model.load import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servable.model.load import Servable


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Trees are small here, and threads that wait for each other are slow where tests share the machine."""
    with threadpool_limits(1):
        yield


def saved(model: Any, tmp_path: Path, examples: Any, **arguments: Any) -> Servable:
    """The version that a model is saved as, loaded."""
    return load(save(model, tmp_path / "m", examples=examples, **arguments).path)
