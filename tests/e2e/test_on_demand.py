"""More models than there is memory for: they are loaded when a request asks for them, and no request fails."""

from __future__ import annotations

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import requests

from servable.lifecycle import State
from servers import eventually, metric
from version_folders import constant, publish_onnx, publish_python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import SimpleNamespace

    from gates import Gate
    from servable.server import ModelServer

    Start = Callable[..., ModelServer]

WEIGHTS = 500_000
SIZE = 4 * WEIGHTS
ROOM_FOR_TWO = int(2.9 * SIZE)
DEADLINE_S = 60


class Slow:
    """A version whose load waits until the test lets it go."""

    begun = threading.Event()
    allowed = threading.Event()

    @classmethod
    def load(cls) -> None:
        cls.begun.set()
        assert cls.allowed.wait(60)


@pytest.fixture
def slow() -> Iterator[type[Slow]]:
    Slow.begun.clear()
    Slow.allowed.clear()
    yield Slow
    Slow.allowed.set()


def url(server: ModelServer, path: str) -> str:
    return f"http://{server.addresses.rest}{path}"


def predict(server: ModelServer, model: str) -> requests.Response:
    body = {"instances": [[1, 2]]}
    return requests.post(url(server, f"/v1/models/{model}:predict"), json=body, timeout=DEADLINE_S)


def publish_models(models: Path, count: int) -> list[str]:
    """Models of 2 MB named m1, m2 ...; each answers with its number."""
    names = [f"m{number}" for number in range(1, count + 1)]
    for number, name in enumerate(names, 1):
        publish_onnx(models / name, 1, constant(number, weights=WEIGHTS))
    return names


def on_demand(start: Start, **settings: Any) -> ModelServer:
    return start(
        **{"on_demand": True, "memory_budget": ROOM_FOR_TWO, "min_residence": 0.05, "load_retries": 0} | settings
    )


def evicted(server: ModelServer) -> set[str]:
    return {name for name, route in server.routes.models.items() if route.status.residence.evicted}


def test_requests_for_more_models_than_fit_are_all_answered_within_the_budget(models: Path, start: Start) -> None:
    names = publish_models(models, 5)
    server = on_demand(start)
    assert len(evicted(server)) == 3
    most = 0
    watching = threading.Event()

    def watch() -> None:
        nonlocal most
        while not watching.is_set():
            most = max(most, server.metrics().count("\nservable_replica_memory_bytes{"))

    def ask(seed: int) -> list[Any]:
        order, until, found = random.Random(seed), time.monotonic() + 3, []
        while time.monotonic() < until:
            number = order.randrange(5)
            answer = predict(server, names[number])
            if answer.status_code != 200 or answer.json() != {"predictions": [[number + 1]]}:
                found.append((names[number], answer.status_code, answer.text))
        return found

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(6) as pool:
        failed = [failure for failures in pool.map(ask, range(6)) for failure in failures]
    watching.set()
    watcher.join()
    assert not failed, failed[:3]
    assert most <= 2
    assert metric(server, "servable_evictions_total") > 5
    assert metric(server, "servable_demand_loads_total") > 5
    assert metric(server, "servable_held_seconds_count") > 5


def test_an_evicted_model_is_ready_and_without_error_in_every_status(models: Path, start: Start) -> None:
    publish_models(models, 3)
    server = on_demand(start, repository="read")
    (name,) = evicted(server)
    assert requests.get(url(server, "/readyz"), timeout=10).status_code == 200
    assert requests.get(url(server, f"/v2/models/{name}/ready"), timeout=10).status_code == 200
    status = requests.get(url(server, f"/v1/models/{name}"), timeout=10).json()
    assert status["model_version_status"] == [
        {"version": "1", "state": "START", "status": {"error_code": "OK", "error_message": ""}}
    ]
    index = requests.post(url(server, "/v2/repository/index"), json={}, timeout=10).json()
    row = next(each for each in index if each["name"] == name)
    assert row["state"] == "UNAVAILABLE"
    assert row["reason"].startswith("UNLOADED, evicted")
    assert metric(server, "servable_model_evicted", model=name) == 1
    note = next(each.note for each in server.report().versions if each.model == name)
    assert note == "evicted, not used yet"


def test_a_request_for_a_version_that_there_is_not_loads_nothing(models: Path, start: Start) -> None:
    publish_models(models, 3)
    server = on_demand(start)
    (name,) = evicted(server)
    answer = requests.post(
        url(server, f"/v1/models/{name}/versions/7:predict"), json={"instances": [[1, 2]]}, timeout=10
    )
    assert answer.status_code == 404
    assert evicted(server) == {name}


