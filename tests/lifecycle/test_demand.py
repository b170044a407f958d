"""Models in more memory than there is, stepped by hand. Every model holds 100 bytes, or what `disk` comes to."""

from __future__ import annotations

import pytest
from stepped import Stepped, aspired, place

from servable.lifecycle import SWAP_POLICIES, State


def on_demand(*models: str, budget: int = 250, disk: int = 80, **settings: object) -> Stepped:
    """All of these models are wanted; what fits of them is loaded and served."""
    stepped = Stepped(memory_budget=budget, on_demand=True, load_retry_interval=60.0, max_load_retries=0, **settings)
    stepped.aspire(*(aspired(place(1, disk=disk), model=name) for name in models))
    load_all(stepped)
    stepped.wait(10)
    stepped.take_log()
    return stepped


def load_all(stepped: Stepped) -> None:
    while stepped.loader.loads:
        model, version = min(stepped.loader.loads)
        stepped.loaded(version, model=model)


def test_models_are_loaded_while_they_fit_and_the_rest_waits_to_be_asked_for():
    m = on_demand("a", "b", "c")
    assert m.route("a").available == m.route("b").available == (1,)
    assert m.route("c").on_demand == (1,)
    assert m.route("c").hold
    assert m.states("c") == {1: State.START}
    assert m.status(1, "c").evicted
    assert not m.route("c").status.pending


def test_a_model_that_is_asked_for_takes_the_place_of_the_one_used_least_recently():
    m = on_demand("a", "b", "c")
    m.use("b", idle=5)
    m.use("a", idle=1)
    m.demand("c")
    assert m.take_log() == ["unload b/1"]
    m.ended(1, model="b")
    assert m.take_log() == ["load c/1"]
    m.loaded(1, model="c")
    assert m.route("c").available == (1,)
    assert m.route("b").on_demand == (1,)
    residence = m.route("b").status.residence
    assert (residence.evictions, residence.last_used) == (1, 5.0)
    assert m.route("c").status.residence.demand_loads == 1


def test_a_model_with_requests_in_flight_is_evicted_last():
    m = on_demand("a", "b", "c")
    m.use("a", idle=9, in_flight=1)
    m.use("b", idle=0)
    m.demand("c")
    assert m.take_log() == ["unload b/1"]


def test_an_idle_model_is_waited_for_rather_than_one_with_requests_in_flight_evicted():
    m = on_demand("a", "b", "c")
    m.demand("c")
    m.ended(1, model="a")
    m.loaded(1, model="c")
    m.use("b", idle=9, in_flight=1)
    m.take_log()
    m.demand("a")
    assert m.take_log() == []
    m.wait(3)
    assert m.take_log() == ["unload c/1"]


def test_requests_are_held_while_a_model_goes_and_comes():
    m = on_demand("a", "b", "c")
    m.demand("c")
    assert m.route("a").hold
    m.ended(1, model="a")
    assert m.route("c").hold
    assert not m.route("c").on_demand, "it is asked for already"
    m.loaded(1, model="c")
    assert not m.route("c").hold


def test_a_model_that_is_asked_for_while_it_is_drained_comes_back():
    m = on_demand("a", "b", "c")
    m.demand("c")
    m.demand("a")
    m.ended(1, model="a")
    m.loaded(1, model="c")
    m.wait(3)
    m.take_log()
    m.ended(1, model="b")
    assert m.take_log() == ["load a/1"]


def test_a_model_stays_for_a_while_before_it_is_evicted_again():
    m = on_demand("a", "b", budget=150, min_residence=3.0)
    m.demand("b")
    m.ended(1, model="a")
    m.loaded(1, model="b")
    m.take_log()
    m.demand("a")
    assert m.take_log() == []
    assert m.manager.next_wake(m.now) == m.now + 3
    m.wait(3)
    assert m.take_log() == ["unload b/1"]


def test_who_asks_first_is_served_first():
    m = on_demand("a", "b", "c", budget=120)
    m.demand("c")
    m.demand("b")
    m.ended(1, model="a")
    assert m.take_log() == ["unload a/1", "load c/1"]
    m.loaded(1, model="c")
    m.wait(3)
    m.ended(1, model="c")
    assert m.take_log() == ["unload c/1", "load b/1"]


