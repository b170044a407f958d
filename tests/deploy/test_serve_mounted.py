"""deploy/container/serve-mounted.sh: every layout that KServe mounts is served under the right name."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from container import SCRIPTS, clean_environment

import tiny_models
from version_folders import publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from container import ContainerProcess

    Run = Callable[..., ContainerProcess]

FREE_PORTS = ("--port", "0", "--rest-port", "0", "--settle", "0s")


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    folder = tmp_path / "mnt models"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("layout", ["versions", "files", "any name"])
def test_one_model_is_served_under_the_name_of_the_service(
    run_script: Run, mounted: Path, tmp_path: Path, layout: str
) -> None:
    if layout == "versions":
        publish_onnx(mounted, 1, tiny_models.centred())
        publish_onnx(mounted, 2, tiny_models.double())
    else:
        name = "model.onnx" if layout == "files" else "any name.onnx"
        (mounted / name).write_bytes(tiny_models.double().SerializeToString())
    mounted.chmod(0o555)
    server = run_script("serve-mounted.sh", "flowers", str(mounted), *FREE_PORTS, TMPDIR=str(tmp_path))
    server.wait_until_ready()
    assert server.predict("flowers", [[1.0, 2.0]]) == [[2.0, 4.0]]
    assert server.stop(signal.SIGTERM) == 0


def test_several_models_keep_their_own_names(run_script: Run, mounted: Path) -> None:
    publish_onnx(mounted / "doubled", 1, tiny_models.double())
    (mounted / "doubled" / "config.pbtxt").write_text('platform: "onnxruntime_onnx"')
    server = run_script("serve-mounted.sh", "flowers", str(mounted), *FREE_PORTS)
    server.wait_until_ready()
    assert server.predict("doubled", [[1.0, 2.0]]) == [[2.0, 4.0]]


@pytest.mark.parametrize(
    ("files", "served"),
    [
        (["saved_model.pb", "variables/variables.index"], {"1/saved_model.pb", "1/variables/variables.index"}),
        (["scorer.tflite"], {"1/model.tflite"}),
        (["model.tflite", "labels.txt"], {"1/model.tflite", "1/labels.txt"}),
        (["servable.json", "weights.bin"], {"1/servable.json", "1/weights.bin"}),
        (["0003/model.tflite", "scorer.tflite"], {"0003/model.tflite", "scorer.tflite"}),
        (["README.md"], {"README.md"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_the_server_sees_the_files_of_a_version_where_it_looks_for_them(
    commands: Path, mounted: Path, tmp_path: Path, files: list[str], served: set[str]
) -> None:
    """With a server that shows what it is given, and ends."""
    for file in files:
        (mounted / file).parent.mkdir(exist_ok=True)
        (mounted / file).touch()
    show = '#!/bin/sh\ncd "${2#*=}" && find -L . -type f | sed "s,^\\./,,"\n'
    (commands / "servable").write_text(show)
    done = subprocess.run(
        [SCRIPTS / "serve-mounted.sh", "flowers", mounted],
        env=clean_environment(commands, {"TMPDIR": str(tmp_path)}),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert set(done.stdout.splitlines()) == served, done.stderr


def test_without_a_folder_it_says_how_it_is_called(commands: Path) -> None:
    done = subprocess.run(
        [SCRIPTS / "serve-mounted.sh", "flowers"],
        env=clean_environment(commands, {}),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: serve-mounted NAME FOLDER")