def test_those_who_wait_are_told_at_once_that_the_load_failed(models: Path, start: Start) -> None:
    publish_models(models, 2)
    publish_python(models / "z", 1, "raise ConnectionError('no store')\n" + "#" * SIZE)
    server = on_demand(start)
    began = time.monotonic()
    answer = predict(server, "z")
    assert time.monotonic() - began < 20
    assert answer.status_code == 503
    assert "no store" in answer.json()["error"]
    assert requests.get(url(server, "/readyz"), timeout=10).status_code == 200
    publish_onnx(models / "z", 2, constant(26))
    assert server.wait_for(lambda routes: routes.models["z"].on_demand == (2,), 20)
    assert predict(server, "z").json() == {"predictions": [[26.0]]}


def test_a_deadline_that_is_shorter_than_the_load_ends_the_request_and_not_the_load(
    models: Path, start: Start, slow: type[Slow], gate: Gate, tfs: SimpleNamespace
) -> None:
    publish_models(models, 2)
    gate.open()
    source = f"import test_on_demand\ntest_on_demand.Slow.load()\n{gate.source}"
    publish_python(models / "z", 1, source + "#" * SIZE)
    server = on_demand(start)
    assert evicted(server) == {"z"}
    request = tfs.predict.PredictRequest()
    request.model_spec.name = "z"
    request.inputs["x"].CopyFrom(tfs.floats([[1.0, 2.0]]))
    with grpc.insecure_channel(server.addresses.grpc) as channel:
        stub = tfs.prediction(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(request, timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert slow.begun.wait(20)
        slow.allowed.set()
        assert list(stub.Predict(request, timeout=30).outputs["y"].float_val) == [2.0, 4.0]
    assert server.routes.models["z"].status.residence.demand_loads == 1


def test_requests_that_wait_for_a_load_are_bounded(models: Path, start: Start, slow: type[Slow], gate: Gate) -> None:
    publish_models(models, 2)
    gate.open()
    source = f"import test_on_demand\ntest_on_demand.Slow.load()\n{gate.source}"
    publish_python(models / "z", 1, source + "#" * SIZE)
    server = on_demand(start, max_held_requests=2)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(predict, server, "z") for _ in range(4)]
        assert eventually(lambda: sum(each.done() for each in waiting) == 2)
        slow.allowed.set()
        assert sorted(each.result().status_code for each in waiting) == [200, 200, 429, 429]


def test_a_model_with_requests_in_flight_is_evicted_last_and_they_are_finished(
    models: Path, start: Start, gate: Gate
) -> None:
    publish_python(models / "a", 1, gate.source + "#" * SIZE)
    publish_models(models, 2)
    server = on_demand(start)
    assert evicted(server) == {"m2"}
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(predict, server, "a")
        gate.wait_for_a_call()
        assert predict(server, "m1").status_code == 200
        assert predict(server, "m2").status_code == 200
        assert evicted(server) == {"m1"}, "used later than a, but not in use"
        gate.open()
        assert running.result().json() == {"predictions": [[2.0, 4.0]]}


def test_the_only_model_that_can_make_room_finishes_its_requests_first(models: Path, start: Start, gate: Gate) -> None:
    publish_python(models / "a", 1, gate.source + "#" * SIZE)
    publish_models(models, 1)
    server = on_demand(start, memory_budget=int(1.5 * SIZE))
    assert evicted(server) == {"m1"}
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(predict, server, "a")
        gate.wait_for_a_call()
        waiting = pool.submit(predict, server, "m1")
        assert server.wait_for(lambda routes: not routes.models["a"].available, 20)
        assert not waiting.done()
        gate.open()
        assert running.result().json() == {"predictions": [[2.0, 4.0]]}
        assert waiting.result().json() == {"predictions": [[1.0]]}


def test_a_model_that_a_client_loads_by_name_is_loaded_though_another_has_to_go(models: Path, start: Start) -> None:
    publish_models(models, 3)
    server = on_demand(start, repository="write")
    (name,) = evicted(server)
    answer = requests.post(url(server, f"/v2/repository/models/{name}/load"), json={}, timeout=30)
    assert answer.status_code == 200, answer.text
    assert name not in evicted(server)
    answer = requests.post(url(server, f"/v2/repository/models/{name}/unload"), json={}, timeout=30)
    assert answer.status_code == 200, answer.text
    assert predict(server, name).status_code == 404


def test_a_new_version_takes_over_while_other_models_come_and_go(models: Path, start: Start) -> None:
    names = publish_models(models, 4)
    server = on_demand(start)
    stopping = threading.Event()
    failed: list[str] = []

    def ask(seed: int) -> None:
        order = random.Random(seed)
        while not stopping.is_set():
            answer = predict(server, order.choice(names))
            if answer.status_code != 200:
                failed.append(answer.text)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    publish_onnx(models / "m1", 2, constant(11, weights=WEIGHTS))
    took_over = eventually(lambda: predict(server, "m1").json() == {"predictions": [[11.0]]})
    stopping.set()
    for thread in threads:
        thread.join()
    assert took_over
    assert not failed, failed[:3]
    versions = server.routes.models["m1"].status.versions
    assert json.dumps([each.version for each in versions if each.state is not State.END]) == "[2]"
