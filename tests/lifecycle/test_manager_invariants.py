"""Random histories of wishes, loads, failures, unloads and time: what must hold after each step, and at rest."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from stepped import Stepped, place

from servable.lifecycle import SWAP_POLICIES, Load, State, Unload

VERSIONS = range(1, 6)
RETRIES, INTERVAL = 1, 60.0


class Histories(RuleBasedStateMachine):
    """One model. Every history is also brought to rest at its end."""

    swap = "availability"
    max_wanted = 3
    budget: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.wanted: tuple[int, ...] = ()
        self.fallbacks: tuple[int, ...] = ()
        self.looks = dict.fromkeys(VERSIONS, 0)
        self.told = dict.fromkeys(VERSIONS, 0)
        self.tried: dict[int, int] = {}
        self.finally_failed: dict[int, int] = {}
        self.served = False

    @initialize()
    def start(self) -> None:
        self.m = Stepped(
            SWAP_POLICIES[self.swap],
            max_load_retries=RETRIES,
            load_retry_interval=INTERVAL,
            memory_budget=self.budget,
        )
        obey = self.m.loader.obey

        def check_and_obey(action: Load | Unload) -> None:
            if isinstance(action, Load):
                # The manager cannot know of changes to files that no source has named since.
                look = self.told[action.version]
                assert self.finally_failed.get(action.version) != look, f"{action} had finally failed"
                self.tried[action.version] = look
            obey(action)

        self.m.loader.obey = check_and_obey  # type: ignore[method-assign]
        self.tell()

    def tell(self) -> None:
        self.told |= {number: self.looks[number] for number in (*self.wanted, *self.fallbacks)}
        versions = [place(number, look=str(self.looks[number])) for number in self.wanted]
        spare = [place(number, look=str(self.looks[number])) for number in self.fallbacks]
        self.m.want(*versions, fallbacks=tuple(spare))

    @rule(data=st.data())
    def the_wish_changes(self, data: st.DataObject) -> None:
        wanted = data.draw(st.sets(st.sampled_from(VERSIONS), max_size=self.max_wanted), label="wanted")
        lower = [number for number in VERSIONS if not wanted or number < min(wanted)]
        spare = data.draw(st.sets(st.sampled_from(lower)), label="fallbacks") if lower and wanted else set()
        for number in wanted - set(self.wanted):
            self.finally_failed.pop(number, None)
        self.wanted = tuple(sorted(wanted, reverse=True))
        self.fallbacks = tuple(sorted(spare, reverse=True))
        self.tell()

    @rule(number=st.sampled_from(VERSIONS))
    def somebody_changes_the_files(self, number: int) -> None:
        self.looks[number] += 1
        self.tell()

    @precondition(lambda self: self.m.loader.loads)
    @rule(data=st.data())
    def a_load_succeeds(self, data: st.DataObject) -> None:
        _, number = data.draw(st.sampled_from(sorted(self.m.loader.loads)))
        self.m.loaded(number)

    @precondition(lambda self: self.m.loader.loads)
    @rule(data=st.data(), permanent=st.booleans())
    def a_load_fails(self, data: st.DataObject, permanent: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.m.loader.loads)))
        if permanent or self.m.loader.loads[key].attempt > RETRIES:
            self.finally_failed[key[1]] = self.tried[key[1]]
        self.m.failed(key[1], permanent=permanent)

    @precondition(lambda self: self.m.loader.loaded)
    @rule(data=st.data())
    def a_version_crashes(self, data: st.DataObject) -> None:
        _, number = data.draw(st.sampled_from(sorted(self.m.loader.loaded)))
        assert self.m.crashed(number)
        self.served = False

    @precondition(lambda self: self.m.loader.unloads)
    @rule(data=st.data())
    def an_unload_is_over(self, data: st.DataObject) -> None:
        _, number = data.draw(st.sampled_from(sorted(self.m.loader.unloads)))
        self.m.ended(number)

    @rule(seconds=st.sampled_from([1.0, INTERVAL]))
    def time_passes(self, seconds: float) -> None:
        self.m.wait(seconds)

    @invariant()
    def what_is_published_is_what_is_loaded(self) -> None:
        route = self.m.route()
        assert {("m", number) for number in route.available} == self.m.loader.loaded
        loading = {number for _, number in self.m.loader.loads}
        assert {s.version for s in route.status.versions if s.state is State.UNLOADING} == {
            number for _, number in self.m.loader.unloads
        }
        assert loading <= {s.version for s in route.status.versions if s.state is State.LOADING}

    @invariant()
    def the_default_is_available_and_aspired_if_one_can_be(self) -> None:
        route = self.m.route()
        good = [number for number in route.available if number in self.wanted] or route.available
        assert route.default == max(good, default=None)

    @invariant()
    def requests_are_held_only_while_something_is_to_come(self) -> None:
        route = self.m.route()
        assert not (route.hold and route.available)
        assert not route.hold or route.status.pending

    @invariant()
    def a_model_that_is_wanted_does_not_stop_to_serve(self) -> None:
        serves = bool(self.m.route().available)
        if self.swap == "availability" and self.wanted and self.served:
            assert serves
        self.served = serves

    @invariant()
    def resource_has_one_version_in_memory(self) -> None:
        loader = self.m.loader
        if self.swap == "resource" and self.max_wanted == 1:
            assert len(loader.loads) + len(loader.loaded) + len(loader.unloads) <= 1

    def teardown(self) -> None:
        if hasattr(self, "m"):
            self.come_to_rest()
            self.check_rest()

    def come_to_rest(self) -> None:
        for _ in range(100):
            loader = self.m.loader
            for _, number in list(loader.unloads):
                self.m.ended(number)
            for _, number in list(loader.loads):
                self.m.loaded(number)
            wake = self.m.manager.next_wake(self.m.now)
            if wake is not None:
                self.m.wait(wake - self.m.now)
            elif not loader.loads and not loader.unloads:
                return
        pytest.fail("does not come to rest")

    def check_rest(self) -> None:
        route = self.m.route()
        failed = {number for number, look in self.finally_failed.items() if look == self.looks[number]}
        good = set(self.wanted) - failed
        assert not route.hold
        assert not route.status.pending
        if good or not self.wanted:
            assert set(route.available) == good
        else:
            assert len(route.available) <= 1
            assert route.available or not set(self.fallbacks) - failed


class Resource(Histories):
    swap = "resource"
    max_wanted = 1


class ResourceOfMany(Histories):
    swap = "resource"


class Auto(Histories):
    swap = "auto"
    budget = 350


SETTINGS = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestAvailability = Histories.TestCase
TestAvailability.settings = SETTINGS
TestResource = Resource.TestCase
TestResource.settings = SETTINGS
TestResourceOfMany = ResourceOfMany.TestCase
TestResourceOfMany.settings = SETTINGS
TestAuto = Auto.TestCase
TestAuto.settings = SETTINGS
