"""`tensorflow_model_server` with base paths in buckets, which hold versions without manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from model_server_process import ModelServerProcess

from servable.client import Client
from version_folders import constant

if TYPE_CHECKING:
    from pathlib import Path

    from bucket_server import BucketServer


@pytest.mark.parametrize("by_file", [False, True])
def test_a_base_path_in_a_bucket_is_served(bucket: BucketServer, tmp_path: Path, *, by_file: bool) -> None:
    bucket.objects["models/digits/00000007/model.onnx"] = constant(7).SerializeToString()
    file = tmp_path / "models.config"
    file.write_text(
        'model_config_list { config { name: "digits" base_path: "gs://models/digits" model_platform: "tensorflow" } }'
    )
    named = (
        [f"--model_config_file={file}"] if by_file else ["--model_name=digits", "--model_base_path=s3://models/digits"]
    )
    process = ModelServerProcess(*named, "--file_system_poll_wait_seconds=1", rest=True)
    try:
        process.wait_for("Loaded: model digits version 7")
        with Client(process.rest) as client:
            client.wait_until_ready("digits")
            assert float(np.ravel(client.predict("digits", np.zeros((1, 2), np.float32), version=7))[0]) == 7
    finally:
        process.end()
