from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from servable.engines.native import run
from servable.errors import InvalidArgument
from servable.lifecycle import Aspired, Fingerprint, Load, Manager, ManagerSettings, Routes, State, VersionPath
from servable.server.driver import Driver
from servable.wire.tensors import as_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servable.engines.load import Loaded


class World:
    """A driver with everything that it published; loads do what the test says."""

    def __init__(self, loaded: Callable[..., Loaded]) -> None:
        self.routes = Routes()
        self.starting = True
        self.published = 0
        self.on_load: dict[str, Callable[[Load], None]] = {}
        self.on_publish: Callable[[Routes, Any], None] = lambda routes, loaded: None
        self._make = loaded
        self._changed = threading.Condition()
        manager = Manager(ManagerSettings(max_load_retries=0))
        self.driver = Driver(manager, self._load, self._publish)
        self.driver.start()

    def _load(self, action: Load) -> Loaded:
        self.on_load.get(action.model, lambda action: None)(action)
        return self._make()

    def _publish(self, routes: Routes, loaded: Any, starting: bool) -> None:
        self.on_publish(routes, loaded)
        with self._changed:
            self.routes, self.starting = routes, starting
            self.published += 1
            self._changed.notify_all()

    def aspire(self, *aspired: Aspired) -> None:
        self.driver.aspire(list(aspired), {})

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, 20), self.routes

    def serves(self, model: str, *versions: int) -> Callable[[], bool]:
        return lambda: model in self.routes.models and self.routes.models[model].available == versions

    def state(self, model: str, version: int) -> State | None:
        found = self.routes.models[model].status.versions if model in self.routes.models else ()
        return next((each.state for each in found if each.version == version), None)


@pytest.fixture
def world(loaded: Callable[..., Loaded]) -> Iterator[World]:
    world = World(loaded)
    yield world
    world.driver.stop()


def wanted(model: str, *versions: int, **others: Any) -> Aspired:
    places = tuple(VersionPath(each, Path(model) / str(each), Fingerprint(str(each))) for each in versions)
    return Aspired(model, places, **others)


def test_what_is_wanted_is_loaded_and_published(world: World) -> None:
    world.aspire(wanted("m", 1), wanted("other", 7))
    world.wait_for(world.serves("m", 1))
    world.wait_for(world.serves("other", 7))
    assert not world.starting


def test_a_new_version_is_published_before_the_old_one_is_unloaded(world: World) -> None:
    world.aspire(wanted("m", 1))
    world.wait_for(world.serves("m", 1))
    answers = []

    def ask_the_old_one(routes: Routes, loaded: Any) -> None:
        if routes.models["m"].available == (2,) and ("m", 1) in loaded:
            servable = loaded["m", 1].servable
            answers.append(run(servable, "serving_default", {"x": as_tensor(np.ones(1, np.float32))}))

    world.on_publish = ask_the_old_one
    world.aspire(wanted("m", 2))
    world.wait_for(lambda: world.state("m", 1) is State.END)
    assert world.serves("m", 2)()
    assert answers, "the old version still answered when the new routes were published"


def test_a_load_that_fails_is_told_and_the_old_version_stays(world: World) -> None:
    world.aspire(wanted("m", 1))
    world.wait_for(world.serves("m", 1))

    def refuse(action: Load) -> None:
        raise InvalidArgument("no good")

    world.on_load["m"] = refuse
    world.aspire(wanted("m", 2))
    world.wait_for(lambda: world.state("m", 2) is State.END)
    assert world.serves("m", 1)()
    [failed, _] = world.routes.models["m"].status.versions
    assert failed.failure.message == "no good"


def test_any_exception_of_a_load_is_a_failure_and_not_the_end(world: World) -> None:
    def break_down(action: Load) -> None:
        raise RuntimeError("unforeseen")

    world.on_load["m"] = break_down
    world.aspire(wanted("m", 1), wanted("other", 1))
    world.wait_for(lambda: world.state("m", 1) is State.END)
    world.wait_for(world.serves("other", 1))


def test_a_load_that_takes_long_holds_up_nobody_and_is_abandoned_at_the_end(world: World) -> None:
    begun, allowed = threading.Event(), threading.Event()

    def take_long(action: Load) -> None:
        begun.set()
        allowed.wait(60)

    world.on_load["slow"] = take_long
    world.aspire(wanted("slow", 1), wanted("m", 1))
    assert begun.wait(20)
    world.wait_for(world.serves("m", 1))
    assert world.starting, "the first load of a model is not over"
    world.driver.stop()
    allowed.set()


def test_nothing_is_published_where_nothing_has_changed(world: World) -> None:
    world.aspire(wanted("m", 1))
    world.wait_for(world.serves("m", 1))
    before = world.published
    for _ in range(5):
        world.aspire(wanted("m", 1))
    world.aspire(wanted("m", 1), wanted("new", 1))
    world.wait_for(world.serves("new", 1))
    revisions = world.published - before
    assert revisions <= 3, "seen, loading, available"


def test_the_start_is_not_over_while_the_first_version_is_being_copied(world: World) -> None:
    world.aspire(wanted("m", settling=(1,)), wanted("other", 1))
    world.wait_for(world.serves("other", 1))
    assert world.starting
    world.aspire(wanted("m", 1), wanted("other", 1))
    world.wait_for(world.serves("m", 1))
    assert not world.starting


def test_what_is_no_longer_wanted_is_unloaded(world: World) -> None:
    world.aspire(wanted("m", 1), wanted("other", 1))
    world.wait_for(world.serves("other", 1))
    world.aspire(wanted("m"), wanted("other", 1))
    world.wait_for(lambda: world.state("m", 1) is State.END)
    assert world.serves("other", 1)()


def test_stopping_unloads_everything(loaded: Callable[..., Loaded]) -> None:
    made = []

    def remember() -> Loaded:
        made.append(loaded())
        return made[-1]

    world = World(remember)
    world.aspire(wanted("m", 1), wanted("other", 1))
    world.wait_for(world.serves("m", 1))
    world.wait_for(world.serves("other", 1))
    world.driver.stop()
    assert len(made) == 2
    assert all(each.servable.wait_ended(0) for each in made)


def test_nobody_waits_for_routes_that_never_come(loaded: Callable[..., Loaded]) -> None:
    world = World(loaded)
    assert world.driver.aspire([], {}).wait(20)
    world.driver.stop()
    assert world.driver.aspire([], {}).wait(20)
