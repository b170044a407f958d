"""servable.errors: one tree with stable codes and statuses."""

from __future__ import annotations

import pytest

from servable import errors
from servable.errors import ServableError, all_errors, from_status

EVERY_CLASS = pytest.mark.parametrize("cls", all_errors(), ids=lambda cls: cls.__name__)


def test_the_drawing_shows_every_class() -> None:
    drawn = {
        line.split()[-1] if "├" not in line and "└" not in line else line.split("── ")[1].split()[0]
        for line in str(errors.__doc__).splitlines()
        if "── " in line
    }
    assert drawn | {"ServableError"} == {cls.__name__ for cls in all_errors()}


def test_codes_are_unique() -> None:
    assert len({cls.code for cls in all_errors()}) == len(all_errors())


@EVERY_CLASS
def test_a_class_keeps_message_and_hint(cls: type[ServableError]) -> None:
    error = cls("it broke", hint="mend it")
    assert (str(error), error.message, error.hint) == ("it broke", "it broke", "mend it")


@EVERY_CLASS
def test_a_class_has_the_statuses_of_its_parent_or_its_own(cls: type[ServableError]) -> None:
    assert 0 < cls.grpc_status <= 16
    assert 400 <= cls.http_status < 600


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (3, "InvalidArgument"),
        (4, "DeadlineExceeded"),
        (5, "NotFound"),
        (6, "AlreadyExists"),
        (8, "ResourceExhausted"),
        (9, "FailedPrecondition"),
        (12, "Unimplemented"),
        (13, "Internal"),
        (14, "Unavailable"),
        (2, "ServableError"),
        (7, "PermissionDenied"),
        (16, "Unauthenticated"),
        (99, "ServableError"),
    ],
)
def test_a_status_number_gives_its_class(status: int, name: str) -> None:
    error = from_status(status, "why")
    assert type(error).__name__ == name
    assert str(error) == "why"


def test_errors_are_also_what_python_programs_expect() -> None:
    assert issubclass(errors.InvalidArgument, ValueError)
    assert issubclass(errors.NotFound, LookupError)
    assert issubclass(errors.DeadlineExceeded, TimeoutError)


def test_unavailable_says_when_to_come_back() -> None:
    assert errors.Unavailable("busy", retry_after=2.0).retry_after == 2.0
    assert errors.Unavailable("busy").retry_after is None
