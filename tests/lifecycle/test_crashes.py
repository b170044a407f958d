"""What the manager does when the process that a version runs in ends by itself."""

from __future__ import annotations

from stepped import Stepped

from servable.lifecycle import State


def test_a_crashed_version_is_loaded_again_at_once() -> None:
    m = Stepped(load_retry_interval=60)
    m.serve(1)
    assert m.crashed(1)
    assert m.take_log() == ["load m/1"]
    status = m.status(1)
    assert (status.state, status.code, status.message) == (State.LOADING, 14, "version 1 crashed")
    assert m.route().unavailable == "version 1 crashed"
    m.loaded(1)
    assert (m.route().available, m.route().unavailable, m.status(1).failure) == ((1,), "", None)


def test_one_that_crashes_again_soon_waits_for_the_pause_between_tries() -> None:
    m = Stepped(load_retry_interval=60)
    m.serve(1)
    m.crashed(1)
    m.loaded(1)
    m.take_log()
    m.wait(1)
    m.crashed(1)
    assert m.take_log() == []
    assert m.status(1).state is State.LOADING
    m.wait(59)
    assert m.take_log() == ["load m/1"]


def test_one_that_held_for_long_is_loaded_at_once_however_often_it_crashed() -> None:
    m = Stepped(load_retry_interval=60)
    m.serve(1)
    for _ in range(3):
        m.crashed(1)
        assert m.take_log() == ["load m/1"]
        m.loaded(1)
        m.wait(60)


def test_while_another_version_answers_nothing_is_unavailable() -> None:
    m = Stepped()
    m.serve(1, 2)
    m.crashed(2)
    assert (m.route().default, m.route().unavailable) == (1, "")


def test_a_crash_during_an_unload_changes_nothing() -> None:
    m = Stepped()
    m.serve(1)
    m.want()
    assert not m.crashed(1)
    m.ended(1)
    assert m.states() == {1: State.END}


def test_a_version_that_cannot_be_loaded_again_is_not_there_any_more() -> None:
    m = Stepped(max_load_retries=0)
    m.serve(1)
    m.crashed(1)
    m.failed(1)
    assert m.states() == {1: State.END}
    assert m.route().unavailable == ""
