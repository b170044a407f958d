"""Whole swaps through the manager: availability, resource, fallbacks, removal, return, rollback."""

from __future__ import annotations

import pytest
from stepped import GiB, Stepped, aspired, place

from servable.lifecycle import SWAP_POLICIES, State

RESOURCE = SWAP_POLICIES["resource"]
AUTO = SWAP_POLICIES["auto"]
EVERY_POLICY = pytest.mark.parametrize("swap", SWAP_POLICIES.values(), ids=SWAP_POLICIES)


# --- availability


def test_availability_loads_the_new_version_before_it_unloads_the_old_one():
    m = Stepped()
    m.serve(1)
    m.want(2, fallbacks=(1,))
    assert m.take_log() == ["load m/2"]
    assert m.route().default == 1
    m.loaded(2)
    assert m.take_log() == ["unload m/1"]
    assert m.route().default == 2
    m.ended(1)
    assert m.states() == {2: State.AVAILABLE, 1: State.END}


def test_availability_never_holds_requests():
    m = Stepped()
    m.serve(1)
    for happens in (lambda: m.want(2), lambda: m.loaded(2), lambda: m.ended(1)):
        happens()
        assert not m.route().hold


def test_availability_keeps_the_last_available_version_while_nothing_wanted_is_available():
    m = Stepped()
    m.serve(1, 2)
    m.want(3)
    assert m.take_log() == ["unload m/1", "load m/3"], "one of the two goes, as in TensorFlow Serving"
    m.failed(3, permanent=True)
    assert m.take_log() == []
    assert m.route().default == 2


def test_nothing_aspired_unloads_everything_under_every_policy():
    for swap in SWAP_POLICIES.values():
        m = Stepped(swap)
        m.serve(1, 2)
        m.want()
        assert sorted(m.log) == ["unload m/1", "unload m/2"]
        assert not m.route().hold


# --- resource


def test_resource_ends_the_old_version_before_it_loads_the_new_one():
    m = Stepped(RESOURCE)
    m.serve(1)
    m.want(2, fallbacks=(1,))
    assert m.take_log() == ["unload m/1"]
    m.wait(10)
    assert m.take_log() == [], "the old one still drains"
    m.ended(1)
    assert m.take_log() == ["load m/2"]
    m.loaded(2)
    assert m.route().default == 2


def test_resource_holds_requests_from_the_unload_until_the_new_version_is_available():
    m = Stepped(RESOURCE)
    m.want(1)
    assert not m.route().hold, "a first load is no swap"
    m.loaded(1)
    assert not m.route().hold
    m.want(2)
    assert m.route().hold
    m.ended(1)
    assert m.route().hold
    m.loaded(2)
    assert not m.route().hold


def test_resource_holds_until_the_new_version_has_finally_failed_and_nothing_stands_in():
    m = Stepped(RESOURCE, max_load_retries=1)
    m.serve(1)
    m.want(2)
    m.ended(1)
    m.failed(2)
    m.failed(1, permanent=True)
    assert m.route().hold, "a retry is to come"
    m.wait(60)
    m.failed(2)
    assert not m.route().hold


def test_resource_brings_back_what_served_although_the_source_names_no_fallback():
    m = Stepped(RESOURCE)
    m.serve(3)
    m.want(1)  # a pin, for instance
    m.ended(3)
    m.want(1)
    m.take_log()
    m.failed(1, permanent=True)
    assert m.take_log() == ["load m/3"]
    m.loaded(3)
    assert (m.route().default, m.route().hold) == (3, False)


def test_resource_remembers_what_served_when_another_version_is_wanted_while_nothing_serves():
    m = Stepped(RESOURCE)
    m.serve(3)
    m.want(2)
    m.want(1)
    m.ended(3)
    m.take_log()
    m.failed(1, permanent=True)
    assert m.take_log() == ["load m/3"]


def test_resource_brings_the_version_before_back_when_the_new_one_fails():
    m = Stepped(RESOURCE)
    m.serve(1)
    m.want(2, fallbacks=(1,))
    m.ended(1)
    m.take_log()
    m.failed(2, permanent=True)
    assert m.take_log() == ["load m/1"]
    assert m.route().hold
    m.loaded(1)
    assert (m.route().default, m.route().hold) == (1, False)
    assert m.status(2).message == "version 2 is broken"


def test_resource_lets_the_version_before_serve_between_retries():
    m = Stepped(RESOURCE, max_load_retries=1, load_retry_interval=60)
    m.serve(1)
    m.want(2, fallbacks=(1,))
    m.ended(1)
    m.failed(2)
    m.loaded(1)
    assert m.route().default == 1
    m.take_log()
    m.wait(60)
    assert m.take_log() == ["unload m/1"]
    m.ended(1)
    m.loaded(2)
    assert m.route().default == 2
    assert m.log == ["load m/2"]


