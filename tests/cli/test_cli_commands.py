"""What holds for every command, and `servable config` and `servable doctor`."""

from __future__ import annotations

import importlib.metadata
import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from serve_process import environment

from servable.cli.commands import Commands
from servable.cli.output import columns, printable
from servable.errors import Internal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMES = ["serve", "status", "predict", "rollback", "pin", "check", "diff", "doctor", "config"]


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command, env = [sys.executable, "-c", code], environment(**variables)
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Makes every command fail with an error."""

    def fail_with(error: Exception) -> None:
        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(Commands, "get_command", fail)

    return fail_with


# --- every command


def test_the_help_names_every_command(servable: Any) -> None:
    text = servable("--help").stdout
    assert all(f"\n  {name} " in text for name in NAMES)
    assert "_SERVABLE_COMPLETE=bash_source" in text


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(servable: Any, name: str) -> None:
    result = servable(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: servable {name}")


def test_without_a_command_the_help_is_an_error(servable: Any) -> None:
    result = servable()
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: servable" in result.stderr


def test_the_version_is_told(servable: Any) -> None:
    assert servable("--version").stdout.startswith("servable ")


def test_a_command_that_does_not_exist_is_wrong_use(servable: Any) -> None:
    result = servable("server")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: No such command 'server'")


def test_shells_can_complete_commands() -> None:
    variables = {"_SERVABLE_COMPLETE": "bash_complete", "COMP_WORDS": "servable ro", "COMP_CWORD": "1"}
    assert "rollback" in python("import servable.cli; servable.cli.main()", **variables).stdout


def test_an_error_is_two_lines_without_a_traceback(servable: Any, failing: Any) -> None:
    failing(Internal("It broke\x1b[2J", hint="mend it"))
    result = servable("pin")
    assert result.exit_code == 1
    assert result.stderr == "error: It broke\ufffd[2J\nhint: mend it\n"


def test_a_fault_of_ours_has_no_traceback_unless_it_is_asked_for(servable: Any, failing: Any) -> None:
    failing(ZeroDivisionError("by zero"))
    result = servable("pin")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ZeroDivisionError: by zero\nhint: ")
    assert "Traceback" in servable("pin", SERVABLE_TRACEBACK="1").stderr


def test_no_color_means_no_colour(servable: Any) -> None:
    assert "\x1b[" in servable("pin", "m", color=True).stderr
    assert "\x1b[" not in servable("pin", "m", color=True, NO_COLOR="1").stderr


def test_a_full_disk_is_a_clear_error() -> None:
    run = python("import os; os.dup2(os.open('/dev/full', 1), 1)\nimport servable.cli\nservable.cli.main(['config'])")
    assert run.returncode == 1
    assert "Traceback" not in run.stderr


def test_the_command_line_costs_no_heavy_import() -> None:
    heavy = "{'numpy', 'rich', 'httpx2', 'servable._native'}"
    assert python(f"import sys, servable.cli; print({heavy} & sys.modules.keys())").stdout == "set()\n"


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[31m\x9b\n\tb\ud800") == "a\ufffd[31m\ufffd\n\tb\ufffd"
    assert columns([("a\nb", "c")]) == "a ...  c"


# --- config


def test_config_tells_value_and_origin(servable: Any, tmp_path: Path) -> None:
    (tmp_path / "work" / "servable.toml").write_text("max_batch_rows = 64\nbatch = 'on'\n")
    lines = servable("config", SERVABLE_BATCH="off").stdout.splitlines()
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in lines}
    assert rows["batch"] == ["off", "environment SERVABLE_BATCH"]
    assert rows["max_batch_rows"] == ["64", "file servable.toml"]
    assert rows["rest_port"] == ["8501", "default"]


def test_config_as_json_has_typed_values(servable: Any) -> None:
    found = json.loads(servable("config", "show", "--json", SERVABLE_REST_PORT="off").stdout)
    assert found["rest_port"] == {"value": None, "origin": "environment SERVABLE_REST_PORT"}
    assert found["cors"] == {"value": False, "origin": "default"}


def test_config_of_a_model_is_that_of_its_folder(servable: Any, tmp_path: Path) -> None:
    (tmp_path / "servable.toml").write_text("[labels]\nstable = 2\n")
    assert json.loads(servable("config", "show", tmp_path, "--json").stdout)["labels"]["value"] == {"stable": 2}


def test_a_setting_that_does_not_exist_is_told_with_the_nearest_one(servable: Any, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("rest_prot = 1\n")
    for result in (servable("config", "--config", tmp_path / "c.toml"), servable("config", SERVABLE_REST_PROT="1")):
        assert result.exit_code == 1
        assert "did you mean" in result.stderr
        assert "rest_port" in result.stderr.lower()


# --- doctor


@pytest.fixture
def free_ports() -> dict[str, str]:
    return {"SERVABLE_REST_PORT": "0", "SERVABLE_GRPC_PORT": "0"}


def checks(result: Any) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(result.stdout)["checks"]}


def test_doctor_finds_this_installation_in_order(servable: Any, free_ports: dict[str, str]) -> None:
    result = servable("doctor", "--json", **free_ports)
    assert result.exit_code == 0
    found = checks(result)
    assert all(check["ok"] for check in found.values()), found
    assert importlib.metadata.version("onnxruntime") in found["onnxruntime"]["found"]


def test_doctor_says_what_mends_a_missing_extra(servable: Any, free_ports: Any, monkeypatch: Any) -> None:
    def version(name: str) -> str:
        if name == "pillow":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    result = servable("doctor", **free_ports)
    assert result.exit_code == 0
    assert "pillow not installed" in result.stdout
    assert "pip install 'servable[image]'" in result.stdout


def test_doctor_fails_where_something_essential_is_missing(servable: Any, free_ports: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("servable.engines.library._package_folder", lambda _: None)
    result = servable("doctor", "--json", **free_ports)
    assert result.exit_code == 1
    found = checks(result)["onnxruntime"]
    assert found["mend"] == "pip install onnxruntime"
    assert not found["ok"]


def test_doctor_takes_an_installation_for_another_engine_without_onnx_runtime(
    servable: Any, free_ports: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "servable.engines.library._package_folder", lambda name: None if name == "onnxruntime" else tmp_path
    )
    result = servable("doctor", "--json", **free_ports)
    assert result.exit_code == 0
    assert not checks(result)["onnxruntime"]["ok"]


def test_doctor_tells_of_a_taken_port(servable: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = servable("doctor", "--json", SERVABLE_REST_PORT=port, SERVABLE_GRPC_PORT="off")
    assert result.exit_code == 0
    assert not checks(result)["REST port"]["ok"]
    assert checks(result)["gRPC port"]["found"] == "off"


def test_doctor_tells_of_wrong_settings_and_goes_on(servable: Any) -> None:
    result = servable("doctor", "--json", SERVABLE_BATCH="perhaps")
    assert result.exit_code == 1
    assert "batch must be one of" in checks(result)["settings"]["found"]
    assert checks(result)["numpy"]["ok"]
