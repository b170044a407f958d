"""Random histories of several models in too little memory: what must hold after each step, and at rest."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from stepped import Stepped, aspired, place

from servable.lifecycle import SWAP_POLICIES, Load, State, Unload

NAMES = "abcde"
DISK = {"a": 50, "b": 75, "c": 100, "d": 150, "e": 200}  # each holds a fifth more
BUDGET = 300
INTERVAL = 60.0


class Histories(RuleBasedStateMachine):
    swap = "availability"

    @initialize()
    def start(self) -> None:
        self.m = Stepped(
            SWAP_POLICIES[self.swap],
            memory_budget=BUDGET,
            on_demand=True,
            load_retry_interval=INTERVAL,
            max_concurrent_loads=2,
        )
        self.wanted: dict[str, tuple[int, ...]] = dict.fromkeys(NAMES, (1,))
        self.demanded: set[str] = set()
        self.failed_for_good: set[tuple[str, int]] = set()
        obey = self.m.loader.obey

        def check_and_obey(action: Load | Unload) -> None:
            if isinstance(action, Unload):
                going = self.wanted.get(action.model, ())
                loading = {number for model, number in self.m.loader.loads if model == action.model}
                assert action.version not in going or not loading, f"{action} in the middle of a swap"
            obey(action)

        self.m.loader.obey = check_and_obey  # type: ignore[method-assign]
        self.tell()

    def tell(self) -> None:
        self.m.aspire(
            *(
                aspired(*(place(number, disk=DISK[name]) for number in numbers), model=name)
                for name, numbers in self.wanted.items()
            )
        )

    @rule(name=st.sampled_from(NAMES), number=st.integers(1, 3))
    def a_version_takes_the_place_of_another(self, name: str, number: int) -> None:
        if (name, number) not in self.failed_for_good:
            self.wanted[name] = (number,)
            self.tell()

    @rule(name=st.sampled_from("ab"))
    def two_versions_are_wanted(self, name: str) -> None:
        if not self.failed_for_good & {(name, 1), (name, 2)}:
            self.wanted[name] = (2, 1)
            self.tell()

    @rule(name=st.sampled_from(NAMES))
    def nothing_is_wanted_any_more(self, name: str) -> None:
        self.wanted[name] = ()
        self.demanded.discard(name)
        self.tell()

    @rule(name=st.sampled_from(NAMES))
    def a_request_waits(self, name: str) -> None:
        if self.m.route(name).hold and self.m.route(name).on_demand:
            self.demanded.add(name)
        self.m.demand(name)

    @rule(name=st.sampled_from(NAMES), idle=st.floats(0, 100), in_flight=st.integers(0, 1))
    def a_model_is_used(self, name: str, idle: float, in_flight: int) -> None:
        self.m.use(name, idle=idle, in_flight=in_flight)

    @precondition(lambda self: self.m.loader.loads)
    @rule(data=st.data())
    def a_load_succeeds(self, data: st.DataObject) -> None:
        name, number = data.draw(st.sampled_from(sorted(self.m.loader.loads)))
        self.load(name, number)

    def load(self, name: str, number: int) -> None:
        self.m.loaded(number, model=name, footprint=DISK[name] * 6 // 5)
        self.demanded.discard(name)

    @precondition(lambda self: self.m.loader.loads)
    @rule(data=st.data(), permanent=st.booleans())
    def a_load_fails(self, data: st.DataObject, permanent: bool) -> None:
        name, number = data.draw(st.sampled_from(sorted(self.m.loader.loads)))
        if permanent:
            self.failed_for_good.add((name, number))
        self.m.failed(number, model=name, permanent=permanent)
        if not self.m.route(name).hold:
            self.demanded.discard(name)  # those who wait are told

    @precondition(lambda self: self.m.loader.unloads)
    @rule(data=st.data())
    def an_unload_is_over(self, data: st.DataObject) -> None:
        name, number = data.draw(st.sampled_from(sorted(self.m.loader.unloads)))
        self.m.ended(number, model=name)

    @rule(seconds=st.sampled_from([1.0, 5.0, INTERVAL]))
    def time_passes(self, seconds: float) -> None:
        self.m.wait(seconds)

    @invariant()
    def the_budget_holds(self) -> None:
        loader = self.m.loader
        held = [name for name, _ in [*loader.loads, *loader.loaded, *loader.unloads]]
        assert sum(DISK[name] * 6 // 5 for name in held) <= BUDGET

    @invariant()
    def a_request_never_waits_for_nothing(self) -> None:
        for name in self.demanded:
            assert self.m.route(name).hold or self.m.route(name).failure

    @invariant()
    def no_version_is_lost(self) -> None:
        for name, numbers in self.wanted.items():
            assert set(numbers) <= self.m.states(name).keys()

    def teardown(self) -> None:
        if not hasattr(self, "m"):
            return
        for _ in range(300):
            for name, number in list(self.m.loader.unloads):
                self.m.ended(number, model=name)
            for name, number in list(self.m.loader.loads):
                self.load(name, number)
            wake = self.m.manager.next_wake(self.m.now)
            if wake is not None:
                self.m.wait(wake - self.m.now)
            elif not self.m.loader.loads and not self.m.loader.unloads:
                break
        else:
            pytest.fail("does not come to rest")
        self.check_rest()

    def check_rest(self) -> None:
        assert not {name for name in self.demanded if self.m.route(name).hold}, "somebody still waits"
        for name, numbers in self.wanted.items():
            route, good = self.m.route(name), {n for n in numbers if (name, n) not in self.failed_for_good}
            if route.available and good:
                assert set(route.available) == good
            elif good:
                assert set(route.on_demand) == good
            assert not numbers or State.LOADING not in self.m.states(name).values()


class Resource(Histories):
    swap = "resource"


SETTINGS = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestAvailability = Histories.TestCase
TestAvailability.settings = SETTINGS
TestResource = Resource.TestCase
TestResource.settings = SETTINGS
