"""Models whose versions stay loaded when their folder holds none any more."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from servable.lifecycle.states import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable.lifecycle.aspired import Aspired
    from servable.lifecycle.sources import Source

_NOT_FOUND = 5


class KeepingSource:
    """A source that never wants nothing of a model that is to be kept.

    An empty folder is told as an error of the model then, and what runs stays, as for a folder that cannot be read.
    TensorFlow Serving calls this `servable_versions_always_present`.

    Args:
        source: Says what is wanted.
        keeps: Whether a model is to be kept.

    Example:
        >>> source = KeepingSource(FoldersSource(Path("models")), lambda model: model == "digits")  # doctest: +SKIP
    """

    def __init__(self, source: Source, keeps: Callable[[str], bool]) -> None:
        self._source = source
        self._keeps = keeps

    def look(self, now: float) -> list[Aspired]:
        return [self._kept(item) for item in self._source.look(now)]

    def _kept(self, item: Aspired) -> Aspired:
        is_empty = not item.versions and not item.settling and item.error is None
        if not is_empty or not self._keeps(item.model):
            return item
        message = f"No versions of servable {item.model} found; what is loaded stays (versions_always_present)"
        return replace(item, error=Failure(_NOT_FOUND, message))
