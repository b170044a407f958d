from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

import tiny_models
from servable.lifecycle import Aspired, FoldersSource
from servable.server.watch import Watcher
from version_folders import publish_onnx, withdraw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NEVER = 3600.0


class Reports:
    """What a watcher reported last, by model."""

    def __init__(self) -> None:
        self.count = 0
        self.last: dict[str, tuple[int, ...]] = {}
        self._changed = threading.Condition()

    def __call__(self, aspired: list[Aspired]) -> None:
        with self._changed:
            self.count += 1
            self.last = {each.model: tuple(place.version for place in each.versions) for each in aspired}
            self._changed.notify_all()

    def wait_for(self, expected: dict[str, tuple[int, ...]]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.last == expected, 20), self.last

    def wait_for_another(self) -> None:
        with self._changed:
            before = self.count
            assert self._changed.wait_for(lambda: self.count > before, 20)


@pytest.fixture
def watch(models: Path) -> Iterator[Callable[..., Reports]]:
    """Watches `models`; by events alone unless told otherwise."""
    watchers = []

    def start(source: Any = None, *, poll: float = NEVER, settle: float = 0.0) -> Reports:
        reports = Reports()
        source = source or FoldersSource(models, settle=settle)
        watchers.append(Watcher(source, [models], reports, poll_interval=poll, settle=settle))
        watchers[-1].start()
        return reports

    yield start
    for watcher in watchers:
        watcher.stop()


def wait_until_events_come(folder: Path, reports: Reports) -> None:
    """Touches a file until the watcher hears of it: file events begin a moment after the start."""
    before = reports.count
    pause = threading.Event()
    while reports.count == before:
        (folder / ".touched").write_text(str(pause.wait(0.01)))


def test_versions_that_come_and_go_are_seen_by_events(models: Path, watch: Callable[..., Reports]) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    reports = watch()
    reports.wait_for({"m": (1,)})
    wait_until_events_come(models, reports)
    publish_onnx(models / "m", 2, tiny_models.double())
    reports.wait_for({"m": (2,)})
    publish_onnx(models / "new", 1, tiny_models.double())
    reports.wait_for({"m": (2,), "new": (1,)})
    withdraw(models / "m", 2)
    reports.wait_for({"m": (1,), "new": (1,)})


def test_where_no_events_come_polling_finds_them(models: Path, watch: Callable[..., Reports], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    publish_onnx(elsewhere, 1, tiny_models.double())
    (models / "m").symlink_to(elsewhere)
    reports = watch(poll=0.05)
    reports.wait_for({"m": (1,)})
    publish_onnx(elsewhere, 2, tiny_models.double())
    reports.wait_for({"m": (2,)})


def test_a_version_that_settles_is_looked_at_again(models: Path, watch: Callable[..., Reports]) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    watch(settle=0.1).wait_for({"m": (1,)})


def test_a_fault_in_a_look_does_not_end_the_watching(
    models: Path, watch: Callable[..., Reports], caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty:
        looks = 0

        def look(self, now: float) -> list[Aspired]:
            self.looks += 1
            if self.looks == 1:
                raise RuntimeError("fault")
            return [Aspired("m")]

    watch(Faulty(), poll=0.02).wait_for({"m": ()})
    assert "The look at the models failed" in caplog.text


def test_looking_now_does_not_wait_for_the_poll(models: Path) -> None:
    reports = Reports()
    watcher = Watcher(FoldersSource(models, settle=0.0), [], reports, poll_interval=NEVER, settle=0.0)
    watcher.start()
    reports.wait_for({})
    publish_onnx(models / "m", 1, tiny_models.double())
    watcher.look_now()
    reports.wait_for({"m": (1,)})
    watcher.stop()


def test_who_does_not_follow_looks_once_and_when_told(models: Path) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    reports = Reports()
    source = FoldersSource(models, settle=0.0)
    watcher = Watcher(source, [models], reports, poll_interval=0.01, settle=0.0, follow=False)
    watcher.start()
    reports.wait_for({"m": (1,)})
    publish_onnx(models / "m", 2, tiny_models.double())
    assert reports.count == 1
    watcher.look_now()
    reports.wait_for({"m": (2,)})
    watcher.stop()
    assert reports.count == 2


def test_a_look_on_another_thread_sees_what_was_prepared_for_it(models: Path) -> None:
    reports = Reports()
    for number in (1, 2):
        publish_onnx(models / "m", number, tiny_models.double())
    watcher = Watcher(FoldersSource(models, settle=0.0), [], reports, poll_interval=NEVER, settle=0.0)
    watcher.look_at_once(lambda: withdraw(models / "m", 1))
    assert reports.last == {"m": (2,)}
    watcher.stop()


def test_a_folder_that_is_watched_from_later_on_is_seen_by_events(models: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    reports = Reports()
    watcher = Watcher(FoldersSource(other, settle=0.0), [models], reports, poll_interval=NEVER, settle=0.0)
    watcher.start()
    reports.wait_for({})
    watcher.watch([other])
    wait_until_events_come(other, reports)
    publish_onnx(other / "m", 1, tiny_models.double())
    reports.wait_for({"m": (1,)})
    watcher.stop()
