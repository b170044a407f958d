"""MultiInference on a SavedModel: all signatures in one run of the graph."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from servers import metric

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import SimpleNamespace

    import grpc

    from servable.server import ModelServer

pytestmark = pytest.mark.tensorflow
ROWS = [2.0, 6.0]


@pytest.mark.parametrize("batch", ["off", "on"])
def test_a_saved_model_answers_for_all_signatures_in_one_run(
    batch: str,
    models: Path,
    saved_models: Path,
    start: Callable[..., ModelServer],
    tfs: SimpleNamespace,
    channel: Callable[[ModelServer], grpc.Channel],
) -> None:
    shutil.copytree(saved_models / "half_plus_two", models / "half_plus_two")
    server = start(batch=batch)
    request = tfs.inference.MultiInferenceRequest()
    for kind in ("regress", "classify"):
        task = request.tasks.add(method_name=f"tensorflow/serving/{kind}")
        task.model_spec.name, task.model_spec.signature_name = "half_plus_two", kind
    for value in ROWS:
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(value)
    before = metric(server, "servable_run_seconds_count")
    answer = tfs.prediction(channel(server)).MultiInference(request, timeout=20)
    regressed, classified = answer.results
    assert [row.value for row in regressed.regression_result.regressions] == [value / 2 + 2 for value in ROWS]
    scores = [row.classes[0].score for row in classified.classification_result.classifications]
    assert scores == [value + 4 for value in ROWS]
    assert [result.model_spec.signature_name for result in answer.results] == ["regress", "classify"]
    assert metric(server, "servable_run_seconds_count") - before == 1
