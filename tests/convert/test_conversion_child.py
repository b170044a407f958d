"""Work that is done in a child process comes back as if it had been done here."""

from __future__ import annotations

import pytest

from servable.convert.child import run_in_child
from servable.errors import ConversionError, GoldenMismatch


def test_a_child_reports_its_progress_and_then_its_result() -> None:
    said: list[str] = []
    result = run_in_child("conversion_steps:count", {"upto": 3}, said.append, {"STEP": "on"})
    assert result == {"variable": "on", "sum": 3}
    assert said == ["step 0", "step 1", "step 2"]


def test_typed_errors_are_raised_again_with_their_hint() -> None:
    with pytest.raises(GoldenMismatch, match="a table") as raised:
        run_in_child("conversion_steps:mismatch", {}, print)
    assert raised.value.hint == "look at it"


def test_any_other_error_is_named() -> None:
    with pytest.raises(ConversionError, match="KeyError: 'layer dense_1'"):
        run_in_child("conversion_steps:fail", {}, print)


def test_the_last_words_of_a_child_that_died_are_told() -> None:
    with pytest.raises(ConversionError, match="out of luck"):
        run_in_child("conversion_steps:die", {}, print)
