from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from servable.engines.options import TensorFlowOptions
from servable.errors import InvalidArgument
from servable.server.model_list import Looks
from servable.server.security import GrpcTls
from servable.storage.uri import BucketUri
from servable.tfserving.configs import read_ssl_config
from servable.tfserving.flags import parse
from servable.tfserving.options import ServeOptions, serve_options

if TYPE_CHECKING:
    from pathlib import Path


def options(*arguments: str) -> ServeOptions:
    return serve_options(parse(["--model_base_path=/m", *arguments]))


def test_the_defaults_are_those_of_tensorflow_serving() -> None:
    found = options()
    settings = found.settings
    assert (settings.grpc_port, settings.rest_port, settings.request_timeout) == (8500, None, 30.0)
    assert (settings.batch, settings.load_retries, settings.load_retry_interval) == ("off", 5, 60.0)
    assert (found.models.models[0].name, found.models.looks) == ("default", Looks.FOLLOW)
    assert found.models.wait_for_all
    assert not found.models.labels_for_unavailable


@pytest.mark.parametrize(("seconds", "looks"), [("5", Looks.FOLLOW), ("0", Looks.ONCE), ("-1", Looks.NEVER)])
def test_how_often_to_look_is_said_in_seconds(seconds: str, looks: Looks) -> None:
    assert options(f"--file_system_poll_wait_seconds={seconds}").models.looks is looks


def test_times_that_are_negative_are_none() -> None:
    found = options("--rest_api_timeout_in_ms=-1", "--load_retry_interval_micros=-1", "--max_num_load_retries=-1")
    settings = found.settings
    assert (settings.request_timeout, settings.load_retry_interval, settings.load_retries) == (0.0, 0.0, 0)


def test_what_is_for_engines_is_handed_on() -> None:
    found = options(
        "--tensorflow_intra_op_parallelism=3",
        "--tensorflow_session_parallelism=2",
        "--saved_model_tags=serve,gpu",
        "--per_process_gpu_memory_fraction=0.25",
    )
    assert found.tensorflow == TensorFlowOptions(("serve", "gpu"), gpu_memory_fraction=0.25)
    assert (found.settings.intra_op_threads, found.settings.inter_op_threads) == (3, 2)


@pytest.mark.tensorflow
def test_flags_for_threads_win_over_the_session_config(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("inter_op_parallelism_threads: 3")
    found = options(f"--tensorflow_session_config_file={tmp_path / 'config'}", "--tensorflow_inter_op_parallelism=200")
    assert found.tensorflow.session_config == b"\x28\x03\x28\xc8\x01"


def test_only_bfloat16_is_a_precision() -> None:
    assert options("--mixed_precision=bfloat16").tensorflow.session_config == b"\x52\x05\x52\x03\xf8\x01\x01"
    with pytest.raises(InvalidArgument, match="may be bfloat16, not half"):
        options("--mixed_precision=half")


@pytest.mark.tensorflow
def test_a_session_config_that_is_none_is_told_as_upstream_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config").write_text("no: 1")
    with pytest.raises(InvalidArgument, match=r"Invalid protobuf file: '.*config'"):
        options(f"--tensorflow_session_config_file={tmp_path / 'config'}")
    assert "Error parsing text-format tensorflow.ConfigProto: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "iterations"),
    [
        ((), 1),
        (("--num_request_iterations_for_warmup=3",), 3),
        (("--enable_model_warmup=false", "--num_request_iterations_for_warmup=3"), 0),
    ],
)
def test_how_often_warm_up_requests_are_run(arguments: tuple[str, ...], iterations: int) -> None:
    assert options(*arguments).settings.warm_up_iterations == iterations


def test_tensorflow_lite_has_as_many_interpreters_as_all_pools_together() -> None:
    settings = options("--prefer_tflite_model", "--num_tflite_pools=3", "--num_tflite_interpreters_per_pool=2").settings
    assert (settings.prefer_tflite, settings.tflite_interpreters) == (True, 6)
    assert options("--num_tflite_interpreters_per_pool=2").settings.tflite_interpreters == 2 * (os.cpu_count() or 1)
    assert options("--num_tflite_pools=9999999").settings.tflite_interpreters == 1024
    assert not options().settings.prefer_tflite


