"""`servable pin` and `servable rollback` on a model in a bucket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bucket_server import BucketServer

DIGITS = "s3://models/vision/digits"
PIN = "models/vision/digits/.servable/pin"


@pytest.fixture
def three(bucket: BucketServer, servable: Any) -> BucketServer:
    for number in (1, 2, 3):
        bucket.objects[f"models/vision/digits/{number}/servable.json"] = b"{}"
    bucket.objects["models/vision/digits/4/.saving"] = b"{}"
    return bucket


def test_a_pin_is_set_shown_and_cleared(three: BucketServer, servable: Any) -> None:
    assert "No version is pinned" in servable("pin", DIGITS).stderr
    assert f"servable pin {DIGITS} --clear" in servable("pin", DIGITS, 2).stderr
    assert three.objects[PIN] == b"2\n"
    found = servable("pin", "digits", "--models", "s3://models/vision", "--json").stdout
    assert json.loads(found) == {"model": "digits", "folder": DIGITS, "pin": 2}
    assert "The pin is gone" in servable("pin", "digits", "--clear", SERVABLE_MODELS=DIGITS).stderr
    assert PIN not in three.objects


def test_a_rollback_goes_back_one_version_and_again(three: BucketServer, servable: Any) -> None:
    result = servable("rollback", DIGITS)
    assert "version 2 is pinned now; it was version 3 before. Servers follow at their next look." in result.stderr
    assert three.objects[PIN] == b"2\n"
    assert servable("rollback", DIGITS).exit_code == 0
    assert three.objects[PIN] == b"1\n"
    refused = servable("rollback", DIGITS)
    assert refused.exit_code == 1
    assert f"No version before 1 in {DIGITS}" in refused.stderr
    assert three.objects[PIN] == b"1\n"


def test_a_rollback_starts_from_the_version_that_the_policy_in_the_bucket_serves(
    three: BucketServer, servable: Any
) -> None:
    three.objects["models/vision/digits/servable.toml"] = b"version_policy = 2\n"
    assert json.loads(servable("rollback", DIGITS, "--json").stdout)["version"] == 1


def test_what_was_never_whole_cannot_be_pinned(three: BucketServer, servable: Any) -> None:
    result = servable("pin", DIGITS, 4)
    assert result.exit_code == 1
    assert "hint: versions there: 3, 2, 1" in result.stderr


def test_a_model_that_is_not_there_is_told(three: BucketServer, servable: Any) -> None:
    result = servable("pin", "wine", 1, "--models", "s3://models/vision")
    assert result.exit_code == 1
    assert "No model wine in s3://models/vision" in result.stderr
