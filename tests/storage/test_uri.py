"""servable.storage.uri: which texts name buckets."""

from __future__ import annotations

from pathlib import Path

import pytest

from servable.errors import InvalidArgument
from servable.storage.uri import BucketUri, bucket_uri, local_path


@pytest.mark.parametrize(
    ("text", "bucket", "prefix"),
    [
        ("s3://models/vision/digits", "models", "vision/digits"),
        ("S3://models//vision/digits/", "models", "vision/digits"),
        ("gs://my.models", "my.models", ""),
        ("az://container/a b/ä", "container", "a b/ä"),
    ],
)
def test_a_uri_is_a_bucket_and_a_prefix(text: str, bucket: str, prefix: str) -> None:
    found = bucket_uri(text)
    assert found == BucketUri(text[:2].lower(), bucket, prefix)


@pytest.mark.parametrize("text", ["models/digits", "/models", "file:///models", "./s3:/x", "C://"[:2]])
def test_other_texts_are_local_paths(text: str) -> None:
    assert bucket_uri(text) is None


@pytest.mark.parametrize(
    "text",
    ["s3://", "s3:///digits", "s3://b/../etc", "s3://models/a\\b", "s3://models/a\nb", "s3://models/" + "a" * 2000],
)
def test_a_uri_that_names_no_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="names no place"):
        bucket_uri(text)


def test_storage_of_another_kind_is_refused_with_the_kinds_that_are_known() -> None:
    with pytest.raises(InvalidArgument) as refused:
        bucket_uri("hdfs://namenode/models")
    assert refused.value.hint == "known are s3, gs and az"


def test_a_uri_that_pathlib_has_broken_is_told_as_that() -> None:
    with pytest.raises(InvalidArgument, match="pathlib"):
        bucket_uri(Path("s3://models/digits"))


def test_a_file_uri_is_a_local_path() -> None:
    assert local_path("file:///my%20models/digits") == Path("/my models/digits")


def test_names_are_put_together_and_taken_apart() -> None:
    place = BucketUri("s3", "models") / "digits" / "3"
    assert (str(place), place.name, str(place.parent)) == ("s3://models/digits/3", "3", "s3://models/digits")
