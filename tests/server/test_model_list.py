from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from servable.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument
from servable.lifecycle import Failure, ModelRoute, ModelStatus, Routes, State, VersionStatus
from servable.server import ModelServer
from servable.server.model_list import (
    MAX_MODELS,
    Looks,
    ModelConfig,
    ModelList,
    check_labels,
    check_models,
    failures,
    unavailable_message,
)
from servable.settings import ServerSettings
from servers import DEFAULTS
from version_folders import constant, publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def serve(models: Path) -> Iterator[Callable[..., ModelServer]]:
    """`serve("a", "b", **options)`: a server of a list of models in the folder `models`."""
    servers: list[ModelServer] = []

    def start(*names: str, looks: Looks = Looks.FOLLOW, wait_for_all: bool = False) -> ModelServer:
        listed = ModelList(models=configs(models, *names), looks=looks, wait_for_all=wait_for_all)
        servers.append(ModelServer(listed, ServerSettings(**DEFAULTS)))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def configs(folder: Path, *names: str) -> tuple[ModelConfig, ...]:
    return tuple(ModelConfig(name, folder / name) for name in names)


def route(*versions: VersionStatus, pending: bool = False) -> ModelRoute:
    available = tuple(each.version for each in versions if each.state is State.AVAILABLE)
    return ModelRoute(None, available, {}, hold=False, status=ModelStatus(versions, pending))


def status(number: int, state: State, failure: Failure | None = None) -> VersionStatus:
    return VersionStatus(number, state, 0.0, failure)


@pytest.mark.parametrize(
    ("models", "complaint"),
    [
        (configs(Path("/m"), "a", "a"), "Illegal to list model a multiple times in config list"),
        (configs(Path("m"), "a"), "absolute path"),
        ((ModelConfig("", Path("/m")),), "no name"),
        ((ModelConfig("a", Path("/m"), platform="torch"),), "Model a requests unsupported platform torch"),
        (configs(Path("/m"), *map(str, range(MAX_MODELS + 1))), "the limit is"),
    ],
)
def test_a_list_that_cannot_be_served_is_refused(models: tuple[ModelConfig, ...], complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        check_models(models)


@pytest.mark.parametrize(
    ("before", "version", "allow", "fine"),
    [
        ({}, 1, False, True),
        ({}, 2, False, False),
        ({}, 2, True, True),
        ({"stable": 2}, 2, True, True),
        ({"stable": 1}, 2, True, False),
        ({"stable": 2}, 1, True, True),
    ],
)
def test_a_label_may_name_what_answers_or_with_leave_what_is_to_come(
    before: dict[str, int], version: int, allow: bool, fine: bool
) -> None:
    routes = Routes(1, {"a": route(status(1, State.AVAILABLE))})
    old = {"a": ModelConfig("a", Path("/a"), labels=before)}
    new = [ModelConfig("a", Path("/a"), labels={"stable": version})]
    if fine:
        check_labels(new, old, routes, allow_unavailable=allow)
        return
    with pytest.raises(FailedPrecondition, match="Request to assign label to version 2 of model a, which is not"):
        check_labels(new, old, routes, allow_unavailable=allow)


def test_a_model_has_failed_when_nothing_of_it_answers_or_may_come() -> None:
    failure = Failure(5, "gone")
    routes = Routes(
        1,
        {
            "failed": route(status(1, State.END, failure)),
            "trying": route(status(1, State.LOADING, failure), pending=True),
            "serving": route(status(2, State.END, failure), status(1, State.AVAILABLE)),
            "empty": route(),
        },
    )
    assert failures([*routes.models, "unknown"], routes) == {"failed": (1, failure)}
    assert failures(["failed"], routes, arriving=["failed"]) == {}


def test_the_message_lists_every_model_that_failed() -> None:
    failed = {"a": (1, Failure(5, "no file")), "b": (2, Failure(99, "odd"))}
    assert unavailable_message("model", failed) == (
        "2 model(s) did not become available: {{name: a version: 1} due to error: NOT_FOUND: no file}, "
        "{name: b version: 2} due to error: UNKNOWN: odd}, }"
    )


def test_a_reload_waits_for_new_models_only_as_long_as_it_may(serve: Callable[..., ModelServer], models: Path) -> None:
    publish_onnx(models / "a", 1, constant(1))
    (models / "b").mkdir()
    server = serve("a")
    server.wait_until_ready(20)
    with pytest.raises(DeadlineExceeded, match=r"after 0\.1 s: b"):
        server.reload(configs(models, "a", "b"), timeout=0.1)
    publish_onnx(models / "b", 1, constant(2))
    assert server.wait_for(lambda routes: "b" in routes.models and routes.models["b"].available == (1,), 20)


def test_a_model_that_leaves_the_list_is_unloaded_and_may_come_back(
    serve: Callable[..., ModelServer], models: Path
) -> None:
    for name in ("a", "b"):
        publish_onnx(models / name, 1, constant(1))
    server = serve("a", "b")
    server.wait_until_ready(20)
    for _ in range(3):
        server.reload(configs(models, "a"))
        assert server.wait_for(lambda routes: not routes.models["b"].available, 20)
        server.reload(configs(models, "a", "b"))
        assert server.routes.models["b"].available == (1,)


def test_who_waits_for_a_list_hears_when_another_one_replaces_it(
    serve: Callable[..., ModelServer], models: Path
) -> None:
    publish_onnx(models / "a", 1, constant(1))
    (models / "b").mkdir()
    server = serve("a")
    server.wait_until_ready(20)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.reload, configs(models, "a", "b"))
        assert server.wait_for(lambda routes: "b" in routes.models, 20)
        server.reload(configs(models, "a"))
        with pytest.raises(FailedPrecondition, match="Another list"):
            waiting.result(20)


def test_a_server_of_folders_has_no_list(models: Path) -> None:
    server = ModelServer(models, ServerSettings(**DEFAULTS))
    with pytest.raises(FailedPrecondition, match="follows folders"):
        server.reload([])


def test_the_start_is_over_when_every_model_answers(serve: Callable[..., ModelServer], models: Path) -> None:
    publish_onnx(models / "a", 1, constant(1))
    (models / "b").mkdir()
    server = serve("a", "b", wait_for_all=True)
    assert server.wait_for(lambda routes: "a" in routes.models and routes.models["a"].available == (1,), 20)
    assert server.report().starting
    publish_onnx(models / "b", 1, constant(1))
    server.wait_until_ready(20)


def test_who_is_told_never_to_look_loads_nothing(serve: Callable[..., ModelServer], models: Path) -> None:
    publish_onnx(models / "a", 1, constant(1))
    server = serve("a", looks=Looks.NEVER)
    server.reload(configs(models, "a", "b"), wait=False)
    assert not server.routes.models
    assert server.report().starting
