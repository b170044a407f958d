"""servable.save and servable.load with versions in buckets."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import servable
from servable.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    ManifestError,
    NotFound,
    ServableError,
    Unavailable,
)
from servable.storage import stores
from tiny_models import double

if TYPE_CHECKING:
    from pathlib import Path

    from bucket_server import BucketServer

ROWS = np.array([[1, 2], [3, 4]], np.float32)
FILES = {"model.onnx", "assets.extra/tf_serving_warmup_requests", "servable.json"}


def save(uri: str = "s3://models/vision/digits", **options: Any) -> servable.Version:
    return servable.save(double(), uri, examples={"x": ROWS}, **options)


def answer(uri: str) -> list[list[float]]:
    with servable.load(uri) as model:
        return np.asarray(model.predict(ROWS)).tolist()


def downloads(bucket: BucketServer) -> list[str]:
    return [line for line in bucket.requests if line.startswith("GET ") and "list-type" not in line]


@pytest.fixture
def few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stores._RETRIES, "max_retries", 0)


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_model_saved_to_a_bucket_is_a_version_that_can_be_loaded(bucket: BucketServer, scheme: str) -> None:
    version = save(f"{scheme}://models/vision/digits")
    assert str(version) == "digits/1"
    assert version.uri == f"{scheme}://models/vision/digits/1"
    assert bucket.names("models/vision/digits/1") == FILES
    assert answer(version.uri) == (2 * ROWS).tolist()
    assert answer(f"{scheme}://models/vision/digits") == (2 * ROWS).tolist()


def test_numbers_go_up_and_the_manifest_is_written_last(bucket: BucketServer) -> None:
    assert [save().number, save().number, save(version=7).number, save().number] == [1, 2, 7, 8]
    written = [line for line in bucket.requests if line.startswith("PUT ") and "/8/" in line]
    assert written[0].endswith("/8/.saving")
    assert written[-1].endswith("/8/servable.json")


def test_what_was_saved_here_is_loaded_without_a_download(bucket: BucketServer) -> None:
    version = save()
    bucket.requests.clear()
    answer(str(version.uri))
    assert downloads(bucket) == ["GET /models/vision/digits/1/servable.json"]


def test_a_second_load_downloads_nothing_but_the_manifest(bucket: BucketServer, tmp_path: Path) -> None:
    save()
    shutil.rmtree(tmp_path / "cache")
    answer("s3://models/vision/digits/1")
    assert len(downloads(bucket)) == 3
    bucket.requests.clear()
    answer("s3://models/vision/digits/1")
    assert len(downloads(bucket)) == 1


def test_a_given_number_that_is_taken_is_refused(bucket: BucketServer) -> None:
    save(version=3)
    before = dict(bucket.objects)
    with pytest.raises(AlreadyExists) as refused:
        save(version=3)
    assert "take 4" in str(refused.value.hint)
    assert bucket.objects == before


def test_several_that_save_at_once_get_numbers_of_their_own(bucket: BucketServer) -> None:
    together = threading.Barrier(4)

    def one(_: int) -> int:
        together.wait(20)
        return save().number

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(one, range(4))) == [1, 2, 3, 4]
    for number in range(1, 5):
        assert bucket.names(f"models/vision/digits/{number}") == FILES
        assert answer(f"s3://models/vision/digits/{number}") == (2 * ROWS).tolist()


def test_a_version_that_was_finished_between_listing_and_claim_is_not_overwritten(bucket: BucketServer) -> None:
    theirs = {"models/vision/digits/1/model.onnx": b"theirs", "models/vision/digits/1/servable.json": b"{}"}

    def finish(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/1/.saving"):
            bucket.objects.update(theirs)

    bucket.before = finish
    assert save().number == 2
    assert {name: bucket.objects[name] for name in theirs} == theirs
    assert bucket.names("models/vision/digits/1") == {"model.onnx", "servable.json"}


def test_an_upload_that_fails_leaves_nothing(bucket: BucketServer, few_tries: None) -> None:
    bucket.fail("PUT", "model.onnx", times=100)
    with pytest.raises(Unavailable, match=r"model\.onnx"):
        save()
    assert not bucket.objects
    bucket.heal()
    assert save().number == 1


def test_an_upload_whose_writer_died_is_no_version_and_its_number_is_passed_over(
    bucket: BucketServer, few_tries: None
) -> None:
    save()
    bucket.fail("PUT", "2/servable.json", times=100)
    bucket.fail("POST", "delete", times=100)
    bucket.fail("DELETE", "", times=100)
    with pytest.raises(Unavailable):
        save()
    bucket.heal()
    assert bucket.names("models/vision/digits/2") == FILES - {"servable.json"} | {".saving"}
    with servable.load("s3://models/vision/digits") as newest:
        assert "digits/1" in repr(newest)
    with pytest.raises(FailedPrecondition, match="not whole"):
        servable.load("s3://models/vision/digits/2")
    assert save().number == 3


def test_a_save_goes_on_after_breaks_and_errors(bucket: BucketServer) -> None:
    bucket.fail("PUT", "saving", times=2, status=503)
    bucket.fail("PUT", "model.onnx", times=1, status=0)
    bucket.fail("PUT", "servable.json", times=2)
    assert save().number == 1
    assert answer("s3://models/vision/digits") == (2 * ROWS).tolist()


def test_a_load_goes_on_after_breaks_and_errors(bucket: BucketServer, tmp_path: Path) -> None:
    save()
    shutil.rmtree(tmp_path / "cache")
    bucket.fail("GET", "list-type", times=2)
    bucket.fail("GET", "servable.json", times=1, status=503)
    bucket.fail("GET", "model.onnx", times=2, status=0)
    assert answer("s3://models/vision/digits") == (2 * ROWS).tolist()


def test_a_download_that_breaks_for_good_leaves_nothing_in_the_cache(
    bucket: BucketServer, tmp_path: Path, few_tries: None
) -> None:
    save()
    shutil.rmtree(tmp_path / "cache")
    bucket.fail("GET", "model.onnx", times=100, status=0)
    with pytest.raises(Unavailable):
        servable.load("s3://models/vision/digits")
    assert not list((tmp_path / "cache" / "entries").iterdir())
    bucket.heal()
    assert answer("s3://models/vision/digits") == (2 * ROWS).tolist()


def test_a_long_transfer_tells_how_far_it_is(bucket: BucketServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servable.model.bucket._WORTH_TELLING", 1)
    told: list[str] = []
    save(progress=told.append)
    assert [line for line in told if line.startswith("Uploading s3://models/vision/digits/1: 100 %")]


def test_a_file_that_was_changed_in_the_bucket_is_refused(bucket: BucketServer, tmp_path: Path) -> None:
    save()
    shutil.rmtree(tmp_path / "cache")
    content = bucket.objects["models/vision/digits/1/model.onnx"]
    bucket.objects["models/vision/digits/1/model.onnx"] = content[:-1] + b"?"
    with pytest.raises(DataLoss, match=r"model\.onnx is not the file that was saved"):
        servable.load("s3://models/vision/digits/1")
    assert not list((tmp_path / "cache" / "entries").iterdir())
    del bucket.objects["models/vision/digits/1/model.onnx"]
    with pytest.raises(DataLoss, match=r"model\.onnx is missing"):
        servable.load("s3://models/vision/digits/1")


def test_a_copy_that_was_damaged_in_the_cache_is_fetched_again(bucket: BucketServer) -> None:
    version = save()
    (version.path / "model.onnx").write_bytes(b"damaged")
    assert answer(str(version.uri)) == (2 * ROWS).tolist()


def test_a_manifest_that_leads_out_of_the_folder_is_refused(bucket: BucketServer, tmp_path: Path) -> None:
    save()
    name = "models/vision/digits/1/servable.json"
    manifest = json.loads(bucket.objects[name])
    manifest["files"]["../../escaped"] = {"size": 1, "sha256": "00"}
    bucket.objects[name] = json.dumps(manifest).encode()
    with pytest.raises(ManifestError, match="leads out"):
        servable.load("s3://models/vision/digits/1")
    assert not list(tmp_path.rglob("escaped"))


def test_a_version_without_a_manifest_is_loaded_as_it_is(bucket: BucketServer) -> None:
    bucket.objects["models/foreign/00000123/model.onnx"] = double().SerializeToString()
    assert answer("s3://models/foreign") == (2 * ROWS).tolist()
    bucket.requests.clear()
    assert answer("s3://models/foreign/00000123") == (2 * ROWS).tolist()
    assert not [line for line in downloads(bucket) if line.endswith(".onnx")]


def test_a_version_without_a_manifest_that_is_still_being_copied_is_refused(bucket: BucketServer) -> None:
    bucket.objects["models/foreign/1/model.onnx"] = double().SerializeToString()

    def copy_on(method: str, path: str) -> None:
        if path.endswith("model.onnx"):
            bucket.objects[f"models/foreign/1/part-{len(bucket.requests)}"] = b"more"

    bucket.before = copy_on
    with pytest.raises(FailedPrecondition, match="still being copied"):
        servable.load("s3://models/foreign/1")


def test_an_object_whose_name_is_also_that_of_a_folder_is_told(bucket: BucketServer) -> None:
    model = double().SerializeToString()
    bucket.objects |= {f"models/foreign/1/{name}": model for name in ("model.onnx", "a/b", "a")}
    with pytest.raises(FailedPrecondition, match="cannot be a file here"):
        servable.load("s3://models/foreign/1")


def test_an_interrupted_save_leaves_nothing(bucket: BucketServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("servable.storage.location.Location.upload", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save()
    assert not bucket.objects


def test_a_place_without_versions_is_told(bucket: BucketServer) -> None:
    with pytest.raises(NotFound, match="s3://models/nothing holds no versions"):
        servable.load("s3://models/nothing")


@pytest.mark.parametrize("uri", ["s3://models", "s3://models/digits/3"])
def test_a_uri_that_names_no_model_is_refused_before_anything_is_done(bucket: BucketServer, uri: str) -> None:
    with pytest.raises(InvalidArgument, match="no folder for a model"):
        save(uri)
    assert not bucket.requests


def test_a_model_that_fails_its_proof_never_reaches_the_bucket(bucket: BucketServer) -> None:
    with pytest.raises(ServableError):
        servable.save(double(), "s3://models/digits", examples={"wrong": ROWS})
    assert not [line for line in bucket.requests if line.startswith("PUT")]