def test_batching_has_the_defaults_of_tensorflow_serving() -> None:
    settings = options("--enable_batching").settings
    assert (settings.batch, settings.max_batch_rows, settings.max_request_rows) == ("on", 1000, 1000)
    assert (settings.max_queued_rows, settings.batch_timeout, settings.engine_threads) == (10_000, 0.0, 0)


def test_every_batching_parameter_has_its_setting(tmp_path: Path) -> None:
    file = tmp_path / "batching.config"
    file.write_text(
        "max_batch_size { value: 64 } batch_timeout_micros { value: 1500 } max_enqueued_batches { value: 3 } "
        "num_batch_threads { value: 2 } thread_pool_name { value: 'pool' } pad_variable_length_inputs: true "
        "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 16 } "
        "allowed_batch_sizes: 4 allowed_batch_sizes: 16"
    )
    settings = options("--enable_batching", f"--batching_parameters_file={file}").settings
    assert (settings.max_batch_rows, settings.max_request_rows, settings.split_requests) == (16, 64, True)
    assert (settings.batch_timeout, settings.max_queued_rows, settings.engine_threads) == (0.0015, 192, 2)
    assert (settings.allowed_batch_sizes, settings.pad_batches) == ((4, 16), True)


@pytest.mark.parametrize(
    "text",
    [
        "max_batch_size { value: 0 }",
        "max_batch_size { value: 9000000000 }",
        "allowed_batch_sizes: 8 allowed_batch_sizes: 4",
        "batch_timeout_micros { value: -1 }",
        "num_batch_threads { value: 0 }",
    ],
)
def test_batching_parameters_out_of_range_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "batching.config"
    file.write_text(text)
    with pytest.raises(InvalidArgument):
        options("--enable_batching", f"--batching_parameters_file={file}")


def test_a_platform_config_switches_batching_off() -> None:
    assert options("--enable_batching", "--platform_config_file=/p").settings.batch == "off"


def test_certificates_are_for_grpc_and_clients_show_theirs_only_where_asked(tmp_path: Path) -> None:
    file = tmp_path / "ssl.config"
    file.write_text('server_key: "k" server_cert: "c" custom_ca: "a"')
    found = options(f"--ssl_config_file={file}").grpc_tls
    assert found is not None
    assert found.read(found.path) == GrpcTls("c", "k")
    file.write_text('server_key: "k" server_cert: "c" custom_ca: "a" client_verify: true')
    assert found.read(found.path) == GrpcTls("c", "k", "a")


def test_certificates_without_a_key_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ssl.config").write_text('server_cert: "c"')
    with pytest.raises(InvalidArgument, match="both server_key and server_cert"):
        read_ssl_config(tmp_path / "ssl.config")


@pytest.mark.parametrize(
    ("base_path", "complaint"),
    [("m", "absolute path or URI; got base_path.*=m"), ("hdfs://host/m", "no storage of kind hdfs"), ("", "both|Both")],
)
def test_a_base_path_that_cannot_be_served_is_refused(base_path: str, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        serve_options(parse([f"--model_base_path={base_path}"]))


def test_a_base_path_may_be_in_a_bucket() -> None:
    found = serve_options(parse(["--model_base_path=gs://bucket/models/m"])).models.models[0].base_path
    assert found == BucketUri("gs", "bucket", "models/m")


def test_buckets_are_asked_as_often_as_the_flag_says_and_seldom_without_it() -> None:
    line = ["--model_base_path=gs://bucket/models/m"]
    assert serve_options(parse(line)).settings.bucket_poll_interval == 60
    assert serve_options(parse([*line, "--file_system_poll_wait_seconds=30"])).settings.bucket_poll_interval == 30


def test_a_file_uri_is_a_folder() -> None:
    assert str(serve_options(parse(["--model_base_path=file:///m/n"])).models.models[0].base_path) == "/m/n"
