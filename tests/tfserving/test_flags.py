from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.tfserving.flags import FLAGS, parse, usage


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--enable_batching", True),
        ("--enable_batching=true", True),
        ("--enable_batching=TRUE", True),
        ("--enable_batching=1", True),
        ("--enable_batching=False", False),
        ("--enable_batching=0", False),
    ],
)
def test_a_switch_stands_alone_or_has_a_word(argument: str, value: bool) -> None:
    assert parse([argument]).values["enable_batching"] is value


def test_only_name_equals_value_is_understood() -> None:
    line = parse(["--port", "9000", "-port=9000", "port=9000", "--port=9001", "--model_name=a=b"])
    assert line.unknown == ["--port", "9000", "-port=9000", "port=9000"]
    assert (line.values["port"], line.values["model_name"]) == (9001, "a=b")
    assert not line.errors


def test_of_a_flag_given_twice_the_last_counts() -> None:
    assert parse(["--port=1", "--port=2"]).values["port"] == 2


@pytest.mark.parametrize(
    "argument",
    ["--port=", "--port=1.5", "--port=2147483648", "--enable_batching=yes", "--per_process_gpu_memory_fraction=x"],
)
def test_a_value_that_does_not_fit_is_an_error(argument: str) -> None:
    assert parse([argument]).errors


def test_numbers_may_have_64_bits_where_the_flag_has() -> None:
    assert parse(["--load_retry_interval_micros=-4000000000"]).values["load_retry_interval_micros"] == -4_000_000_000
    assert parse(["--per_process_gpu_memory_fraction=.5"]).values["per_process_gpu_memory_fraction"] == 0.5


def test_help_counts_only_in_front() -> None:
    assert parse(["--help"]).errors
    assert parse(["--port=1", "--help"]).unknown == ["--help"]


def test_the_usage_names_every_flag_with_its_default() -> None:
    for flag in FLAGS:
        assert f"\t--{flag.name}=" in usage()
    assert '\t--model_name="default"' in usage()
    assert "\t--enable_model_warmup=true" in usage()


@given(st.lists(st.text(max_size=40)))
def test_no_command_line_breaks_the_parser(arguments: list[str]) -> None:
    line = parse(arguments)
    assert set(line.unknown) <= set(arguments)
