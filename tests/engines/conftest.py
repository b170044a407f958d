"""Versions that engines load for a test."""

from __future__ import annotations

import pytest

from servable.engines.load import load_version


@pytest.fixture
def load():
    """`load_version`, with everything released at the end."""
    loaded = []

    def load_one(*arguments, **options):
        loaded.append(load_version(*arguments, **options))
        return loaded[-1]

    yield load_one
    for each in loaded:
        each.servable.release()
        assert each.servable.wait_ended(10)
