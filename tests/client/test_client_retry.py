"""The policy of retries, stepped by hand: no sockets, no clock."""

from __future__ import annotations

import math
from typing import Any

import pytest

from servable.client.exchange import Failed, Reply, Request
from servable.client.retry import Retry, backoff, sending
from servable.client.steps import Pause, Send
from servable.client.types import Deadline
from servable.errors import Unavailable

OK, BUSY = Reply(200, {}, bytearray()), Reply(503, {"retry-after": "2"}, bytearray())
# A deadline counts from here on, which is long before these tests run where there are others.
SEND = Send(Request("GET", "/"), Deadline(math.inf), repeatable=True)


def walk(retry: Retry, *outcomes: Reply | Failed, send: Send = SEND) -> tuple[list[Any], Any]:
    """The steps that are taken where sending comes to these outcomes, and what comes out."""
    steps, taken, left = sending(send, retry), [], list(outcomes)
    try:
        step = next(steps)
        while True:
            taken.append(step)
            outcome = left.pop(0) if isinstance(step, Send) else None
            step = steps.throw(outcome) if isinstance(outcome, Failed) else steps.send(outcome)
    except StopIteration as done:
        return taken, done.value
    except Unavailable as error:
        return taken, error


def test_a_success_is_sent_once() -> None:
    assert walk(Retry(), OK) == ([SEND], OK)


def test_pauses_grow_to_the_longest_and_are_never_above() -> None:
    retry = Retry(attempts=9, pause=0.1, longest_pause=0.4)
    for repetition, most in ((1, 0.1), (2, 0.2), (3, 0.4), (4, 0.4), (100, 0.4)):
        drawn = [backoff(retry, repetition) for _ in range(200)]
        assert 0 <= min(drawn) < most / 4
        assert most * 3 / 4 < max(drawn) <= most


def test_the_pause_begins_after_what_the_server_asked_for() -> None:
    taken, reply = walk(Retry(), BUSY, OK)
    assert reply is OK
    assert [type(step) for step in taken] == [Send, Pause, Send]
    assert 2.0 <= taken[1].seconds <= 2.05


def test_the_last_reply_is_given_back_as_it_is() -> None:
    taken, reply = walk(Retry(attempts=2, pause=0), BUSY, BUSY)
    assert reply is BUSY
    assert taken.count(SEND) == 2


def test_a_pause_that_is_longer_than_what_is_left_is_not_taken() -> None:
    send = Send(SEND.request, Deadline(1.0), repeatable=True)
    taken, reply = walk(Retry(), BUSY, OK, send=send)
    assert taken == [send]
    assert reply is BUSY


@pytest.mark.parametrize(
    ("sent", "repeatable", "unsure", "times"),
    [
        (False, False, False, 3),
        (True, True, True, 3),
        (True, False, True, 1),
        (True, True, False, 1),
    ],
)
def test_what_may_have_been_done_is_repeated_only_where_that_does_no_harm(
    sent: bool, repeatable: bool, unsure: bool, times: int
) -> None:
    send = Send(SEND.request, SEND.until, repeatable)
    lost = [Failed("lost", sent=sent) for _ in range(3)]
    taken, error = walk(Retry(pause=0, unsure=unsure), *lost, send=send)
    assert taken.count(send) == times
    assert str(error) == "lost"


def test_a_body_in_pieces_is_sent_once() -> None:
    send = Send(SEND.request, SEND.until, body=iter([b"piece"]))
    taken, _ = walk(Retry(pause=0), BUSY, send=send)
    assert taken == [send]
