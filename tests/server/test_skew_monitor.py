"""The monitor of skew, step by step, without a data plane."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from servable.cli.metrics_page import samples
from servable.cli.skew_status import skew_note, skew_of
from servable.model.manifest import Manifest
from servable.model.signatures import TensorSpec
from servable.model.statistics import describe_tensors
from servable.server.skew import SkewMonitor
from servable.wire.tensors import Tensor, as_tensor, to_named

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable.engines.load import Loaded

DRAW = np.random.default_rng(0)


def normal(rows: int, shift: float = 0.0) -> Tensor:
    return as_tensor(DRAW.normal(size=rows) + shift, "FP32")


class Watched:
    """A monitor of version 1 of the model `a"b`, whose input x was normal."""

    def __init__(self, loaded: Loaded) -> None:
        self.waiting: list[Any] = []
        self.page = ""
        statistics = describe_tensors([(TensorSpec("x", "FP32", (-1,)), normal(5000))])
        manifest = Manifest("onnx", "model.onnx", (), statistics={"serving_default": statistics})
        self.loaded = replace(loaded, manifest=manifest)
        self.monitor = SkewMonitor(self.take, self.show, lambda model, version: 0.2)
        self.monitor.follow({('a"b', 1): self.loaded})

    def take(self) -> list[Any]:
        taken, self.waiting = self.waiting, []
        return taken

    def show(self, page: str) -> None:
        self.page = page

    def send(self, tensor: Tensor, version: int = 1, signature: str = "serving_default") -> None:
        self.waiting.append(('a"b', version, signature, [to_named("x", tensor)]))
        self.monitor.look()

    @property
    def psi(self) -> list[float]:
        return [value for _, value in samples(self.page, "servable_feature_psi")]


@pytest.fixture
def watched(loaded: Callable[..., Loaded]) -> Any:
    watched = Watched(loaded())
    yield watched
    watched.monitor.stop()


def test_names_are_escaped_and_read_back(watched: Watched) -> None:
    watched.send(normal(500, 2.0))
    [feature] = skew_of(watched.page)['a"b', "1"]
    assert (feature.feature, feature.signature, feature.skewed) == ("x", "serving_default", True)
    assert skew_note([feature]).startswith("skew: x PSI ")


def test_requests_of_other_versions_and_signatures_are_passed_over(watched: Watched) -> None:
    watched.send(normal(500), version=2)
    watched.send(normal(500), signature="other")
    assert 'servable_skew_rows{model="a\\"b",version="1",signature="serving_default"} 0' in watched.page


@pytest.mark.parametrize(
    "value",
    [np.float32(9), np.zeros((500, 0), np.float32), np.zeros((0,), np.float32), np.array(["a"] * 500, object)],
    ids=["scalar", "no columns", "no rows", "texts"],
)
def test_tensors_of_any_form_are_counted(value: Any, watched: Watched) -> None:
    watched.send(as_tensor(value))
    watched.send(normal(500))
    assert len(watched.psi) == 1


def test_a_warning_comes_once_until_the_feature_is_calm_again(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(3):
        watched.send(normal(1000, 2.0))
    for _ in range(12):
        watched.send(normal(1000))
    watched.send(normal(9000, 2.0))
    said = [record.levelno for record in caplog.records if record.message.startswith("Skew")]
    assert said == [logging.WARNING, logging.INFO], "one large request does not fill the window"


def test_a_version_that_goes_is_forgotten_and_one_that_stays_keeps_its_window(watched: Watched) -> None:
    watched.send(normal(500))
    watched.monitor.follow({('a"b', 1): watched.loaded})
    watched.monitor.look()
    assert len(watched.psi) == 1
    watched.monitor.follow({('a"b', 1): replace(watched.loaded)})
    watched.monitor.look()
    assert watched.psi == []
    watched.monitor.follow({})
    watched.monitor.look()
    assert watched.page == ""
