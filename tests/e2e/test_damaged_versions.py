"""SavedModels that are damaged, cut short or copied by halves: the version before answers, and the status says why."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import requests

from servable.lifecycle import State
from streams import Stream
from version_folders import constant, publish_onnx, withdraw

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import SimpleNamespace

    from servable.server import ModelServer

pytestmark = pytest.mark.tensorflow

VARIABLES = "variables/variables.data-00000-of-00001"


def cut(file: Path, length: int) -> None:
    file.write_bytes(file.read_bytes()[:length])


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "a_graph_of_other_bytes": lambda folder: (folder / "saved_model.pb").write_bytes(b"\x08\x01\xff\xff"),
    "a_graph_that_is_cut_short": lambda folder: cut(folder / "saved_model.pb", 1000),
    "an_empty_graph": lambda folder: cut(folder / "saved_model.pb", 0),
    "a_graph_of_text": lambda folder: (folder / "saved_model.pb").write_text("<html>" * 1000),
    "variables_that_are_cut_short": lambda folder: cut(folder / VARIABLES, 2),
    "variables_without_their_values": lambda folder: (folder / VARIABLES).unlink(),
    "variables_without_their_index": lambda folder: (folder / "variables/variables.index").unlink(),
    "variables_that_are_missing": lambda folder: shutil.rmtree(folder / "variables"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_version_leaves_the_old_one_serving(
    saved_models: Path,
    models: Path,
    start: Callable[..., ModelServer],
    tfs: SimpleNamespace,
    damage: Callable[[Path], Any],
) -> None:
    publish_onnx(models / "m", 1, constant(1))
    server = start(load_retries=0)
    with Stream(server, "m", tfs, rest=1, rpc=1) as stream:
        stream.wait_for(1)
        staged = shutil.copytree(saved_models / "affine" / "1", models.parent / "2")
        damage(staged)
        staged.rename(models / "m" / "2")
        assert server.wait_for(lambda routes: failure(server, 2) is not None, 30)
        publish_onnx(models / "m", 3, constant(3))
        stream.wait_for(3)
    assert stream.failures == []
    assert set(stream.answers) == {1, 3}
    url = f"http://{server.addresses.rest}/v1/models/m/versions/2"
    [told] = requests.get(url, timeout=20).json()["model_version_status"]
    assert told["state"] == "END"
    assert told["status"]["error_code"] != "OK"
    assert told["status"]["error_message"]


def failure(server: ModelServer, version: int) -> Any:
    found = server.routes.models["m"].status.versions
    return next((each.failure for each in found if each.version == version and each.state is State.END), None)


COPY = """
import resource, shutil, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000_000,) * 2)
shutil.copytree(sys.argv[1], sys.argv[2])
"""


def test_a_copy_that_a_full_disk_cut_short_never_serves_and_the_next_try_does(
    saved_models: Path, models: Path, start: Callable[..., ModelServer], tfs: SimpleNamespace
) -> None:
    publish_onnx(models / "m", 1, constant(1))
    server = start(load_retries=0, settle=0.2)
    source = saved_models / "large" / "1"
    with Stream(server, "m", tfs, rest=1, rpc=1) as stream:
        stream.wait_for(1)
        command = [sys.executable, "-c", COPY, str(source), str(models / "m" / "2")]
        copied = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert "File too large" in copied.stderr
        assert server.wait_for(lambda routes: failure(server, 2) is not None, 30)
        stream.wait_for(1)
        withdraw(models / "m", 2)
    assert stream.failures == []
    assert set(stream.answers) == {1}
    shutil.copytree(source, models / "m" / "2")
    assert server.wait_for(lambda routes: routes.models["m"].available == (2,), 30)
    url = f"http://{server.addresses.rest}/v1/models/m/versions/2:predict"
    answer = requests.post(url, json={"instances": [[0.0] * 2500]}, timeout=20)
    assert answer.json() == {"predictions": [0.0]}
