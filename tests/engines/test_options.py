from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from servable.engines.options import EngineOptions, TensorFlowOptions, onnx_options, tensorflow_options
from servable.errors import InvalidArgument, ManifestError


def test_one_thread_is_the_default():
    read = json.loads(onnx_options(EngineOptions(library=Path("/lib.so")), {}))
    assert read == {"library": "/lib.so", "intra_op_threads": 1, "inter_op_threads": 1}


def test_options_of_the_load_go_before_those_of_the_manifest():
    options = EngineOptions(intra_op_threads=3, library=Path("/lib.so"))
    read = json.loads(onnx_options(options, {"intra_op_threads": 2, "inter_op_threads": 4}))
    assert (read["intra_op_threads"], read["inter_op_threads"]) == (3, 4)


@pytest.mark.parametrize("threads", [0, -1, 2000])
def test_thread_counts_out_of_range_are_refused(threads):
    with pytest.raises(InvalidArgument):
        EngineOptions(intra_op_threads=threads)


@pytest.mark.parametrize("threads", [0, "2", True, None])
def test_bad_thread_counts_of_a_manifest_are_refused(threads):
    with pytest.raises(ManifestError, match="intra_op_threads"):
        onnx_options(EngineOptions(), {"intra_op_threads": threads})


def test_tensorflow_is_told_its_tags_threads_memory_and_libraries():
    special = TensorFlowOptions(
        tags=("serve", "gpu"), custom_ops=(Path("/ops.so"),), gpu_memory_fraction=0.5, session_config=b"\x10\x07"
    )
    read = json.loads(tensorflow_options(EngineOptions(library=Path("/tf.so"), tensorflow=special), {}))
    assert {
        name: read[name] for name in ("library", "tags", "custom_ops", "gpu_memory_fraction", "session_config")
    } == {
        "library": "/tf.so",
        "tags": ["serve", "gpu"],
        "custom_ops": ["/ops.so"],
        "gpu_memory_fraction": 0.5,
        "session_config": [16, 7],
    }
    assert (read["intra_op_threads"], read["inter_op_threads"]) == (1, os.cpu_count()), "one a core"


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.5])
def test_a_share_of_gpu_memory_out_of_range_is_refused(fraction):
    with pytest.raises(InvalidArgument, match="gpu_memory_fraction"):
        TensorFlowOptions(gpu_memory_fraction=fraction)
