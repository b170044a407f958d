"""A server whose models are in buckets: it follows them as it follows folders."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import servable
from servable.client import Client
from servable.errors import NotFound, ServableError, Unavailable
from servable.lifecycle import Latest, Routes
from servable.server.model_list import Looks, ModelConfig, ModelList
from servable.settings import ServerSettings
from servable.storage import stores
from servable.storage.uri import BucketUri
from servers import DEFAULTS, eventually
from version_folders import constant, publish_onnx

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bucket_server import BucketServer
    from servable.server import ModelServer

ROWS = np.zeros((1, 2), np.float32)


def save(value: float, uri: str = "s3://models/vision/digits", **options: Any) -> servable.Version:
    return servable.save(constant(value), uri, examples={"x": ROWS}, **options)


@contextmanager
def following(models: Any, *, ready: bool = True, **settings: Any) -> Iterator[ModelServer]:
    values = ServerSettings(**DEFAULTS | {"bucket_poll_interval": 0.05} | settings)
    with servable.ModelServer(models, values) as server:
        if ready:
            server.wait_until_ready(20)
        yield server


def answers(server: ModelServer, value: float, model: str = "digits") -> bool:
    """Whether a model comes to answer with this value."""

    def does(_: Routes) -> bool:
        route = server.routes.models.get(model)
        return bool(route and route.available)

    def asked() -> bool:
        with Client(f"http://{server.addresses.rest}") as client:
            return float(np.ravel(client.predict(model, ROWS))[0]) == value

    return server.wait_for(does, 20) and eventually(asked)


def remarks(server: ModelServer, model: str = "digits") -> str:
    rows = [row for row in server.report().versions if row.model == model]
    return "\n".join(row.note for row in rows)


def remove(bucket: BucketServer, prefix: str) -> None:
    for name in bucket.names(prefix):
        del bucket.objects[f"{prefix}/{name}"]


def damage(bucket: BucketServer, name: str) -> None:
    bucket.objects[name] = bucket.objects[name][:-1] + b"?"


@pytest.fixture(autouse=True)
def few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stores._RETRIES, "max_retries", 0)


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_folder_of_models_in_a_bucket_is_served_and_followed(bucket: BucketServer, scheme: str) -> None:
    save(1, f"{scheme}://models/vision/digits")
    save(5, f"{scheme}://models/vision/wine")
    with following(f"{scheme}://models/vision") as server:
        assert answers(server, 1)
        assert answers(server, 5, "wine")
        save(2, f"{scheme}://models/vision/digits")
        assert answers(server, 2)
        save(7, f"{scheme}://models/vision/new")
        assert answers(server, 7, "new")


def test_a_version_removed_from_the_bucket_gives_way_to_the_one_before(bucket: BucketServer) -> None:
    save(1)
    save(2)
    with following("s3://models/vision/digits") as server:
        assert answers(server, 2)
        remove(bucket, "models/vision/digits/2")
        assert answers(server, 1)
        remove(bucket, "models/vision/digits/1")
        assert server.wait_for(lambda routes: not routes.models["digits"].available, 20)


def test_only_what_is_wanted_is_downloaded(bucket: BucketServer, tmp_path: Path) -> None:
    for value in range(5):
        save(value)
    bucket.requests.clear()
    with following({"digits": "s3://models/vision/digits"}, cache=str(tmp_path / "other")) as server:
        assert answers(server, 4)
    assert {line.split("/")[4] for line in bucket.requests if line.endswith("model.onnx")} == {"5"}


def test_labels_policy_and_pin_come_from_the_bucket_too(bucket: BucketServer) -> None:
    for value in (1, 2, 3):
        save(value)
    bucket.objects["models/vision/digits/servable.toml"] = b'version_policy = "latest:2"\nlabels = { stable = 2 }\n'
    with following("s3://models/vision") as server:
        assert server.wait_for(lambda routes: set(routes.models["digits"].available) == {2, 3}, 20)
        assert dict(server.routes.models["digits"].labels) == {"stable": 2}
        bucket.objects["models/vision/digits/.servable/pin"] = b"1\n"
        assert server.wait_for(lambda routes: set(routes.models["digits"].available) == {1}, 20)
        del bucket.objects["models/vision/digits/.servable/pin"]
        assert server.wait_for(lambda routes: set(routes.models["digits"].available) == {2, 3}, 20)


def test_a_version_that_is_being_written_is_not_taken(bucket: BucketServer) -> None:
    save(1)
    bucket.objects["models/vision/digits/2/.saving"] = b"{}"
    bucket.objects["models/vision/digits/2/model.onnx"] = constant(2).SerializeToString()
    with following("s3://models/vision") as server:
        assert answers(server, 1)
        looks = len(bucket.requests)
        assert eventually(lambda: len(bucket.requests) > looks + 6)
        assert set(server.routes.models["digits"].available) == {1}


def test_a_version_without_a_manifest_is_taken_once_two_looks_saw_the_same(bucket: BucketServer) -> None:
    growing = threading.Event()

    def copy_on(method: str, path: str) -> None:
        if not growing.is_set() and "prefix=vision/digits/1/" in path:
            bucket.objects[f"models/vision/digits/1/part-{len(bucket.requests)}"] = b"more"

    bucket.before = copy_on
    bucket.objects["models/vision/digits/1/model.onnx"] = constant(3).SerializeToString()
    with following("s3://models/vision", ready=False) as server:
        looks = len(bucket.requests)
        assert eventually(lambda: len(bucket.requests) > looks + 10)
        assert not any(line.endswith("model.onnx") for line in bucket.requests)
        growing.set()
        assert answers(server, 3)


def test_a_version_without_a_manifest_that_was_written_long_ago_is_taken_at_the_first_look(
    bucket: BucketServer,
) -> None:
    bucket.objects["models/vision/digits/1/model.onnx"] = constant(3).SerializeToString()
    bucket.written -= timedelta(minutes=5)
    with following("s3://models/vision", bucket_poll_interval=3600.0) as server:
        assert answers(server, 3)


def test_a_version_without_a_manifest_that_is_mended_is_loaded(bucket: BucketServer) -> None:
    bucket.objects["models/vision/digits/1/model.onnx"] = b"not a model"
    with following("s3://models/vision", ready=False, load_retries=0) as server:
        assert eventually(lambda: "END" in {row.state for row in server.report().versions})
        bucket.objects["models/vision/digits/1/model.onnx"] = constant(4).SerializeToString()
        assert answers(server, 4)


def test_a_version_that_cannot_be_loaded_leaves_an_older_one_to_serve_from_the_start_on(bucket: BucketServer) -> None:
    save(1)
    bucket.objects["models/vision/digits/2/model.onnx"] = b"not a model"
    with following("s3://models/vision", ready=False, load_retries=0) as server:
        assert answers(server, 1)


def test_a_version_whose_files_are_damaged_in_the_bucket_is_passed_over_and_told(
    bucket: BucketServer, tmp_path: Path
) -> None:
    save(1)
    save(2)
    damage(bucket, "models/vision/digits/2/model.onnx")
    with following("s3://models/vision", cache=str(tmp_path / "other")) as server:
        assert answers(server, 1)
        assert eventually(lambda: "Version 2 is passed over" in remarks(server))
        assert "s3://models/vision/digits/2/model.onnx" in remarks(server)


def test_where_every_version_is_damaged_the_server_is_not_ready_and_says_why(
    bucket: BucketServer, tmp_path: Path
) -> None:
    save(1)
    damage(bucket, "models/vision/digits/1/model.onnx")
    with (
        following("s3://models/vision", ready=False, cache=str(tmp_path / "other")) as server,
        pytest.raises(Unavailable, match=r"model\.onnx is not the file that was saved"),
    ):
        server.wait_until_ready(20)


def test_a_bucket_that_fails_or_hangs_holds_up_no_other_and_its_models_go_on(bucket: BucketServer) -> None:
    save(1, "s3://models/vision/digits")
    save(5, "s3://slow/wine")
    hang = threading.Event()
    hangs = threading.Event()

    def wait(method: str, path: str) -> None:
        if path.startswith("/slow") and hangs.is_set():
            hang.wait(60)

    bucket.before = wait
    with following({"digits": "s3://models/vision/digits", "wine": "s3://slow/wine"}) as server:
        hangs.set()
        save(2, "s3://models/vision/digits")
        assert answers(server, 2)
        assert answers(server, 5, "wine")
        hang.set()
        bucket.fail("GET", "^/slow", times=10_000)
        assert eventually(lambda: "s3://slow/wine" in remarks(server, "wine"))
        assert answers(server, 5, "wine")
        bucket.heal()
        save(6, "s3://slow/wine")
        assert answers(server, 6, "wine")


def test_a_bucket_that_cannot_be_read_at_the_start_is_an_error_at_once(bucket: BucketServer) -> None:
    bucket.fail("GET", "", times=100)
    with pytest.raises(Unavailable, match="s3://models/vision"), following("s3://models/vision"):
        pass


def test_a_list_of_models_may_name_buckets_and_be_replaced(bucket: BucketServer) -> None:
    save(1)
    save(2)
    save(5, "gs://other/wine")

    def config(name: str, bucket: str, prefix: str, **more: Any) -> ModelConfig:
        return ModelConfig(name, BucketUri("gs" if bucket == "other" else "s3", bucket, prefix), **more)

    digits = config("digits", "models", "vision/digits", version_policy=Latest(1))
    with following(ModelList(models=(digits,))) as server:
        assert answers(server, 2)
        both = config("digits", "models", "vision/digits", version_policy=Latest(2), labels={"old": 1})
        server.reload([both, config("wine", "other", "wine")], wait=True, timeout=20)
        assert answers(server, 5, "wine")
        assert server.wait_for(lambda routes: set(routes.models["digits"].available) == {1, 2}, 20)
        server.reload([config("wine", "other", "wine")])
        assert server.wait_for(lambda routes: not routes.models["digits"].available, 20)


def test_a_list_without_buckets_may_be_replaced_by_one_with_them_and_back(bucket: BucketServer, models: Path) -> None:
    save(5, "s3://models/wine")
    publish_onnx(models / "digits", 1, constant(1))
    local = ModelConfig("digits", models / "digits")
    with following(ModelList(models=(local,))) as server:
        assert answers(server, 1)
        server.reload([local, ModelConfig("wine", BucketUri("s3", "models", "wine"))], timeout=20)
        assert answers(server, 5, "wine")
        server.reload([local])
        assert server.wait_for(lambda routes: not routes.models["wine"].available, 20)
        assert answers(server, 1)


def test_a_model_of_which_there_are_only_remains_does_not_keep_the_server_from_being_ready(
    bucket: BucketServer,
) -> None:
    save(1)
    bucket.objects["models/vision/wine/1/.saving"] = b"{}"
    bucket.objects["models/vision/wine/1/model.onnx"] = b"half"
    with following("s3://models/vision") as server:
        assert answers(server, 1)
        assert server.report().not_ready == ()


def test_a_server_that_looks_once_does_not_look_again(bucket: BucketServer) -> None:
    save(1)
    config = ModelConfig("digits", BucketUri("s3", "models", "vision/digits"))
    with following(ModelList(models=(config,), looks=Looks.ONCE)) as server:
        assert answers(server, 1)
        bucket.requests.clear()
        with servable.ModelServer("s3://models/vision", ServerSettings(**DEFAULTS, bucket_poll_interval=0.05)):
            assert eventually(lambda: len(bucket.requests) > 10)
        assert not [line for line in bucket.requests if line.endswith("prefix=vision/digits/2/")]


def test_clients_cannot_change_what_is_in_a_bucket(bucket: BucketServer) -> None:
    save(1)
    with (
        following("s3://models/vision", repository="write") as server,
        Client(f"http://{server.addresses.rest}") as client,
    ):
        for change in (
            lambda: client.remove("digits", version=1),
            lambda: client.remove("digits"),
            lambda: client.load("digits", version=1),
        ):
            with pytest.raises(ServableError, match="in a bucket"):
                change()
        client.unload("digits")
        assert server.wait_for(lambda routes: not routes.models["digits"].available, 20)
        client.load("digits")
        assert answers(server, 1)
    assert bucket.names("models/vision/digits/1")


def test_a_fast_poll_is_warned_of(bucket: BucketServer, caplog: pytest.LogCaptureFixture) -> None:
    save(1)
    with following("s3://models/vision"):
        pass
    assert "Buckets are asked every 0.05 s" in caplog.text


def test_mirrors_are_gone_when_the_server_has_stopped(bucket: BucketServer) -> None:
    save(1)
    with following("s3://models/vision") as server:
        folder = server._buckets.mirrors["digits"].folder
        assert (folder / "1").is_symlink()
    assert not folder.exists()


def test_a_model_that_is_not_there_is_told(bucket: BucketServer) -> None:
    with following({"digits": "s3://models/nothing"}, ready=False) as server:
        assert eventually(lambda: "s3://models/nothing" in remarks(server))
        with pytest.raises(NotFound), Client(f"http://{server.addresses.rest}") as client:
            client.predict("digits", ROWS)
