"""What children do in the tests of children."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from servable.errors import GoldenMismatch

if TYPE_CHECKING:
    from collections.abc import Callable


def count(say: Callable[[str], None], upto: int) -> dict[str, Any]:
    for number in range(upto):
        print("a library that prints")
        say(f"step {number}")
    return {"variable": os.environ.get("STEP"), "sum": sum(range(upto))}


def mismatch(say: Callable[[str], None]) -> None:
    raise GoldenMismatch("a table", hint="look at it")


def fail(say: Callable[[str], None]) -> None:
    raise KeyError("layer dense_1")


def die(say: Callable[[str], None]) -> None:
    print("out of luck", file=sys.stderr, flush=True)
    os._exit(3)
