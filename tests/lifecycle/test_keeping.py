"""Models whose versions stay loaded when their folder holds none any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servable.lifecycle import FoldersSource, KeepingSource, Manager
from version_folders import publish, withdraw

if TYPE_CHECKING:
    from pathlib import Path


def test_an_empty_folder_unloads_only_models_that_are_not_kept(tmp_path: Path) -> None:
    for name in ("kept", "other"):
        publish(tmp_path / name, 1, {"model.onnx": b"x"})
    source = KeepingSource(FoldersSource(tmp_path, settle=0.0), lambda model: model == "kept")
    manager = Manager()
    manager.aspire(source.look(0.0), 0.0)
    for action in manager.step(0.0):
        manager.loaded(action.model, action.version, 1, 0.0)
    for name in ("kept", "other"):
        withdraw(tmp_path / name, 1)
    manager.aspire(source.look(1.0), 1.0)
    assert [(action.model, action.version) for action in manager.step(1.0)] == [("other", 1)]
    assert manager.routes().models["kept"].default == 1
    error = manager.status()["kept"].error
    assert error is not None
    assert "what is loaded stays" in error.message


def test_another_version_still_takes_over(tmp_path: Path) -> None:
    source = KeepingSource(FoldersSource(tmp_path, settle=0.0), lambda _: True)
    publish(tmp_path / "m", 1, {"model.onnx": b"x"})
    source.look(0.0)
    withdraw(tmp_path / "m", 1)
    publish(tmp_path / "m", 2, {"model.onnx": b"x"})
    [found] = source.look(1.0)
    assert ([place.version for place in found.versions], found.error) == ([2], None)
