"""Which failures are tried again, and when. No sockets and no clock here."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from servable.client.exchange import Failed
from servable.client.steps import Pause
from servable.errors import InvalidArgument, ServableError

if TYPE_CHECKING:
    from servable.client.steps import Send, Steps

_MOST_ATTEMPTS = 100
_LONGEST_PAUSE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Retry:
    """How a client repeats requests that failed. All within the timeout of the call, which is never passed.

    Tried again is what cannot have been done: the server could not be reached, or it refused (HTTP 503 and 429, gRPC
    UNAVAILABLE, and RESOURCE_EXHAUSTED where it says when to come back). Where the connection broke after the request
    was sent, or a gateway answers 502, nobody knows; predictions and questions are repeated then, since to run a model
    twice does no harm, and changes of the server's models are not. Everything else is final: a request that is
    wrong stays wrong.

    Before the n-th repetition there is a pause between 0 and `pause * 2 ** (n - 1)` seconds, drawn at random, so that
    many clients do not come back at once; where the server said when to come back, that long on top.

    Attributes:
        attempts: How often a request is sent at most, the first time included: 1 to 100.
        pause: Upper end of the first pause in seconds.
        longest_pause: Upper end of all pauses in seconds.
        unsure: Whether to repeat predictions of which nobody knows whether they ran.

    Raises:
        InvalidArgument: A value is out of its range.

    Example:
        >>> Retry(attempts=5, unsure=False)
        Retry(attempts=5, pause=0.05, longest_pause=2.0, unsure=False)
    """

    attempts: int = 3
    pause: float = 0.05
    longest_pause: float = 2.0
    unsure: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= _MOST_ATTEMPTS:
            raise InvalidArgument(f"A request is sent 1 to {_MOST_ATTEMPTS} times, not {self.attempts!r}")
        if not 0 <= self.pause <= self.longest_pause <= _LONGEST_PAUSE_S:
            raise InvalidArgument(
                f"Pauses of {self.pause!r} to {self.longest_pause!r} s are not possible",
                hint=f"0 <= pause <= longest_pause <= {_LONGEST_PAUSE_S:g}",
            )


NO_RETRY = Retry(attempts=1)


def backoff(retry: Retry, repetition: int, asked: float | None = None) -> float:
    """Seconds before the n-th repetition, counted from 1; `asked` are those that the server asked for."""
    most = min(retry.longest_pause, retry.pause * 2.0 ** (repetition - 1))
    return (asked or 0.0) + random.uniform(0.0, most)  # noqa: S311  # nothing secret


def sending(send: Send, retry: Retry) -> Steps[Any]:
    """Sends a request, again where the policy allows it, and returns the reply, which may tell of an error.

    Raises:
        Unavailable: There was no reply.
        DeadlineExceeded: There was none in time.
    """
    for attempt in itertools.count(1):
        reply, asked, error = None, None, None
        try:
            reply = yield send
        except Failed as failed:
            error, unsure = failed.error(), failed.sent
        else:
            if not (reply.refused or reply.unsure):
                return reply
            asked, unsure = reply.retry_after, reply.unsure
        pause = backoff(retry, attempt, asked)
        may = not unsure or (send.repeatable and retry.unsure)
        # What the server said tells more than that the time is over; and a body in pieces is used up.
        if not may or attempt >= retry.attempts or send.body is not None or not send.until.allows(pause):
            return _end(reply, error)
        yield Pause(pause)
    raise AssertionError("unreachable")


def _end(reply: Any, error: ServableError | None) -> Any:
    if error is not None:
        raise error from None
    return reply
