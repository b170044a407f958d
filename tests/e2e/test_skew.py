"""Skew on a real server: inputs that drift away from the training are told of, inputs like those are not."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from servable.cli import main
from servable.client import Client
from servable.convert.save import save
from servable.server.skew_window import BLOCK_ROWS, BLOCKS
from servers import eventually, metric
from tiny_models import double, echo_text
from version_folders import publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from servable.server import ModelServer


def normal(rows: int, seed: int, shift: float = 0.0) -> Any:
    """Two columns, of which the second is shifted."""
    drawn = np.random.default_rng(seed).normal(size=(rows, 2)).astype(np.float32)
    return drawn + np.array([0, shift], np.float32)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers look at what came twenty times a second."""
    monkeypatch.setattr("servable.server.skew.INTERVAL_S", 0.05)


@pytest.fixture
def saved(models: Path) -> Path:
    """The folder of models, with one that knows its training inputs."""
    save(double(), models / "double", examples=normal(8, 0), statistics=normal(5000, 1))
    return models


def send(server: ModelServer, inputs: Any, model: str = "double", url: str = "") -> None:
    with Client(url or f"http://{server.addresses.rest}") as client:
        for part in np.array_split(inputs, 20):
            client.predict(model, part)


def rows_seen(server: ModelServer) -> float:
    return metric(server, "servable_skew_rows")


def psi(server: ModelServer, feature: str) -> float:
    return metric(server, "servable_feature_psi", feature=feature)


def status(server: ModelServer, *arguments: str) -> str:
    result = CliRunner().invoke(main, ["status", f"http://{server.addresses.rest}", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_inputs_that_drift_are_in_metrics_status_and_log(
    saved: Path, start: Callable[..., ModelServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = start(skew_sample=1.0)
    send(server, normal(600, 2, shift=1.5))
    assert eventually(lambda: rows_seen(server) == 600)
    assert psi(server, "x[1]") > 1 > 0.1 > psi(server, "x[0]")
    assert metric(server, "servable_feature_skewed") == metric(server, "servable_feature_skewed", feature="x[1]") == 1
    assert "skew: x[1] PSI" in status(server)
    [drifted, steady] = json.loads(status(server, "--json"))["models"]["double"][0]["skew"]
    assert (drifted["feature"], drifted["skewed"], steady["skewed"]) == ("x[1]", True, False)
    [warning] = [record for record in caplog.records if "Skew" in record.message]
    assert warning.levelno == logging.WARNING
    assert "model double version 1 gets inputs unlike those of its training: x[1]: PSI" in warning.message


def test_inputs_as_in_training_are_not_told_of(
    saved: Path, start: Callable[..., ModelServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = start(skew_sample=1.0)
    send(server, normal(600, 3), url=f"grpc://{server.addresses.grpc}")
    assert eventually(lambda: rows_seen(server) == 600)
    assert psi(server, "x[0]") < 0.1 > psi(server, "x[1]")
    assert metric(server, "servable_feature_skewed") == 0
    assert "skew" not in status(server)
    assert "Skew" not in caplog.text


def test_missing_values_are_drift_too(saved: Path, start: Callable[..., ModelServer]) -> None:
    server = start(skew_sample=1.0)
    inputs = normal(600, 4)
    inputs[::4, 0] = np.nan
    send(server, inputs, url=f"grpc://{server.addresses.grpc}")
    assert eventually(lambda: metric(server, "servable_feature_missing_ratio", feature="x[0]") == 0.25)
    assert metric(server, "servable_feature_skewed", feature="x[0]") == 1
    assert "25 % missing" in status(server)


def test_categories_of_text_drift(models: Path, start: Callable[..., ModelServer]) -> None:
    towns = np.array(["Rome", "Oslo"], object)
    draw = np.random.default_rng(0)
    save(echo_text(), models / "echo", examples=towns, statistics=draw.choice(towns, 1000, p=[0.8, 0.2]))
    server = start(skew_sample=1.0)
    send(server, draw.choice(towns, 400, p=[0.2, 0.8]), model="echo")
    assert eventually(lambda: psi(server, "text") > 1)


def test_what_drifted_long_ago_is_forgotten(
    saved: Path, start: Callable[..., ModelServer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server = start(skew_sample=1.0)
    send(server, normal(400, 5, shift=2.0))
    assert eventually(lambda: metric(server, "servable_feature_skewed") == 1)
    for seed in range(BLOCKS + 1):
        send(server, normal(BLOCK_ROWS, 10 + seed))
        server._skew.look()
    assert metric(server, "servable_feature_skewed") == 0
    assert rows_seen(server) <= BLOCKS * BLOCK_ROWS
    assert "as in training again: x[1]" in caplog.text


def test_few_rows_say_nothing(saved: Path, start: Callable[..., ModelServer]) -> None:
    server = start(skew_sample=1.0)
    send(server, normal(100, 6, shift=9.0))
    assert eventually(lambda: rows_seen(server) == 100)
    assert "servable_feature_psi" not in server.metrics()


def test_a_model_can_be_left_out(saved: Path, start: Callable[..., ModelServer]) -> None:
    (saved / "double" / "servable.toml").write_text("skew_sample = 0")
    save(double(), saved / "other", examples=normal(8, 0), statistics=normal(5000, 1))
    server = start(skew_sample=1.0)
    send(server, normal(400, 7, shift=9.0))
    send(server, normal(400, 7, shift=9.0), model="other")
    assert eventually(lambda: metric(server, "servable_feature_skewed", model="other") == 1)
    assert metric(server, "servable_skew_rows", model="double") == 0


def test_to_watch_begins_and_ends_while_the_version_serves(saved: Path, start: Callable[..., ModelServer]) -> None:
    settings = saved / "double" / "servable.toml"
    settings.write_text("skew_sample = 0")
    server = start()
    send(server, normal(400, 12))
    settings.write_text("skew_sample = 1.0")
    server.look_at_once()
    send(server, normal(400, 12))
    assert eventually(lambda: rows_seen(server) == 400)
    settings.write_text("skew_sample = 0.0")
    server.look_at_once()
    send(server, normal(400, 12))
    server._skew.look()
    assert rows_seen(server) == 400


def test_versions_without_enough_statistics_are_not_watched(models: Path, start: Callable[..., ModelServer]) -> None:
    publish_onnx(models / "plain", 1, double())
    save(double(), models / "double", examples=normal(8, 0))
    server = start(skew_sample=1.0)
    send(server, normal(400, 8, shift=9.0))
    server._skew.look()
    assert "servable_skew" not in server.metrics()


def test_versions_in_processes_of_their_own_are_watched(saved: Path, start: Callable[..., ModelServer]) -> None:
    server = start(skew_sample=1.0, isolation="process")
    send(server, normal(400, 9, shift=1.5))
    assert eventually(lambda: metric(server, "servable_feature_skewed", feature="x[1]") == 1)


@pytest.mark.parametrize("rows", [20_000, 400])
def test_one_large_request_does_not_fill_the_window(rows: int, saved: Path, start: Callable[..., ModelServer]) -> None:
    server = start(skew_sample=1.0)
    with Client(f"grpc://{server.addresses.grpc}") as client:
        client.predict("double", normal(rows, 11))
    assert eventually(lambda: 0 < rows_seen(server) <= BLOCK_ROWS)
