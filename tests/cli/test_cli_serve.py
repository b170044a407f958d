"""`servable serve` as a process: signals, ports, arguments, what it prints."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from blocking import BlockingModel
from serve_process import FREE_PORTS, environment

from servers import eventually
from tiny_models import add, double
from version_folders import publish, publish_onnx, withdraw

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def digits(models: Path) -> Path:
    """The models folder, with versions 1 and 2 of a model `m`."""
    publish_onnx(models / "m", 1, double())
    publish_onnx(models / "m", 2, double())
    return models


@pytest.fixture
def slow(models: Path) -> BlockingModel:
    return BlockingModel(models)


def versions(rest: str, model: str) -> list[str]:
    status = httpx2.get(f"{rest}/v1/models/{model}").json()["model_version_status"]
    return [each["version"] for each in status if each["state"] == "AVAILABLE"]


# --- serving


def test_it_answers_and_says_where(serve: Any, digits: Path) -> None:
    server = serve(digits)
    assert server.wait_for("Ready")["message"] == "Ready: m/2"
    answer = httpx2.post(f"{server.rest}/v1/models/m:predict", json={"instances": [[1, 2]]})
    assert answer.json() == {"predictions": [[2, 4]]}


def test_a_new_version_takes_over_and_its_removal_goes_back(serve: Any, digits: Path) -> None:
    server = serve(digits)
    server.wait_for("Ready")
    publish_onnx(digits / "m", 3, double())
    server.wait_for("Unloaded: model m version 2")
    assert versions(server.rest, "m") == ["3"]
    withdraw(digits / "m", 3)
    server.wait_for("Unloaded: model m version 3")
    assert versions(server.rest, "m") == ["2"]


def test_models_from_several_places_are_named(serve: Any, tmp_path: Path) -> None:
    publish_onnx(tmp_path / "here" / "a", 1, double())
    publish_onnx(tmp_path / "there" / "b", 1, add())
    server = serve(f"first={tmp_path / 'here' / 'a'}", tmp_path / "there" / "b")
    assert server.wait_for("Ready")["message"] == "Ready: b/1, first/1"


def test_the_folder_of_one_model_is_served_under_its_name(serve: Any, digits: Path) -> None:
    assert serve(digits / "m").wait_for("Ready")["message"] == "Ready: m/2"


def test_the_variable_names_the_folder_where_no_argument_does(serve: Any, digits: Path) -> None:
    assert serve(SERVABLE_MODELS=str(digits)).wait_for("Ready")["message"] == "Ready: m/2"


def test_an_empty_folder_is_served_until_models_come(serve: Any, models: Path) -> None:
    server = serve(models)
    assert "no models yet" in server.wait_for("Ready")["message"]
    publish_onnx(models / "m", 1, double())
    server.wait_for("Loaded: model m version 1")


def test_a_model_that_cannot_be_loaded_is_told_and_others_serve(serve: Any, digits: Path) -> None:
    publish(digits / "broken", 1, {"model.onnx": b"\x00 nonsense"})
    server = serve(digits)
    warning = server.wait_for("Not ready")
    assert "broken: version 1 failed to load" in warning["message"]
    assert warning["level"] == "warning"
    assert versions(server.rest, "m") == ["2"]


def test_settings_come_from_flag_variable_and_file_in_this_order(serve: Any, digits: Path, tmp_path: Path) -> None:
    (tmp_path / "servable.toml").write_text('metrics_path = "/file"\nlog_level = "error"\nrequest_timeout = 7\n')
    server = serve(digits, "--metrics-path", "/flag", SERVABLE_METRICS_PATH="/variable", SERVABLE_LOG_LEVEL="info")
    server.wait_for("Ready")
    statuses = {path: httpx2.get(f"{server.rest}/{path}").status_code for path in ("flag", "variable", "file")}
    assert statuses == {"flag": 200, "variable": 404, "file": 404}


# --- stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_server_with_status_0(serve: Any, digits: Path, number: int) -> None:
    server = serve(digits)
    server.wait_for("Ready")
    server.signal(number)
    assert server.wait() == 0
    assert "0 requests are being answered" in server.wait_for(f"{signal.Signals(number).name}: stopping")["message"]


def test_a_request_in_flight_is_answered_before_it_ends_with_status_0(serve: Any, models: Path, slow: Any) -> None:
    server = serve(models)
    server.wait_for("Ready")
    request = slow.ask(server.rest)
    server.signal(signal.SIGTERM)
    assert "1 request is being answered" in server.wait_for("SIGTERM: stopping")["message"]
    slow.let_go()
    assert request.outcome() == {"predictions": [2.0]}
    assert server.wait() == 0


def test_a_stopping_server_takes_no_new_connection(serve: Any, models: Path, slow: Any) -> None:
    server = serve(models)
    host, port = server.wait_for("Listening")["rest"].split(":")
    server.wait_for("Ready")
    request = slow.ask(server.rest)
    server.signal(signal.SIGTERM)

    def is_refused() -> bool:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return True
        return False

    assert eventually(is_refused)
    slow.let_go()
    assert request.outcome() == {"predictions": [2.0]}
    assert server.wait() == 0


def test_requests_that_outlast_the_grace_period_are_cut_and_the_status_is_1(
    serve: Any, models: Path, slow: Any
) -> None:
    server = serve(models, "--grace-period", "50ms")
    server.wait_for("Ready")
    request = slow.ask(server.rest)
    server.signal(signal.SIGTERM)
    assert server.wait(10) == 1
    assert "cut off" in server.wait_for("Stopped")["message"]
    assert isinstance(request.outcome(), httpx2.HTTPError)


def test_a_second_signal_ends_it_at_once(serve: Any, models: Path, slow: Any) -> None:
    server = serve(models)
    server.wait_for("Ready")
    slow.ask(server.rest)
    server.signal(signal.SIGTERM)
    server.wait_for("SIGTERM: stopping")

    def has_ended() -> bool:
        server.signal(signal.SIGTERM)
        return server.process.poll() is not None

    assert eventually(has_ended)
    assert server.wait() == 1
    assert "1 request is being answered" in server.wait_for("Second signal")["message"]


def test_a_signal_that_comes_twice_at_the_same_time_counts_once(serve: Any, models: Path, slow: Any) -> None:
    server = serve(models)
    server.wait_for("Ready")
    request = slow.ask(server.rest)
    server.signal(signal.SIGTERM)
    server.signal(signal.SIGINT)
    server.wait_for("SIG")
    slow.let_go()
    assert request.outcome() == {"predictions": [2.0]}
    assert server.wait() == 0


# --- what cannot be served


def test_a_taken_port_is_a_clear_error(digits: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = subprocess.run(
            [sys.executable, "-m", "servable", "serve", digits, "--rest-port", str(port), "--port", "0"],
            env=environment(), capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert run.returncode == 1
    assert run.stdout == ""
    assert re.fullmatch(rf"error: Cannot listen on 127.0.0.1:{port}: .*in use.*\nhint: .*--rest-port.*\n", run.stderr)


def test_a_missing_folder_is_a_clear_error(servable: Callable[..., Any]) -> None:
    result = servable("serve", "nowhere")
    assert result.exit_code == 1
    assert re.match(r"error: The folder /.*/nowhere is not there\nhint: ", result.stderr)


@pytest.mark.parametrize("arguments", [("=models",), ("a=.", "a=."), (".", "b=.")])
def test_names_that_make_no_sense_are_refused(servable: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    result = servable("serve", *arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")


def test_a_flag_that_does_not_exist_is_wrong_use(servable: Callable[..., Any]) -> None:
    result = servable("serve", "--max-batch-row", "3")
    assert result.exit_code == 2
    assert "--max-batch-rows" in result.stderr


def test_other_machines_are_let_in_unasked_only_when_it_is_said_twice(servable: Callable[..., Any]) -> None:
    result = servable("serve", ".", "--bind", "0.0.0.0")
    assert result.exit_code == 1
    assert "--insecure" in result.stderr


# --- on a terminal


class Terminal:
    """The server on a terminal, which is read until some text has come."""

    def __init__(self, folder: Path) -> None:
        self.raw = b""  # a read may end within a character
        self._ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "servable", "serve", str(folder), *map(str, FREE_PORTS)]
        env = environment(COLUMNS="300", LINES="50", TERM="xterm", NO_COLOR="1")
        self.process = subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)

    @property
    def text(self) -> str:
        """What came, without the sequences that steer the terminal."""
        plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", self.raw)
        return plain.decode(errors="replace").replace("\r\n", "\n")

    def wait_for(self, pattern: str) -> re.Match[str]:
        while not (found := re.search(pattern, self.text)):
            readable, _, _ = select.select([self._ours], [], [], 20)
            try:
                self.raw += os.read(self._ours, 65536) if readable else b""
            except OSError:  # the other side is closed
                readable = []
            assert readable, f"no {pattern!r} in {self.text}"
        return found

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(digits: Path):
    publish(digits / "broken\x1b[31m", 1, {"model.onnx": b"\x00 nonsense"})
    terminal = Terminal(digits)
    yield terminal
    terminal.end()


def test_a_terminal_shows_a_table_and_a_request_that_works(terminal: Terminal) -> None:
    command = terminal.wait_for(r"  (curl .*:predict)\n")[1]
    terminal.wait_for(r"m +│ 2 +│ AVAILABLE │ onnx +│ no: not proven +│ .*KiB │")
    terminal.wait_for(r"broken\S+ +│ 1 +│ (LOADING|END) .*Load model")
    assert b"\x1b[31m" not in terminal.raw
    if shutil.which("curl"):
        run = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30, check=True)
        assert '"predictions"' in run.stdout
    terminal.process.send_signal(signal.SIGINT)
    terminal.wait_for("SIGINT: stopping")
    terminal.wait_for("Stopped: every accepted request was answered")
    assert terminal.process.wait(20) == 0
