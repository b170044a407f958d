"""`servable replay`, and what becomes of a log when its server or its disk comes to an end."""

from __future__ import annotations

import json
import resource
import signal
from typing import TYPE_CHECKING, Any

import pytest
import requests

from servable.model.golden import read_examples
from servable.model.request_log import log_files, read_log
from servers import eventually, model_server
from tiny_models import double
from version_folders import constant, publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS = {"instances": [[1.0, 2.0]]}


def ask(rest: str, times: int = 1) -> None:
    for _ in range(times):
        assert requests.post(f"{rest}/v1/models/m:predict", json=ROWS, timeout=20).ok


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `models`, with versions 1 to 3 of m, of which 2 answers otherwise; and `logs` of version 1."""
    folder = tmp_path_factory.mktemp("world")
    publish_onnx(folder / "models" / "m", 1, constant(1.0))
    with model_server(folder / "models", request_log=str(folder / "logs")) as server:
        server.wait_until_ready(20)
        ask(f"http://{server.addresses.rest}", 7)
    publish_onnx(folder / "models" / "m", 2, constant(1.5))
    publish_onnx(folder / "models" / "m", 3, constant(1.0))
    return folder


@pytest.fixture
def replay(servable: Callable[..., Any], world: Path) -> Callable[..., Any]:
    return lambda *arguments: servable("replay", world / "logs", "--models", world / "models", *arguments)


def test_a_version_that_answers_as_the_log_says_passes(replay: Callable[..., Any]) -> None:
    result = replay("--against", 3)
    assert result.exit_code == 0
    assert "7 records, 7 compared, 0 mismatches" in result.stdout
    assert "p99" in result.stdout


def test_a_version_that_answers_otherwise_fails_and_the_worst_records_are_named(replay: Callable[..., Any]) -> None:
    result = replay("--against", 2, "--limit", 3)
    assert result.exit_code == 1
    assert "3 records, 3 compared, 3 mismatches" in result.stdout
    assert "1 of 1 values; at [0, 0] 1.5 instead of 1" in result.stdout


def test_a_version_is_compared_with_another_one(replay: Callable[..., Any], world: Path) -> None:
    result = replay("--against", 3, "--baseline", world / "models" / "m" / "2", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["records"], found["mismatches"], found["passed"]) == (7, 7, False)
    assert found["worst"][0]["output"] == "y"
    assert found["baseline_seconds"]["p50"] > 0
    assert found["slowdown"] > 0


def test_the_tolerance_decides(replay: Callable[..., Any]) -> None:
    assert replay("--against", 2, "--tolerance", "0.6").exit_code == 0
    assert replay("--against", 2, "--tolerance", "0,0.4").exit_code == 1


def test_a_version_that_is_too_slow_fails(replay: Callable[..., Any]) -> None:
    arguments = ("--against", 3, "--baseline", 1, "--max-slowdown")
    assert replay(*arguments, 1000).exit_code == 0
    assert replay(*arguments, 0.0001).exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--against", 1, "--max-slowdown", 2),
        ("--keep", 3),
        ("--against", 1, "--tolerance", "much"),
        ("--against", 1, "--limit", 0),
    ],
)
def test_wrong_use_has_its_own_exit_status(replay: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    assert replay(*arguments).exit_code == 2


def test_a_log_that_is_not_there_is_told(servable: Callable[..., Any], tmp_path: Path) -> None:
    result = servable("replay", tmp_path / "none", "--against", 1)
    assert result.exit_code == 1
    assert "There is no request log" in result.stderr


def test_records_are_kept_as_golden_examples(replay: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "version" / "assets.extra" / "tf_serving_warmup_requests"
    assert replay("--keep", 5, "-o", file).exit_code == 0
    examples = read_examples(tmp_path / "version")
    assert len(examples) == 5
    assert all(example.outputs for example in examples)


def test_a_running_server_is_asked(servable: Callable[..., Any], world: Path) -> None:
    with model_server(world / "models", version_policy="all") as server:
        server.wait_until_ready(20)
        assert server.wait_for(lambda routes: len(routes.models["m"].available) == 3, 20)
        where = ("replay", str(world / "logs"), "--server", f"http://{server.addresses.rest}")
        assert servable(*where, "--against", 3).exit_code == 0
        assert servable(*where, "--against", 2).exit_code == 1


def test_a_server_that_is_killed_leaves_a_log_that_can_be_read(
    serve: Callable[..., Any], models: Path, tmp_path: Path
) -> None:
    publish_onnx(models / "m", 1, double())
    logs = tmp_path / "logs"
    server = serve(models, "--request-log", logs)
    server.wait_for("Ready")
    ask(server.rest, 50)
    page = f"{server.rest}/metrics"
    written = 'request_log_count{model_name="m",status_code="OK"} 50'
    assert eventually(lambda: written in requests.get(page, timeout=20).text)
    server.signal(signal.SIGKILL)
    server.wait()
    [file] = log_files(logs)
    assert len(list(read_log([file]))) == 50
    # Also where the kill came in the middle of a write.
    file.write_bytes(file.read_bytes()[:-5])
    assert len(list(read_log([file]))) == 49


def test_a_full_disk_loses_records_but_no_requests(serve: Callable[..., Any], models: Path, tmp_path: Path) -> None:
    publish_onnx(models / "m", 1, double())
    logs = tmp_path / "logs"
    server = serve(models, "--request-log", logs)
    server.wait_for("Ready")
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    ask(server.rest, 50)
    trouble = server.wait_for("The request log of m cannot be written")
    assert trouble["level"] == "warning"
    ask(server.rest, 50)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    ask(server.rest, 50)
    page = requests.get(f"{server.rest}/metrics", timeout=20).text
    assert 'servable_request_log_dropped_total{model="m",reason="disk"} 0' not in page
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert sum("cannot be written" in line for line in server.lines) == 1
    assert 50 <= len(list(read_log(log_files(logs)))) < 150