def test_a_failed_load_is_told_to_those_who_wait_and_tried_again_only_later():
    m = on_demand("a", "b", budget=150)
    m.demand("b")
    m.ended(1, model="a")
    m.failed(1, model="b")
    route = m.route("b")
    assert not route.hold
    assert route.failure is not None
    assert route.retry_at == m.now + 60
    m.demand("b")
    m.wait(60)
    assert m.take_log() == ["unload a/1", "load b/1"]
    assert m.route("b").on_demand == (1,)
    m.demand("b")
    assert m.take_log() == ["load b/1"]


def test_a_load_that_cannot_help_is_tried_again_when_the_files_have_changed():
    m = on_demand("a", "b", budget=150)
    m.demand("b")
    m.ended(1, model="a")
    m.failed(1, model="b", permanent=True)
    m.wait(1000)
    assert not m.route("b").answers
    m.aspire(aspired(place(1, disk=80), model="a"), aspired(place(1, look="mended", disk=80), model="b"))
    assert m.route("b").on_demand == (1,)


def test_the_version_before_stands_in_where_the_new_one_fails():
    m = on_demand("a", budget=150)
    m.aspire(aspired(place(1, disk=80), model="a"), aspired(place(2), model="b", fallbacks=(1,)))
    m.demand("b")
    m.ended(1, model="a")
    m.failed(2, model="b", permanent=True)
    m.loaded(1, model="b")
    m.wait(3)
    m.demand("a")
    m.ended(1, model="b")
    assert m.route("b").on_demand == (1,)


def test_a_model_larger_than_the_budget_is_loaded_alone():
    m = on_demand("a", "b")
    m.aspire(*(aspired(place(1, disk=80), model=name) for name in "ab"), aspired(place(1, disk=900), model="huge"))
    m.demand("huge")
    m.ended(1, model="a")
    m.ended(1, model="b")
    assert m.take_log() == ["unload a/1", "unload b/1", "load huge/1"]
    m.loaded(1, model="huge", footprint=1000)
    assert any("memory_budget" in note for note in m.route("huge").status.notes)
    m.wait(3)
    m.demand("a")
    m.ended(1, model="huge")
    m.loaded(1, model="a")
    assert m.route("a").available == (1,)


def test_a_new_model_takes_nobodys_place():
    m = on_demand("a", "b")
    m.aspire(*(aspired(place(1, disk=80), model=name) for name in "abc"))
    assert m.take_log() == []
    assert m.route("c").on_demand == (1,)


def test_a_new_version_of_an_evicted_model_is_loaded_when_it_is_asked_for():
    m = on_demand("a", "b", "c")
    m.aspire(
        *(aspired(place(1, disk=80), model=name) for name in "ab"),
        aspired(place(2, disk=80), model="c", fallbacks=(place(1, disk=80),)),
    )
    assert m.take_log() == []
    assert m.route("c").on_demand == (2,)


def test_a_swap_takes_the_memory_of_a_model_that_is_used_less():
    m = on_demand("a", "b")
    m.use("a", idle=0)
    m.use("b", idle=5)
    m.aspire(aspired(place(2, disk=80), model="a"), aspired(place(1, disk=80), model="b"))
    assert m.take_log() == ["unload b/1"]
    m.ended(1, model="b")
    assert m.take_log() == ["load a/2"]
    m.loaded(2, model="a")
    assert m.take_log() == ["unload a/1"]


@pytest.mark.parametrize("swap", ["availability", "auto"])
def test_a_swap_takes_no_memory_of_a_model_that_is_used_more(swap: str):
    m = on_demand("a", "b", swap=SWAP_POLICIES[swap])
    m.use("a", idle=5)
    m.use("b", idle=0)
    m.aspire(aspired(place(2, disk=80), model="a"), aspired(place(1, disk=80), model="b"))
    assert m.take_log() == ["unload a/1"]
    m.ended(1, model="a")
    assert m.take_log() == ["load a/2"]


def test_all_versions_of_a_model_go_and_come_together():
    m = on_demand("a")
    m.aspire(aspired(place(1, disk=80), model="a"), aspired(place(2, disk=80), place(1, disk=80), model="pair"))
    assert m.route("pair").on_demand == (2, 1)
    m.demand("pair")
    m.ended(1, model="a")
    m.loaded(2, model="pair")
    m.loaded(1, model="pair")
    assert m.route("pair").available == (2, 1)
    m.wait(3)
    m.take_log()
    m.demand("a")
    assert sorted(m.take_log()) == ["unload pair/1", "unload pair/2"]
