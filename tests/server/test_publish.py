from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from servable.lifecycle import Failure, ModelRoute, ModelStatus, Routes, State, VersionStatus
from servable.server.publish import batching, describe, first_load_is_over, not_ready
from servable.settings import PerModelSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable.engines.load import Loaded

FAILED = Failure(3, "no good")


def version(number: int, state: State = State.AVAILABLE, failure: Failure | None = None) -> VersionStatus:
    return VersionStatus(number, state, 0.0, failure)


def model(*versions: VersionStatus, pending: bool = False, error: Failure | None = None, **route: Any) -> ModelRoute:
    available = tuple(each.version for each in versions if each.state is State.AVAILABLE)
    fields = {"default": available[0] if available else None, "available": available, "labels": {}, "hold": False}
    return ModelRoute(**fields | route, status=ModelStatus(versions, pending, error))


def snapshot(routes: Routes, loaded: dict[tuple[str, int], Loaded], *, starting: bool = False) -> dict[str, Any]:
    return json.loads(describe(routes, loaded, lambda name, number: PerModelSettings(), starting=starting).description)


def test_a_snapshot_names_every_available_version_with_its_servable(loaded: Callable[..., Loaded]) -> None:
    one, two = loaded(), loaded()
    route = model(version(2), version(1), version(3, State.LOADING), labels={"stable": 1}, default=2)
    described = describe(
        Routes(1, {"m": route}), {("m", 1): one, ("m", 2): two}, lambda name, number: PerModelSettings(), starting=False
    )
    assert described.servables == {"m/1": one.servable, "m/2": two.servable}
    found = json.loads(described.description)["models"]["m"]
    assert (found["default"], found["labels"], found["hold"]) == (2, {"stable": 1}, False)
    assert {number: each["servable"] for number, each in found["versions"].items()} == {"1": "m/1", "2": "m/2"}
    assert [(each["version"], each["state"]) for each in found["status"]] == [
        (2, "AVAILABLE"),
        (1, "AVAILABLE"),
        (3, "LOADING"),
    ]


def test_an_error_is_told_of_a_version_that_does_not_answer(loaded: Callable[..., Loaded]) -> None:
    route = model(version(2, State.END, FAILED), version(1, State.AVAILABLE, FAILED))
    broken, mended = snapshot(Routes(1, {"m": route}), {("m", 1): loaded()})["models"]["m"]["status"]
    assert (broken["code"], broken["message"]) == (3, "no good")
    assert (mended["code"], mended["message"]) == (0, "")


@pytest.mark.parametrize(
    ("batch", "proven", "expected"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("on", False, True),
        ("on", True, True),
        ("off", True, False),
    ],
)
def test_batching_is_for_those_who_are_proven_or_asked_for_it(batch: str, proven: bool, expected: bool) -> None:
    assert (batching(PerModelSettings(batch=batch), batchable=proven) is not None) is expected


def test_batching_says_how() -> None:
    settings = PerModelSettings(
        batch="on", max_batch_rows=8, batch_timeout=0.002, allowed_batch_sizes=(4, 8), pad_batches=True
    )
    expected = {"max_rows": 8, "timeout_us": 2000, "allowed_sizes": [4, 8], "pad": True, "adaptive": False}
    expected |= {"max_request_rows": 0, "split": False}
    assert batching(settings, batchable=False) == expected


def test_a_server_is_not_ready_while_it_starts() -> None:
    found = snapshot(Routes(), {}, starting=True)
    assert (found["ready"], found["starting"]) == (False, True)
    assert found["reasons"]


def test_a_server_without_models_is_ready_once_it_has_looked() -> None:
    found = snapshot(Routes(), {})
    assert (found["ready"], found["starting"], found["reasons"]) == (True, False, [])


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        (model(version(1)), None),
        (model(version(2, State.END, FAILED), version(1)), None),
        (model(), None),
        (model(version(1, State.LOADING), pending=True), "m: no version is loaded yet"),
        (model(version(1, State.END, FAILED)), "m: version 1 failed to load: no good"),
        (model(error=FAILED), "m: no good"),
    ],
    ids=["serves", "serves an older one", "wants nothing", "loads", "failed", "cannot be looked at"],
)
def test_a_model_that_should_answer_and_does_not_keeps_from_ready(route: ModelRoute, reason: str | None) -> None:
    assert not_ready(Routes(1, {"m": route})) == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("route", "over"),
    [
        (model(version(1)), True),
        (model(), True),
        (model(version(1, State.END, FAILED)), True),
        (model(version(1, State.LOADING, FAILED), pending=True), True),
        (model(version(1, State.LOADING), pending=True), False),
    ],
    ids=["serves", "wants nothing", "failed", "tries again", "loads"],
)
def test_the_first_load_is_over_when_each_model_answers_or_has_failed_once(route: ModelRoute, over: bool) -> None:
    assert first_load_is_over(Routes(1, {"ok": model(version(1)), "m": route})) is over
