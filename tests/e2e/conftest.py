"""What tests of whole servers share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable.server import ModelServer


@pytest.fixture
def writable(start: Callable[..., ModelServer]) -> Callable[..., ModelServer]:
    """Starts servers whose models clients may change. They do not wait for models, nor try a failed load again."""
    return lambda **settings: start(**{"repository": "write", "load_retries": 0, "ready": False} | settings)