def test_resource_leaves_the_old_version_alone_while_no_place_is_free_for_the_new_one():
    m = Stepped(RESOURCE, max_concurrent_loads=1)
    m.serve(1)
    m.aspire(aspired(1), aspired(1, model="slow"))
    m.take_log()
    m.aspire(aspired(2), aspired(1, model="slow"))
    assert m.take_log() == []
    assert m.manager.next_wake(m.now) == 60.0
    m.loaded(1, model="slow")
    assert m.take_log() == ["unload m/1"]


def test_a_place_is_kept_for_a_model_that_holds_requests():
    m = Stepped(RESOURCE, max_concurrent_loads=1)
    m.serve(1)
    m.want(2)
    m.aspire(aspired(2), aspired(1, model="other"))
    m.take_log()
    assert ("other", 1) not in m.loader.loads
    m.ended(1)
    assert m.take_log() == ["load m/2"]
    m.loaded(2)
    assert m.take_log() == ["load other/1"]


def test_a_long_drain_does_not_keep_a_place_for_ever():
    m = Stepped(RESOURCE, max_concurrent_loads=1, slow_load=30)
    m.serve(1)
    m.want(2)
    m.aspire(aspired(2), aspired(1, model="other"))
    assert m.manager.next_wake(m.now) == 30.0
    m.wait(30)
    assert ("other", 1) in m.loader.loads


# --- auto


@pytest.mark.parametrize(("budget", "first"), [(250, "load m/2"), (200, "unload m/1")])
def test_auto_takes_availability_where_both_fit_and_resource_where_not(budget, first):
    m = Stepped(AUTO, memory_budget=budget)
    m.serve(1)
    m.want(2)
    assert m.log == [first]


def test_auto_without_a_budget_is_availability():
    m = Stepped(AUTO)
    m.want(place(1, disk=100 * GiB))
    m.loaded(1, footprint=1000 * GiB)
    m.take_log()
    m.want(place(2, disk=100 * GiB))
    assert m.log == ["load m/2"]


# --- fallback


@EVERY_POLICY
def test_at_start_up_the_version_before_serves_when_the_newest_is_broken(swap):
    m = Stepped(swap)
    m.want(3, fallbacks=(2, 1))
    m.failed(3, permanent=True)
    m.loaded(2)
    assert (m.route().default, m.log) == (2, ["load m/3", "load m/2"])
    assert m.status(3).state is State.END
    assert m.status(3).message == "version 3 is broken"


@EVERY_POLICY
def test_the_newest_fallback_that_has_not_failed_is_taken(swap):
    m = Stepped(swap)
    m.want(4, fallbacks=(3, 2, 1))
    m.failed(4, permanent=True)
    m.failed(3, permanent=True)
    m.failed(2, permanent=True)
    m.loaded(1)
    assert m.route().default == 1


@EVERY_POLICY
def test_a_fallback_stands_in_while_a_retry_is_awaited(swap):
    m = Stepped(swap, load_retry_interval=60)
    m.want(2, fallbacks=(1,))
    m.failed(2)
    m.loaded(1)
    assert m.route().default == 1
    m.wait(60)
    if ("m", 1) in m.loader.unloads:
        m.ended(1)
    m.loaded(2)
    assert m.route().default == 2


@EVERY_POLICY
def test_fallbacks_that_fail_for_a_time_are_not_tried_in_a_tight_circle(swap):
    m = Stepped(swap, max_load_retries=1, load_retry_interval=60)
    m.want(3, fallbacks=(2, 1))
    for version in (3, 2, 1):
        m.failed(version)
    assert m.log == ["load m/3", "load m/2", "load m/1"]
    assert m.manager.next_wake(m.now) == 60.0
    m.wait(60)
    for version in (3, 2, 1):
        m.failed(version)
    m.wait(1000)
    assert m.log == ["load m/3", "load m/2", "load m/1"] * 2
    assert not m.route().status.pending


@EVERY_POLICY
def test_a_fallback_is_unloaded_when_an_aspired_version_is_mended(swap):
    m = Stepped(swap)
    m.want(2, fallbacks=(1,))
    m.failed(2, permanent=True)
    m.loaded(1)
    m.want(place(2, look="mended"), fallbacks=(1,))
    if ("m", 1) in m.loader.unloads:
        m.ended(1)
    m.loaded(2)
    if ("m", 1) in m.loader.unloads:
        m.ended(1)
    assert m.states() == {2: State.AVAILABLE, 1: State.END}


def test_a_failed_version_does_not_take_the_old_one_down():
    for swap in SWAP_POLICIES.values():
        m = Stepped(swap, max_load_retries=0)
        m.serve(1)
        m.want(2, fallbacks=(1,))
        if ("m", 1) in m.loader.unloads:
            m.ended(1)
        m.failed(2)
        if ("m", 1) in m.loader.loads:
            m.loaded(1)
        assert m.route().default == 1
        assert m.states() == {2: State.END, 1: State.AVAILABLE}


