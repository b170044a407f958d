"""Lists of models, labels and versions that change without end while requests run: none of them fails."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import text_format

from contract.model_server_process import ModelServerProcess, models_config
from servers import eventually
from streams import Stream
from version_folders import constant, publish_onnx, withdraw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from servable.server import ModelServer

RELOADS = 200
ALL = "model_version_policy { all {} }"


class Reloaded:
    """`tensorflow_model_server`, and the call that replaces its list."""

    def __init__(self, config: str, folder: Path, tfs: SimpleNamespace) -> None:
        file = folder / "models.config"
        file.write_text(config)
        self._tfs = tfs
        self.process = ModelServerProcess(f"--model_config_file={file}", rest=True)
        self.addresses = SimpleNamespace(
            rest=f"127.0.0.1:{self.process.rest_port}", grpc=f"127.0.0.1:{self.process.port}"
        )
        self.process.wait_for('"Ready:')
        self._channel = self.process.channel()
        self._reload = tfs.model(self._channel).HandleReloadConfigRequest

    def reload(self, config: str) -> Any:
        """The call under way."""
        request = self._tfs.management.ReloadConfigRequest()
        text_format.Parse(config, request.config)
        return self._reload.future(request, timeout=60)

    def end(self) -> None:
        self._channel.close()
        self.process.end()


@pytest.fixture
def serve(tmp_path: Path, tfs: SimpleNamespace) -> Iterator[Callable[[str], Reloaded]]:
    servers: list[Reloaded] = []

    def start(config: str) -> Reloaded:
        servers.append(Reloaded(config, tmp_path, tfs))
        return servers[-1]

    yield start
    for server in servers:
        server.end()


def test_models_that_stay_answer_through_a_storm_of_lists(
    serve: Callable[[str], Reloaded], models: Path, tfs: SimpleNamespace
) -> None:
    folders = {name: models / name for name in ("stays", "b", "c", "d")}
    for folder in folders.values():
        publish_onnx(folder, 1, constant(1))
        publish_onnx(folder, 2, constant(2))
    server = serve(models_config({"stays": folders["stays"]}))
    chance = random.Random(0)
    with Stream(server, "stays", tfs, rest=2, rpc=1) as stream:
        stream.wait_for(2)
        for _ in range(RELOADS // 4):
            # Four at a time: lists overtake each other, too.
            others = [chance.sample(sorted(folders), 2) for _ in range(4)]
            lists = [{"stays": folders["stays"]} | {name: folders[name] for name in names} for names in others]
            calls = [server.reload(models_config(each, chance.choice(["", ALL]))) for each in lists]
            assert [call.result().status.error_code for call in calls] == [0] * 4
        server.reload(models_config({"stays": folders["stays"]})).result()
        stream.wait_for(2)
    assert stream.failures == []
    assert set(stream.answers) == {2}


def test_a_label_moves_under_load_without_a_failed_request(
    serve: Callable[[str], Reloaded], models: Path, tfs: SimpleNamespace
) -> None:
    for version in (1, 2, 3):
        publish_onnx(models / "m", version, constant(version))
    folder = {"m": models / "m"}
    server = serve(models_config(folder, ALL))
    label = f'{ALL} version_labels {{ key: "stable" value: %d }}'

    def move(version: int) -> bool:
        # The versions behind the first are loaded when the server is ready already.
        return server.reload(models_config(folder, label % version)).exception() is None

    assert eventually(lambda: move(1))
    assert eventually(lambda: all(move(version) for version in (2, 3, 1)))
    with Stream(server, "m/labels/stable", tfs, rest=4, rpc=0) as stream:
        stream.wait_for(1)
        for _ in range(10):
            for version in (2, 3, 1):
                assert move(version)
                stream.wait_for(version)
    assert stream.failures == []
    assert set(stream.answers) == {1, 2, 3}


@pytest.mark.parametrize("policy", ["availability", "resource"])
def test_versions_appear_and_vanish_at_any_moment_while_requests_run(
    models: Path, start: Callable[..., ModelServer], tfs: SimpleNamespace, policy: str
) -> None:
    publish_onnx(models / "m", 1, constant(1))
    server = start(swap_policy=policy)
    chance, there, last = random.Random(1), [1], 1
    with Stream(server, "m", tfs, rest=2, rpc=1) as stream:
        stream.wait_for(1)
        for _ in range(60):
            # Nothing waits for the server, so that many of these come while it still works at others.
            if len(there) > 1 and chance.random() < 0.5:
                gone = chance.choice(there)
                there.remove(gone)
                withdraw(models / "m", gone)
            else:
                last += 1
                publish_onnx(models / "m", last, constant(last))
                there.append(last)
        stream.wait_for(max(there))
    assert stream.failures == []
