"""servable.storage.location: a bucket as a folder, over the real client."""

from __future__ import annotations

import builtins
import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from servable.errors import DataLoss, FailedPrecondition, NotFound, PermissionDenied, TooLarge, Unavailable
from servable.storage import location as location_module
from servable.storage import stores
from servable.storage.location import Location
from servable.storage.uri import bucket_uri

if TYPE_CHECKING:
    from pathlib import Path

    from bucket_server import BucketServer

LARGE = bytes(range(256)) * 80_000  # two pieces down, three parts up


@pytest.fixture(params=["s3", "gs"])
def place(bucket: BucketServer, request: pytest.FixtureRequest) -> Location:
    return at(f"{request.param}://models/vision")


def at(uri: str) -> Location:
    found = bucket_uri(uri)
    assert found is not None
    return Location(found)


@pytest.fixture
def few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stores._RETRIES, "max_retries", 1)


def test_a_folder_is_listed_page_by_page_with_its_folders_and_objects(bucket: BucketServer, place: Location) -> None:
    for number in range(1, 9):
        bucket.objects[f"models/vision/{number}/model.onnx"] = b"x" * number
    bucket.objects["models/vision/servable.toml"] = b"labels"
    bucket.objects["models/vision-2/1/model.onnx"] = b"of another folder"
    listing = place.list()
    assert listing.folders == tuple("12345678")
    assert {name: each.size for name, each in listing.objects.items()} == {"servable.toml": 6}
    assert {name: each.size for name, each in place.walk().items()} == {
        "servable.toml": 6,
        **{f"{number}/model.onnx": number for number in range(1, 9)},
    }


def test_a_folder_that_is_not_there_is_empty(place: Location) -> None:
    assert not place.list()
    assert not place.walk()


def test_what_is_written_can_be_read_and_deleted(place: Location) -> None:
    place.write("pin", b"3")
    assert place.read("pin", 10) == b"3"
    assert place.exists("pin")
    place.delete(["pin", "never-there"])
    assert not place.exists("pin")
    with pytest.raises(NotFound):
        place.read("pin", 10)


def test_a_small_object_that_is_large_is_not_read(place: Location) -> None:
    place.write("servable.json", b"x" * 100)
    with pytest.raises(TooLarge):
        place.read("servable.json", 99)


def test_an_object_is_created_by_one_writer_only(place: Location) -> None:
    assert place.create("claim", b"mine")
    assert not place.create("claim", b"yours")
    assert place.read("claim", 10) == b"mine"


def test_a_creation_whose_answer_got_lost_has_succeeded(place: Location) -> None:
    place.write("claim", b"mine")
    assert place.create("claim", b"mine")


def test_large_files_go_up_and_down_in_pieces_and_tell_how_far_they_are(
    bucket: BucketServer, place: Location, tmp_path: Path
) -> None:
    (tmp_path / "up").write_bytes(LARGE)
    told: list[int] = []
    place.upload("weights", tmp_path / "up", told.append)
    assert bucket.objects["models/vision/weights"] == LARGE
    assert sum(told) == len(LARGE)
    assert len(told) == 3
    told.clear()
    assert place.download("weights", len(LARGE), tmp_path / "down", told.append) == hashlib.sha256(LARGE).hexdigest()
    assert (tmp_path / "down").read_bytes() == LARGE
    assert len(told) == 2


def test_an_empty_file_goes_up_and_down(place: Location, tmp_path: Path) -> None:
    (tmp_path / "up").touch()
    place.upload("empty", tmp_path / "up")
    place.download("empty", 0, tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == b""


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_a_store_that_fails_twice_is_asked_again(
    bucket: BucketServer, place: Location, tmp_path: Path, method: str
) -> None:
    (tmp_path / "up").write_bytes(LARGE)
    bucket.fail(method, "weights", times=2, status=503)
    place.upload("weights", tmp_path / "up")
    place.download("weights", len(LARGE), tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == LARGE


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_connection_that_breaks_in_the_middle_is_made_again(
    bucket: BucketServer, place: Location, tmp_path: Path, method: str
) -> None:
    (tmp_path / "up").write_bytes(LARGE)
    bucket.fail(method, "weights", times=2, status=0)
    place.upload("weights", tmp_path / "up")
    place.download("weights", len(LARGE), tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == LARGE


def test_an_object_that_became_shorter_is_data_loss(bucket: BucketServer, place: Location, tmp_path: Path) -> None:
    bucket.objects["models/vision/weights"] = b"short"
    with pytest.raises(DataLoss, match="shorter"):
        place.download("weights", 100, tmp_path / "down")


def test_a_store_that_keeps_failing_is_unavailable_and_the_message_is_short(
    bucket: BucketServer, few_tries: None, place: Location
) -> None:
    bucket.fail("GET", "", times=100, status=500)
    with pytest.raises(Unavailable) as refused:
        at(str(place)).list()
    assert str(refused.value).startswith(str(place))
    assert "Debug" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_not_allowed_is_told_as_that(bucket: BucketServer, place: Location) -> None:
    bucket.fail("GET", "", status=403)
    with pytest.raises(PermissionDenied) as refused:
        place.list()
    assert "credentials" in str(refused.value.hint)


def test_more_objects_than_the_limit_are_not_listed(
    bucket: BucketServer, place: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location_module, "MAX_OBJECTS", 4)
    bucket.objects |= {f"models/vision/{number}": b"" for number in range(5)}
    for look in (place.list, place.walk):
        with pytest.raises(Exception, match="over 4"):
            look()


def test_without_obstore_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name.startswith("obstore"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FailedPrecondition) as refused:
        at("s3://models/digits")
    assert refused.value.hint == "pip install 'servable[buckets]'"