def test_a_mended_fallback_may_stand_in_again():
    m = Stepped()
    m.want(2, fallbacks=(1,))
    m.failed(2, permanent=True)
    m.failed(1, permanent=True)
    m.want(2, fallbacks=(place(1, look="mended"),))
    m.loaded(1)
    assert m.route().default == 1


def test_a_version_that_failed_and_was_superseded_does_not_stand_in():
    m = Stepped()
    m.serve(1)
    m.want(2, fallbacks=(1,))
    m.failed(2, permanent=True)
    m.want(3, fallbacks=(2, 1))
    m.failed(3, permanent=True)
    assert not m.loader.loads
    assert m.route().default == 1


def test_without_fallbacks_a_broken_version_leaves_the_model_down():
    m = Stepped()
    m.want(2)
    m.failed(2, permanent=True)
    assert (m.route().default, m.route().status.pending) == (None, False)


# --- removal and return


@EVERY_POLICY
def test_removing_the_newest_version_brings_the_one_before_back(swap):
    m = Stepped(swap)
    m.serve(2)
    m.want(1)
    if ("m", 2) in m.loader.unloads:
        m.ended(2)
    m.loaded(1)
    assert m.route().default == 1


def test_a_version_removed_while_it_loads_is_unloaded_at_once_and_never_published():
    m = Stepped()
    m.want(1)
    m.want()
    assert m.take_log() == ["load m/1"]
    m.loaded(1)
    assert m.take_log() == ["unload m/1"]
    assert (m.route().default, m.states()) == (None, {1: State.UNLOADING})
    m.ended(1)
    assert m.states() == {1: State.END}


def test_a_version_superseded_while_it_loads_is_not_published_beside_the_one_that_serves():
    m = Stepped()
    m.serve(1)
    m.want(2, fallbacks=(1,))
    m.want(3, fallbacks=(2, 1))
    m.take_log()
    m.loaded(2)
    assert m.take_log() == ["unload m/2"]
    assert m.route().default == 1


def test_a_version_superseded_while_it_loads_serves_where_nothing_else_does():
    m = Stepped()
    m.want(2)
    m.want(3, fallbacks=(2,))
    m.loaded(2)
    assert m.route().default == 2
    m.loaded(3)
    assert (m.route().default, m.states()[2]) == (3, State.UNLOADING)


def test_a_version_removed_before_its_load_started_is_never_loaded():
    m = Stepped(max_concurrent_loads=1)
    m.want(1, 2)
    m.want(2)
    m.loaded(2)
    assert m.log == ["load m/2"]
    assert m.states() == {2: State.AVAILABLE, 1: State.END}


def test_a_version_removed_while_it_loads_and_back_before_it_is_done_is_kept():
    m = Stepped()
    m.want(1)
    m.want()
    m.want(1)
    m.loaded(1)
    assert m.log == ["load m/1"]
    assert m.route().default == 1


@EVERY_POLICY
def test_a_returning_version_waits_until_its_old_self_has_ended(swap):
    m = Stepped(swap)
    m.serve(1)
    m.want()
    m.want(1)
    assert m.log == ["unload m/1"]
    assert m.states() == {1: State.UNLOADING}
    m.ended(1)
    assert m.log == ["unload m/1", "load m/1"]
    assert m.loader.loads["m", 1].attempt == 1


def test_a_load_that_fails_after_the_version_was_removed_is_not_tried_again():
    m = Stepped()
    m.want(1)
    m.want()
    m.failed(1)
    m.wait(1000)
    assert m.log == ["load m/1"]
    assert (m.status(1).state, m.status(1).code) == (State.END, 14)


def test_rolling_back_and_forward_again_always_leaves_one_version_serving():
    m = Stepped()
    m.serve(2)
    m.want(1)
    m.loaded(1)
    m.want(2, fallbacks=(1,))
    assert m.route().default == 1
    m.ended(2)
    m.loaded(2)
    assert m.route().default == 2
    assert m.log == ["load m/1", "unload m/2", "load m/2", "unload m/1"]


@EVERY_POLICY
def test_versions_kept_by_the_policy_are_not_touched_by_a_swap(swap):
    m = Stepped(swap)
    m.serve(1, 2)
    m.want(3, 2, fallbacks=(1,))
    while m.loader.loads or m.loader.unloads:
        for _, version in list(m.loader.unloads):
            m.ended(version)
        for _, version in list(m.loader.loads):
            m.loaded(version)
    assert "unload m/2" not in m.log
    assert m.route().available == (3, 2)


def test_a_version_that_served_and_then_failed_with_other_files_is_not_tried_again_with_the_old_ones() -> None:
    m = Stepped(SWAP_POLICIES["resource"], max_load_retries=0)
    m.serve(2)
    m.want(3, fallbacks=(place(2, look="changed"),))
    m.ended(2)
    m.failed(3, permanent=True)
    m.failed(2, permanent=True)
    assert m.take_log() == ["unload m/2", "load m/3", "load m/2"]
    m.want(1)
    m.failed(1, permanent=True)
    assert m.take_log() == ["load m/1"]
