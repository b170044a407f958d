"""`servable serve` and `tensorflow_model_server` on models in buckets, as processes."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import servable
from servable.cli.folders import model_folder, models_to_serve
from servable.client import Client
from servable.errors import FailedPrecondition, InvalidArgument
from version_folders import constant

if TYPE_CHECKING:
    from collections.abc import Callable

    from bucket_server import BucketServer

ROWS = np.zeros((1, 2), np.float32)


def test_a_bucket_is_served_and_a_signal_ends_the_server(bucket: BucketServer, serve: Callable[..., Any]) -> None:
    servable.save(constant(3), "s3://models/vision/digits", examples={"x": ROWS})
    process = serve("s3://models/vision", "--bucket-poll-interval", "10s")
    with Client(process.rest) as client:
        client.wait_until_ready("digits")
        assert float(np.ravel(client.predict("digits", ROWS))[0]) == 3
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


def test_models_in_buckets_and_folders_are_named_side_by_side(bucket: BucketServer, tmp_path: Any) -> None:
    (tmp_path / "wine" / "1").mkdir(parents=True)
    found = models_to_serve(("digits=s3://models/digits-v2", f"{tmp_path}/wine", "gs://models/a=b"))
    assert found == {"digits": "s3://models/digits-v2", "wine": tmp_path / "wine", "a=b": "gs://models/a=b"}
    assert models_to_serve(("s3://models/vision",)) == "s3://models/vision"


def test_storage_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="no storage of kind ftp"):
        models_to_serve(("ftp://host/models",))


def test_what_works_on_folders_only_says_so() -> None:
    with pytest.raises(FailedPrecondition, match="in a bucket"):
        model_folder("digits", "s3://models/vision")
    with pytest.raises(FailedPrecondition, match="in a bucket"):
        model_folder("s3://models/vision/digits", "models")
