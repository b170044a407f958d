"""Versions in child servers: what they answer, how they fail, how they end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import servable
import tiny_models
from servable.engines.options import EngineOptions, TensorFlowOptions
from servable.errors import EngineMissing, GoldenMismatch, InvalidArgument, NotFound, ServableError, Unavailable
from servable.lifecycle import State
from servable.model.manifest import Manifest, record_files, write_manifest
from servable.replicas import ProcessLoader
from servable.replicas.job import Job, describe_failure, failure_of
from servers import eventually
from version_folders import publish, publish_onnx, publish_python, withdraw

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

    from servable.server import ModelServer

SLEEPER = """
import os, pathlib, time

class Model:
    signature = {"inputs": {"x": ("FP32", [-1])}, "outputs": {"y": ("FP32", [-1])}}

    def predict(self, x):
        pathlib.Path("@ENTERED@").touch()
        if x[0] < 0:
            raise ValueError("negative")
        time.sleep(float(x[0]))
        return x
"""


def children() -> set[int]:
    """Process ids of the children of this process."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # the thread has ended
            found |= set(map(int, (task / "children").read_text().split()))
    return found


def child_of(server: ModelServer, model: str = "m", version: int = 1) -> int:
    process = server._loaded[model, version].process  # nobody else may know it
    assert process is not None
    return process.pid


