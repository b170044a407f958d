"""Models that were unloaded by name: nothing is wanted of them until they are loaded again, whatever is on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servable.lifecycle.aspired import Aspired

if TYPE_CHECKING:
    from servable.lifecycle.sources import Source

UNLOADED = "Unloaded by a client: load it to have it served again"
"""The note in the status of such a model."""


class WithheldSource:
    """A source from which models can be held back. Not for several threads at once.

    Args:
        source: Says what is wanted otherwise.

    Attributes:
        names: The models that are held back. They stay so as long as the process lives.
        last: What was said last of each model, before anything was held back.

    Example:
        >>> source = WithheldSource(FolderSource("digits", Path("models/digits")))  # doctest: +SKIP
        >>> source.names.add("digits")  # doctest: +SKIP
        >>> source.look(now=0.0)[0].versions  # doctest: +SKIP
        ()
    """

    def __init__(self, source: Source) -> None:
        self.names: set[str] = set()
        self.last: dict[str, Aspired] = {}
        self._source = source

    def look(self, now: float) -> list[Aspired]:
        found = self._source.look(now)
        self.last = {item.model: item for item in found}
        return [Aspired(item.model, notes=(UNLOADED,)) if item.model in self.names else item for item in found]
