"""Models that were unloaded by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servable.lifecycle import FoldersSource, WithheldSource
from version_folders import publish

if TYPE_CHECKING:
    from pathlib import Path


def test_nothing_is_wanted_of_a_model_that_is_held_back_until_it_is_let_go(tmp_path: Path) -> None:
    for name in ("a", "b"):
        publish(tmp_path / name, 1, {"model.onnx": b"x"})
    source = WithheldSource(FoldersSource(tmp_path, settle=0.0))

    def wanted() -> dict[str, list[int]]:
        return {item.model: [place.version for place in item.versions] for item in source.look(0.0)}

    assert wanted() == {"a": [1], "b": [1]}
    source.names.add("a")
    assert wanted() == {"a": [], "b": [1]}
    assert [place.version for place in source.last["a"].versions] == [1]
    publish(tmp_path / "a", 2, {"model.onnx": b"x"})
    assert wanted() == {"a": [], "b": [1]}
    source.names.discard("a")
    assert wanted() == {"a": [2], "b": [1]}


def test_a_model_that_is_held_back_says_why_and_is_not_silent(tmp_path: Path) -> None:
    source = WithheldSource(FoldersSource(tmp_path, settle=0.0))
    publish(tmp_path / "a", 1, {"model.onnx": b"x"})
    source.names.add("a")
    [held] = source.look(0.0)
    assert not held.silent
    assert "Unloaded" in held.notes[0]