def ask(server: ModelServer, instances: Any, model: str = "m", timeout: float = 20) -> Any:
    url = f"http://{server.addresses.rest}/v1/models/{model}:predict"
    body = json.dumps({"instances": instances}).encode()
    try:
        with urllib.request.urlopen(url, body, timeout=timeout) as answer:
            return json.load(answer)["predictions"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["error"]


def test_a_version_runs_in_a_process_of_its_own(models: Path, start: Callable[..., ModelServer]) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    server = start(isolation="process")
    assert ask(server, [[1, 2]]) == [[2.0, 4.0]]
    pid = child_of(server)
    assert pid in children()
    assert "onnxruntime" in Path(f"/proc/{pid}/maps").read_text()


def test_the_footprint_is_that_of_the_process(models: Path, start: Callable[..., ModelServer]) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    server = start(isolation="process")
    resident = int(Path(f"/proc/{child_of(server)}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    [version] = server.report().versions
    assert version.memory == pytest.approx(resident, rel=0.3)


def test_strings_and_every_protocol_go_through(
    models: Path, start: Callable[..., ModelServer], tfs: Any, channel: Callable[[ModelServer], grpc.Channel]
) -> None:
    publish_onnx(models / "text", 1, tiny_models.echo_text())
    publish_onnx(models / "m", 1, tiny_models.double())
    server = start(isolation="process")
    texts = ["", "plain", "\u00fc\u4e2d"]
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    for url in (f"http://{server.addresses.rest}", f"grpc://{server.addresses.grpc}"):
        with servable.Client(url) as client:
            assert client.predict("text", np.array(texts, object)).tolist() == [text.encode() for text in texts]
            np.testing.assert_array_equal(client.predict("m", x), x * 2)
    request = tfs.predict.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(tfs.floats([[1, 2]]))
    answer = tfs.prediction(channel(server)).Predict(request, timeout=20)
    assert list(answer.outputs["y"].float_val) == [2, 4]
    infer = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
    with urllib.request.urlopen(
        f"http://{server.addresses.rest}/v2/models/m/infer", json.dumps(infer).encode(), timeout=20
    ) as found:
        assert json.load(found)["outputs"][0]["data"] == [2, 4]


def test_a_large_tensor_goes_through_whole(models: Path, start: Callable[..., ModelServer]) -> None:
    publish_onnx(models / "m", 1, tiny_models.double(size=1000))
    server = start(isolation="process")
    x = np.random.default_rng(0).random((2000, 1000), np.float32)
    with servable.Client(f"grpc://{server.addresses.grpc}") as client:
        np.testing.assert_array_equal(client.predict("m", x), x * 2)


def test_errors_are_the_same_as_without_isolation(
    models: Path, start: Callable[..., ModelServer], tmp_path: Path
) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    publish_onnx(models / "sum", 1, tiny_models.add())
    publish_python(models / "slow", 1, SLEEPER.replace("@ENTERED@", str(tmp_path / "entered")))
    plain, isolated = start(), start(isolation="process")
    for model, instances in [
        ("m", [[1, 2, 3]]),
        ("m", [["a", "b"]]),
        ("m", [1]),
        ("sum", [{"a": 1, "b": 2}, {"a": 3}]),
        ("slow", [-1]),
        ("none", [1]),
    ]:
        told = ask(plain, instances, model)
        assert told[0] >= 400, told
        assert ask(isolated, instances, model) == told
    with pytest.raises(ServableError) as expected, servable.Client(f"grpc://{plain.addresses.grpc}") as client:
        client.predict("sum", {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)})
    with pytest.raises(ServableError) as found, servable.Client(f"grpc://{isolated.addresses.grpc}") as client:
        client.predict("sum", {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)})
    assert (type(found.value), str(found.value)) == (type(expected.value), str(expected.value))


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_a_manifest_decides_which_of_several_files_is_the_model(
    models: Path, start: Callable[..., ModelServer], isolation: str
) -> None:
    # Python code that has an ONNX file beside it, which would be a question without the manifest.
    files = {"model.py": SLEEPER.replace("@ENTERED@", str(models / "entered")).encode(), "model.onnx": b"no model"}
    version = publish(models / ".staged", 1, files)
    write_manifest(version, Manifest("python", "model.py", (), record_files(version)))
    version.parent.rename(models / "m")
    assert ask(start(isolation=isolation), [0.0]) == [0.0]


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_a_version_that_cannot_be_loaded_says_why(
    models: Path, start: Callable[..., ModelServer], isolation: str
) -> None:
    publish_python(models / "m", 1, "raise RuntimeError('no such thing')")
    server = start(ready=False, isolation=isolation, load_retries=0)
    with pytest.raises(Unavailable, match="no such thing"):
        server.wait_until_ready(20)
    assert not [pid for pid in children() if "replicas.child" in Path(f"/proc/{pid}/cmdline").read_text()]


def test_a_model_may_be_isolated_alone(models: Path, start: Callable[..., ModelServer]) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    publish_onnx(models / "other", 1, tiny_models.double())
    (models / "m" / "servable.toml").write_text('isolation = "process"\n')
    server = start()
    assert child_of(server) in children()
    assert server._loaded["other", 1].process is None


def test_a_crash_fails_only_its_own_requests_and_is_mended(models: Path, start: Callable[..., ModelServer]) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    publish_onnx(models / "other", 1, tiny_models.double())
    server = start(isolation="process")
    first, other = child_of(server), child_of(server, "other")
    ended, answers, others = threading.Event(), [], []

    def load(model: str, heard: list[Any]) -> None:
        while not ended.is_set():
            heard.append(ask(server, [[1, 2]], model))

    clients = [threading.Thread(target=load, args=each) for each in [("m", answers)] * 3 + [("other", others)]]
    for client in clients:
        client.start()
    try:
        assert eventually(lambda: len(answers) > 50)
        os.kill(first, signal.SIGKILL)
        assert server.wait_for(lambda routes: not routes.models["m"].available, 20)
        status = next(each for each in server.routes.models["m"].status.versions if each.version == 1)
        assert status.state is State.LOADING or server.routes.models["m"].available
        assert server.wait_for(lambda routes: routes.models["m"].available == (1,), 30)
        again = len(answers)
        assert eventually(lambda: len(answers) > again + 20)
    finally:
        ended.set()
        for client in clients:
            client.join()
    assert child_of(server) != first
    assert child_of(server, "other") == other
    assert {json.dumps(each) for each in others} == {"[[2.0, 4.0]]"}
    refused = [each for each in answers if isinstance(each, tuple)]
    assert {code for code, _ in refused} == {503}
    assert any("SIGKILL" in text and "loaded again" in text for _, text in refused)
    assert answers[-1] == [[2.0, 4.0]]


def test_a_version_that_is_down_says_so(models: Path, start: Callable[..., ModelServer]) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    server = start(isolation="process", load_retry_interval=60)
    os.kill(child_of(server), signal.SIGKILL)
    assert server.wait_for(lambda routes: not routes.models["m"].available)
    assert server.wait_for(lambda routes: bool(routes.models["m"].available))
    # The second time it waits: it crashed soon after it was loaded.
    os.kill(child_of(server), signal.SIGSEGV)
    assert server.wait_for(lambda routes: not routes.models["m"].available)
    with servable.Client(f"http://{server.addresses.rest}") as client, pytest.raises(Unavailable, match="SIGSEGV"):
        client.predict("m", np.ones((1, 2), np.float32))
    [version] = server.report().versions
    assert (version.state, version.failed) == ("LOADING", True)
    assert "SIGSEGV" in version.note
    assert "SIGSEGV" in server.report().not_ready[0]


def test_an_unload_ends_the_process(models: Path, start: Callable[..., ModelServer]) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    server = start(isolation="process")
    first = child_of(server)
    publish_onnx(models / "m", 2, tiny_models.double())
    assert server.wait_for(lambda routes: routes.models["m"].available == (2,))
    assert eventually(lambda: first not in children())
    assert ask(server, [[1, 2]]) == [[2.0, 4.0]]
    second = child_of(server, version=2)
    server.stop()
    assert second not in children()


def test_many_swaps_leave_nothing_behind(models: Path, start: Callable[..., ModelServer]) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    server = start(isolation="process")
    folder = Path(server._loaded["m", 1].process.job.socket).parent  # type: ignore[union-attr]
    before = None
    for version in range(2, 22):
        publish_onnx(models / "m", version, tiny_models.double())
        withdraw(models / "m", version - 1)
        assert server.wait_for(lambda routes, now=version: routes.models["m"].available == (now,), 30)
        assert ask(server, [[1, 2]]) == [[2.0, 4.0]]
        live = child_of(server, version=version)
        assert eventually(lambda live=live: children() == {live})
        assert eventually(lambda: len(list(folder.iterdir())) == 1)
        files = len(list(Path("/proc/self/fd").iterdir()))
        before = before or files
    assert files <= before + 2
    server.stop()
    assert not children()
    assert not folder.exists()


def test_savedmodels_answer_and_describe_themselves_as_without_isolation(
    models: Path, start: Callable[..., ModelServer], saved_models: Path
) -> None:
    for name in ("affine", "words", "half_plus_two"):
        shutil.copytree(saved_models / name, models / name)
    plain, isolated = start(), start(isolation="process")

    def metadata(server: ModelServer, name: str) -> Any:
        url = f"http://{server.addresses.rest}/v1/models/{name}/metadata"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.load(answer)

    for name in ("affine", "words", "half_plus_two"):
        assert metadata(isolated, name) == metadata(plain, name)
    for name, instances in [("affine", [[1, 2]]), ("words", ["a", "bb", "new"]), ("half_plus_two", [[4]])]:
        assert ask(isolated, instances, name) == ask(plain, instances, name)
    assert ask(isolated, [[1, 2, 3]], "affine") == ask(plain, [[1, 2, 3]], "affine")


def test_a_deadline_ends_the_wait_and_the_model_goes_on(
    models: Path, start: Callable[..., ModelServer], tmp_path: Path
) -> None:
    publish_python(models / "m", 1, SLEEPER.replace("@ENTERED@", str(tmp_path / "entered")))
    server = start(isolation="process")
    with servable.Client(f"grpc://{server.addresses.grpc}") as client:
        with pytest.raises(servable.errors.DeadlineExceeded):
            client.predict("m", np.ones(1, np.float32), timeout=0.1)
        assert client.predict("m", np.zeros(1, np.float32)).tolist() == [0]


def test_what_a_child_logs_comes_out_here(
    models: Path, start: Callable[..., ModelServer], caplog: pytest.LogCaptureFixture
) -> None:
    source = SLEEPER.replace("import os", "import logging, sys, os").replace(
        "class Model", "logging.getLogger('mine').warning('I am here'); print('not a report')\n\nclass Model"
    )
    publish_python(models / "m", 1, source)
    start(isolation="process")
    [record] = [record for record in caplog.records if record.name == "mine"]
    assert record.getMessage() == "model m version 1: I am here"


PARENT = """
import sys, servable
with servable.serve(sys.argv[1], rest_port=0, grpc_port=None, settle=0, isolation="process") as server:
    print(server._loaded["m", 1].process.pid, flush=True)
    sys.stdin.read()
"""


def test_a_child_ends_with_its_parent(models: Path) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(models)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert "replicas.child" in Path(f"/proc/{child}/cmdline").read_text()
    finally:
        parent.kill()
        parent.communicate()
    assert eventually(lambda: _is_gone(child))


def _is_gone(pid: int) -> bool:
    """Whether it has ended; an orphan may stay a zombie where no init process looks after it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def test_a_stopped_loader_gives_its_loads_up(models: Path) -> None:
    path = publish_python(models / "m", 1, "import time; time.sleep(60)")
    loader = ProcessLoader()
    failures: list[BaseException] = []

    def load() -> None:
        try:
            loader.load("m", 1, path, EngineOptions())
        except ServableError as error:
            failures.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    assert eventually(lambda: bool(children()))
    loader.stop()
    thread.join(20)
    assert isinstance(failures[0], Unavailable)
    assert not children()


def test_a_job_is_read_as_it_was_written() -> None:
    special = TensorFlowOptions(tags=("a", "b"), custom_ops=(Path("/x.so"),), session_config=b"\x00\xff")
    options = EngineOptions(2, None, Path("/lib.so"), special, 3)
    job = Job("m", 1, Path("/models/m/1"), "/run/1.sock", options, 7, 20)
    assert Job.from_json(job.to_json()) == job


@pytest.mark.parametrize(
    "error",
    [
        NotFound("no"), EngineMissing("no", hint="install"), GoldenMismatch("differs"), InvalidArgument("a"),
        ServableError("unknown"),
    ],
)  # fmt: skip
def test_an_error_is_the_same_on_the_other_side(error: ServableError) -> None:
    found = failure_of(json.loads(json.dumps(describe_failure(error))))
    assert (type(found), found.message, found.hint) == (type(error), error.message, error.hint)


def test_an_error_that_is_not_ours_keeps_its_code_and_name() -> None:
    found = failure_of(describe_failure(FileNotFoundError(2, "No such file", "x")))
    assert isinstance(found, NotFound)
    assert "FileNotFoundError" in found.message
