"""servable.server.polling: what is looked at when."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from servable.server.polling import Followed, Poll
from servable.storage.location import Location
from servable.storage.uri import BucketUri
from servers import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Thing:
    """Something in a bucket that counts its looks, and does what it is told at each."""

    def __init__(self, bucket: str, at_look: Callable[[], object] = lambda: None) -> None:
        self.remote = Location(BucketUri("s3", bucket, "thing"), store=object())
        self.looks = 0
        self.is_arriving = False
        self.has_failed = False
        self._at_look = at_look

    def look(self) -> None:
        self.looks += 1
        self._at_look()


@contextmanager
def polling(*things: Thing, interval: float = 0.02, once: bool = False) -> Iterator[Poll]:
    def look(thing: Followed) -> None:
        thing.look()

    poll = Poll(interval, look)
    for thing in things:
        poll.add(thing)
    poll.start(once=once)
    yield poll
    poll.stop()


def test_each_thing_is_looked_at_again_and_again() -> None:
    things = [Thing("a"), Thing("a"), Thing("b")]
    with polling(*things):
        assert eventually(lambda: min(thing.looks for thing in things) > 3)


def test_looks_that_hang_hold_up_their_own_bucket_only() -> None:
    hang = threading.Event()
    hanging = [Thing("slow", lambda: hang.wait(30)) for _ in range(6)]
    quick = Thing("quick")
    with polling(*hanging, quick):
        assert eventually(lambda: quick.looks > 3)
        assert sum(thing.looks for thing in hanging) == 4
        hang.set()
        assert eventually(lambda: min(thing.looks for thing in hanging) > 1)


def test_a_look_that_raises_does_not_end_the_looks() -> None:
    def fail() -> None:
        raise RuntimeError

    broken = Thing("a", fail)
    with polling(broken):
        assert eventually(lambda: broken.looks > 2)


def test_what_is_looked_at_now_is_looked_at_once_more_when_asked() -> None:
    begun, go_on = threading.Event(), threading.Event()
    thing = Thing("a", lambda: (begun.set(), go_on.wait(30)))
    with polling(thing, interval=3600) as poll:
        assert begun.wait(20)
        poll.look_now(thing)
        go_on.set()
        assert eventually(lambda: thing.looks == 2)
        poll.look_now(thing)
        assert eventually(lambda: thing.looks == 3)


def test_one_look_is_enough_where_that_is_asked_unless_it_failed_or_something_arrives() -> None:
    done, failed, arriving, witness = Thing("a"), Thing("a"), Thing("a"), Thing("a")
    failed.has_failed = arriving.is_arriving = witness.has_failed = True
    with polling(done, failed, arriving, witness, once=True):
        assert eventually(lambda: min(failed.looks, arriving.looks, witness.looks) > 3)
    assert done.looks == 1


def test_what_was_removed_is_not_looked_at_any_more() -> None:
    gone, stays = Thing("a"), Thing("a")
    with polling(gone, stays) as poll:
        poll.remove(gone)
        before, seen = gone.looks, stays.looks
        assert eventually(lambda: stays.looks > seen + 4)
        assert gone.looks <= before + 1
