"""deploy/container: the entry point and the health check, run as the image runs them and in a clean environment."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from container import SCRIPTS, TIMEOUT_S, clean_environment, free_port

import tiny_models
from version_folders import publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from container import ContainerProcess

    Run = Callable[..., ContainerProcess]


@pytest.fixture
def ports() -> tuple[str, str]:
    """Flags that take the place of the image's own ports."""
    return f"--port={free_port()}", f"--rest_api_port={free_port()}"


def test_it_serves_the_model_that_the_variables_name_until_sigterm_which_ends_it_well(
    run_script: Run, models: Path, ports: tuple[str, str]
) -> None:
    publish_onnx(models / "doubled", 1, tiny_models.double())
    server = run_script("entrypoint.sh", *ports, MODEL_NAME="doubled", MODEL_BASE_PATH=str(models))
    server.wait_until_ready()
    assert server.predict("doubled", [[1.0, 2.0]]) == [[2.0, 4.0]]
    started = time.monotonic()
    assert server.stop(signal.SIGTERM) == 0
    assert time.monotonic() - started < 10, "docker stop waits for ten seconds before it kills"
    server.wait_for("every accepted request was answered")


@pytest.mark.tensorflow
@pytest.mark.slow
def test_the_first_example_of_tensorflow_servings_image_works(
    run_script: Run, saved_models: Path, ports: tuple[str, str]
) -> None:
    variables = {"MODEL_NAME": "half_plus_two", "MODEL_BASE_PATH": str(saved_models)}
    server = run_script("entrypoint.sh", *ports, **variables)
    server.wait_until_ready()
    assert server.predict("half_plus_two", [1.0, 2.0, 5.0]) == [2.5, 3.0, 4.5]
    assert server.stop(signal.SIGTERM) == 0


def test_without_variables_the_model_is_called_model_and_lies_in_models(commands: Path, tmp_path: Path) -> None:
    """Ports, name and path are those of TensorFlow Serving's image; flags of the user come after them, and win."""
    (commands / "tensorflow_model_server").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    assert run_to_the_end(commands, tmp_path, "--model_config_file=/a file").splitlines() == [
        "--port=8500",
        "--rest_api_port=8501",
        "--model_name=model",
        "--model_base_path=/models/model",
        "--model_config_file=/a file",
    ]
    assert len(run_to_the_end(commands, tmp_path).splitlines()) == 4


def test_a_command_runs_instead_of_the_server(commands: Path, tmp_path: Path) -> None:
    assert run_to_the_end(commands, tmp_path, "servable", "--version").startswith("servable")
    assert run_to_the_end(commands, tmp_path, "sh", "-c", "echo $0 $1", "a b", "c") == "a b c\n"


def test_servable_serve_does_not_listen_for_other_machines_unless_it_is_told_how_to_know_who_asks(
    commands: Path, models: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [SCRIPTS / "entrypoint.sh", "servable", "serve"],
        env=clean_environment(commands, {"SERVABLE_MODELS": str(models)}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode != 0
    assert "--tokens" in done.stderr


def test_only_servable_serve_is_told_to_listen_for_other_machines(commands: Path, tmp_path: Path) -> None:
    (commands / "servable").write_text('#!/bin/sh\necho "$2 ${SERVABLE_BIND:-unset}"\n')
    assert run_to_the_end(commands, tmp_path, "servable", "serve", "/models") == "/models 0.0.0.0\n"
    assert run_to_the_end(commands, tmp_path, "servable", "serve", "m", SERVABLE_BIND="::") == "m ::\n"
    assert run_to_the_end(commands, tmp_path, "servable", "rollback", "digits") == "digits unset\n"


def test_the_health_check_waits_for_the_first_load_and_notices_the_end(run_script: Run, models: Path) -> None:
    publish_onnx(models / "doubled", 1, tiny_models.double())
    (models / "broken" / "1").mkdir(parents=True)
    (models / "broken" / "1" / "model.onnx").write_bytes(b"broken")
    port = str(free_port())
    variables = {"SERVABLE_BIND": "127.0.0.1", "SERVABLE_REST_PORT": port, "SERVABLE_GRPC_PORT": "0"}
    assert check_health(port) == 1
    server = run_script("entrypoint.sh", "servable", "serve", str(models), "--load-retries", "0", **variables)
    server.wait_for("Loading failed: model broken")
    server.wait_for("Not ready: broken")
    assert check_health(port) == 0, "one model that cannot be loaded is no reason to restart the others"
    assert server.stop(signal.SIGTERM) == 0
    assert check_health(port) == 1


def run_to_the_end(commands: Path, cwd: Path, *arguments: str, **variables: str) -> str:
    done = subprocess.run(
        [SCRIPTS / "entrypoint.sh", *arguments],
        env=clean_environment(commands, variables),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_health(port: str) -> int:
    command = [sys.executable, "-I", str(SCRIPTS / "healthcheck.py")]
    environment = {"SERVABLE_REST_PORT": port}
    return subprocess.run(command, env=environment, timeout=TIMEOUT_S, capture_output=True, check=False).returncode
