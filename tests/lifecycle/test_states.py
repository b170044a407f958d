"""servable.lifecycle.states: states, and failures made from exceptions."""

from __future__ import annotations

import pytest

from servable.errors import EngineMissing, GoldenMismatch, ServableError, Unavailable
from servable.lifecycle import Failure, State, VersionStatus
from servable.lifecycle.states import MAX_MESSAGE, Phase


@pytest.mark.parametrize(
    ("error", "code", "permanent"),
    [
        (EngineMissing("no TensorFlow"), 9, True),
        (GoldenMismatch("row 3 differs"), 9, True),
        (Unavailable("busy"), 14, False),
        (ServableError("odd"), 2, False),
        (FileNotFoundError(2, "No such file", "model.onnx"), 5, False),
        (PermissionError(13, "Permission denied"), 7, False),
        (OSError(5, "Input/output error"), 14, False),
        (MemoryError(), 8, False),
        (ZeroDivisionError("division by zero"), 2, False),
    ],
)
def test_a_failure_keeps_the_code_of_its_error_and_knows_whether_a_retry_can_help(error, code, permanent):
    failure = Failure.of(error)
    assert (failure.code, failure.permanent) == (code, permanent)
    assert failure.message


def test_a_failure_tells_the_hint():
    error = EngineMissing("TensorFlow is not installed", hint="pip install servable[tensorflow]")
    assert Failure.of(error).message == "TensorFlow is not installed (pip install servable[tensorflow])"


def test_a_failure_of_a_foreign_error_names_its_type():
    assert Failure.of(ZeroDivisionError("division by zero")).message == "ZeroDivisionError: division by zero"
    assert Failure.of(MemoryError()).message == "MemoryError"


def test_a_huge_message_is_cut():
    assert len(Failure.of(ValueError("x" * 10**6)).message) == MAX_MESSAGE


def test_a_status_without_failure_is_ok():
    status = VersionStatus(1, State.AVAILABLE, 0.0)
    assert (status.code, status.message) == (0, "")


def test_every_phase_has_a_state_and_only_running_ones_hold_memory():
    assert [phase.state for phase in Phase] == [
        State.START,
        State.LOADING,
        State.LOADING,
        State.AVAILABLE,
        State.UNLOADING,
        State.START,
        State.END,
        State.END,
    ]
    assert [phase for phase in Phase if phase.in_memory] == [Phase.LOADING, Phase.AVAILABLE, Phase.UNLOADING]
