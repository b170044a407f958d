"""Models listed, loaded, unloaded and removed over HTTP and gRPC, one without the others."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import requests
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

import tiny_models
from archives import model_files, tar
from repository_calls import BINARY, ask, change, index, left_behind, put, url
from servable.server import ModelServer
from servable.server.model_list import ModelConfig, ModelList
from servable.settings import ServerSettings
from servers import DEFAULTS, eventually
from streams import Stream
from version_folders import publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import SimpleNamespace


# --- loaded and unloaded


def test_a_model_is_unloaded_and_loaded_without_the_others(
    writable: Callable[..., ModelServer], models: Path, tfs: SimpleNamespace
) -> None:
    server = writable()
    for name in ("a", "b"):
        assert put(server, name, 1, tar(model_files(1))).status_code == 200
    with Stream(server, "b", tfs, rest=1, rpc=1) as stream:
        stream.wait_for(1)
        assert change(server, "a", "unload", {"parameters": {"unload_dependents": False}}).status_code == 200
        assert ask(server, "a").status_code == 404
        assert requests.get(f"http://{server.addresses.rest}/readyz", timeout=10).status_code == 200
        # What comes meanwhile waits on the disk.
        assert put(server, "a", 2, tar(model_files(2))).json()["state"] is None
        assert ask(server, "a").status_code == 404
        assert change(server, "a", "load").status_code == 200
        assert ask(server, "a").json() == {"predictions": [[2.0]]}
    assert stream.failures == []
    assert change(server, "nobody", "load").status_code == 404
    assert change(server, "nobody", "unload").status_code == 404
    assert change(server, "..", "load").status_code == 404


def test_a_load_that_fails_says_why_and_is_tried_again(writable: Callable[..., ModelServer], models: Path) -> None:
    server = writable()
    assert put(server, "m", 1, tar({"model.onnx": b"no model"})).status_code == 400
    for _ in range(2):
        reply = change(server, "m", "load")
        assert (reply.status_code, "Version 1 of model m cannot be loaded" in reply.json()["error"]) == (400, True)


def test_a_model_that_failed_and_is_unloaded_or_removed_does_not_keep_the_server_from_being_ready(
    writable: Callable[..., ModelServer],
) -> None:
    server = writable()

    def readiness() -> int:
        return requests.get(f"http://{server.addresses.rest}/readyz", timeout=10).status_code

    for undo in (
        lambda: change(server, "m", "unload"),
        lambda: requests.delete(url(server, "/models/m"), timeout=10),
    ):
        requests.post(url(server, "/models/m/versions"), data=tar({"model.onnx": b"no"}), headers=BINARY, timeout=20)
        change(server, "m", "load")
        assert readiness() == 503
        assert undo().status_code == 200
        assert readiness() == 200


def test_parameters_that_are_not_known_are_refused(writable: Callable[..., ModelServer]) -> None:
    server = writable()
    assert put(server, "m", 1, tar(model_files(1))).status_code == 200
    wrong = ({"parameters": {"config": "{}"}}, {"parameters": 3}, {"parameters": {"unload_dependents": 1}}, [])
    for body in (*(json.dumps(each).encode() for each in wrong), b"{", b"\xff", b"[" * 100_000, b"[" * 60_000):
        reply = requests.post(url(server, "/models/m/load"), data=body, headers=BINARY, timeout=10)
        assert reply.status_code == 400, body[:100]


def test_to_load_a_version_pins_it(writable: Callable[..., ModelServer]) -> None:
    server = writable()
    for version in (1, 2):
        assert put(server, "m", version, tar(model_files(version))).status_code == 200
    assert change(server, "m", "versions/1/load").status_code == 200
    assert ask(server, "m").json() == {"predictions": [[1.0]]}
    about = requests.get(url(server, "/models/m"), timeout=10).json()
    assert (about["pinned"], about["default"]) == (1, 1)
    # A new version stays on the disk, and the pinned one there too.
    assert put(server, "m", 3, tar(model_files(3))).json()["state"] is None
    assert requests.delete(url(server, "/models/m/versions/1"), timeout=10).status_code == 400
    assert requests.delete(url(server, "/models/m/pin"), timeout=10).json()["was_pinned"] is True
    assert server.wait_for(lambda routes: routes.models["m"].default == 3)
    assert change(server, "m", "versions/9/load").status_code == 404


def test_the_index_tells_names_versions_states_and_reasons(writable: Callable[..., ModelServer]) -> None:
    server = writable()
    assert index(server) == []
    assert put(server, "good", 1, tar(model_files(1))).status_code == 200
    assert put(server, "bad", 1, tar({"model.onnx": b"no model"})).status_code == 400
    assert index(server) == [("bad", "1", "UNAVAILABLE"), ("good", "1", "READY")]
    assert index(server, ready=True) == [("good", "1", "READY")]
    reasons = {row["name"]: row["reason"] for row in requests.post(url(server, "/index"), timeout=10).json()}
    assert reasons["good"] == ""
    assert reasons["bad"]
    assert requests.post(url(server, "/index"), json={"ready": "yes"}, timeout=10).status_code == 400


# --- removed


def test_a_removed_version_gives_way_to_the_one_before(writable: Callable[..., ModelServer], models: Path) -> None:
    server = writable()
    for version in (1, 2):
        assert put(server, "m", version, tar(model_files(version))).status_code == 200
    reply = requests.delete(url(server, "/models/m/versions/2"), timeout=30)
    assert reply.json() == {"removed": {"model": "m", "version": 2}}
    assert server.wait_for(lambda routes: routes.models["m"].default == 1)
    assert requests.delete(url(server, "/models/m/versions/2"), timeout=30).status_code == 404
    assert requests.delete(url(server, "/models/m"), timeout=30).status_code == 200
    assert not (models / "m").exists()
    assert eventually(lambda: index(server) == [])
    assert ask(server, "m").status_code == 404
    assert requests.delete(url(server, "/models/m"), timeout=30).status_code == 404
    assert left_behind(models) == []


def test_what_a_link_leads_to_is_not_removed(
    writable: Callable[..., ModelServer], models: Path, tmp_path: Path
) -> None:
    publish_onnx(tmp_path / "elsewhere", 1, tiny_models.double())
    (models / "m").symlink_to(tmp_path / "elsewhere")
    server = writable()
    assert requests.delete(url(server, "/models/m"), timeout=30).status_code == 200
    assert (tmp_path / "elsewhere" / "1" / "model.onnx").exists()
    assert not (models / "m").exists()


# --- servers that were told of their models by name


@pytest.fixture
def named(tmp_path: Path) -> Iterator[ModelServer]:
    """A server of one model folder, `m`."""
    publish_onnx(tmp_path / "m", 1, tiny_models.double())
    with ExitStack() as running:
        server = ModelServer(tmp_path / "m", ServerSettings(**DEFAULTS, repository="write"))  # type: ignore[arg-type]
        running.enter_context(server)
        server.wait_until_ready(20)
        yield server


def test_a_server_of_one_model_takes_versions_of_it_alone(named: ModelServer) -> None:
    assert put(named, "m", 2, tar(model_files(2))).status_code == 200
    assert ask(named, "m").json() == {"predictions": [[2.0]]}
    reply = put(named, "other", 1, tar(model_files(2)))
    assert (reply.status_code, "takes no new models" in reply.json()["error"]) == (400, True)
    reply = requests.delete(url(named, "/models/m"), timeout=10)
    assert (reply.status_code, "was started with" in reply.json()["error"]) == (400, True)
    assert change(named, "m", "unload").status_code == 200
    assert ask(named, "m").status_code == 404


# --- the clients of others


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_tritons_client_lists_loads_and_unloads(writable: Callable[..., ModelServer], protocol: str) -> None:
    module = tritonclient.http if protocol == "rest" else tritonclient.grpc
    server = writable()
    assert put(server, "m", 1, tar(model_files(1))).status_code == 200
    address = server.addresses.rest if protocol == "rest" else server.addresses.grpc
    with module.InferenceServerClient(address) as client:

        def states() -> list[str]:
            if protocol == "rest":
                return [row["state"] for row in client.get_model_repository_index()]
            return [row.state for row in client.get_model_repository_index().models]

        assert states() == ["READY"]
        client.unload_model("m")
        assert not client.is_model_ready("m")
        assert eventually(lambda: states() == ["UNAVAILABLE"])
        client.load_model("m")
        assert client.is_model_ready("m")
        with pytest.raises(InferenceServerException, match="There is no model"):
            client.load_model("nobody")
        with pytest.raises(InferenceServerException, match="Unknown parameter"):
            client.load_model("m", config="{}")


def test_kserves_form_of_a_load_is_understood_too(
    writable: Callable[..., ModelServer], channel: Callable[..., Any]
) -> None:
    server = writable()
    assert put(server, "m", 1, tar(model_files(1))).status_code == 200
    service = channel(server)

    def call(verb: str, request: bytes) -> bytes:
        path = f"/inference.GRPCInferenceService/RepositoryModel{verb}"
        plain = {"request_serializer": lambda data: data, "response_deserializer": lambda data: data}
        return bytes(service.unary_unary(path, **plain)(request, timeout=10))

    named = b"\x0a\x01m"  # field 1: the name
    assert call("Unload", named) == named + b"\x10\x01"
    assert ask(server, "m").status_code == 404
    assert call("Load", named) == named + b"\x10\x01"
    assert ask(server, "m").status_code == 200
    with pytest.raises(grpc.RpcError) as caught:
        call("Load", b"\x12\x09m")
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_grpc_changes_nothing_where_http_may_not(
    start: Callable[..., ModelServer], models: Path, channel: Callable[..., Any]
) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    with tritonclient.grpc.InferenceServerClient(start().addresses.grpc) as client:
        assert [row.name for row in client.get_model_repository_index().models] == ["m"]
        with pytest.raises(InferenceServerException, match="lets nobody change"):
            client.unload_model("m")


def test_models_of_a_config_file_are_changed_one_by_one(tmp_path: Path) -> None:
    configs = []
    for name in ("a", "b"):
        publish_onnx(tmp_path / name, 1, tiny_models.double())
        configs.append(ModelConfig(name, tmp_path / name))
    settings = ServerSettings(**DEFAULTS, repository="write")  # type: ignore[arg-type]
    with ModelServer(ModelList(models=tuple(configs)), settings) as server:
        server.wait_until_ready(20)
        assert change(server, "a", "unload").status_code == 200
        assert (ask(server, "a").status_code, ask(server, "b").status_code) == (404, 200)
        # A new list does not bring back what was unloaded by name.
        server.reload(configs, wait=False)
        assert ask(server, "a").status_code == 404
        assert put(server, "b", 2, tar(model_files(2))).json()["state"] == "AVAILABLE"
        assert change(server, "a", "load").status_code == 200
        assert ask(server, "a").status_code == 200
        assert put(server, "c", 1, tar(model_files(2))).status_code == 400
