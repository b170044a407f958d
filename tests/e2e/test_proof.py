"""Versions that do not answer as they did: refused with the table, while the version before goes on."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from servable.convert.save import save
from servable.lifecycle import State
from servable.model.golden import GoldenExample, read_examples, write_examples
from servable.model.manifest import read_manifest, record_files, write_manifest
from servable.wire.tensors import Tensor
from tiny_models import centred

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from servable.server import ModelServer

IRIS, SPECIES = load_iris(return_X_y=True)
CLASSIFIER = LogisticRegression(max_iter=500)
PIPELINE = make_pipeline(StandardScaler(), CLASSIFIER).fit(IRIS, SPECIES)


def forge(folder: Path) -> None:
    """Makes the manifest agree with the files again, as if they had been saved so."""
    manifest = read_manifest(folder)
    assert manifest is not None
    write_manifest(folder, replace(manifest, files=record_files(folder)))


def leave_preprocessing_out(folder: Path) -> None:
    """The classifier alone: it takes the same, and finds nothing wrong with it."""
    alone = save(CLASSIFIER, folder.parent / ".alone" / "m", examples=IRIS[:8])
    (folder / "model.onnx").write_bytes((alone.path / "model.onnx").read_bytes())
    forge(folder)


def change_weights(folder: Path) -> None:
    weight = np.float32(CLASSIFIER.coef_[0, 0]).tobytes()
    content = (folder / "model.onnx").read_bytes()
    assert weight in content
    (folder / "model.onnx").write_bytes(content.replace(weight, np.float32(9.0).tobytes()))
    forge(folder)


def change_a_golden_answer(folder: Path) -> None:
    [example] = read_examples(folder)
    assert example.outputs is not None
    wrong = Tensor("INT64", example.outputs["label"].array + 1)
    write_examples(folder, [GoldenExample(example.inputs, {**example.outputs, "label": wrong})])
    forge(folder)


@pytest.mark.parametrize(
    ("harm", "output"),
    [(leave_preprocessing_out, "probabilities"), (change_weights, "probabilities"), (change_a_golden_answer, "label")],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_version_that_answers_otherwise_is_refused_with_the_table(
    harm: Callable[[Path], None], output: str, models: Path, start: Callable[..., ModelServer]
) -> None:
    save(PIPELINE, models / "m", examples=IRIS[::20])
    server = start(load_retries=0)
    staged = save(PIPELINE, models.parent / "staged" / "m", examples=IRIS[::20], version=2).path
    harm(staged)
    staged.rename(models / "m" / "2")
    assert server.wait_for(lambda routes: failure(routes) is not None, 30)
    message = failure(server.routes).message
    assert "does not answer as its golden examples say" in message
    assert "expected" in message
    assert output in message
    answer = requests.post(
        f"http://{server.addresses.rest}/v1/models/m:predict", json={"instances": IRIS[:1].tolist()}, timeout=20
    ).json()
    assert answer["predictions"][0]["label"] == 0
    assert server.routes.models["m"].available == (1,)


def failure(routes: Any) -> Any:
    found = routes.models["m"].status.versions
    return next((each.failure for each in found if each.version == 2 and each.state is State.END), None)


def test_rows_that_influence_each_other_are_not_joined(models: Path, start: Callable[..., ModelServer]) -> None:
    """A normalisation over the batch: whoever is joined with others gets another answer."""
    version = save(centred(), models / "m", examples=np.array([[1, 2], [3, 5]], np.float32))
    assert version.manifest.batch_safe is False
    server = start(batch_timeout=0.01)
    wrong: list[Any] = []

    def ask(number: int) -> None:
        with requests.Session() as session:
            for _ in range(25):
                body = json.dumps({"instances": [[number, 0], [number + 2, 0]]})
                answer = session.post(f"http://{server.addresses.rest}/v1/models/m:predict", data=body, timeout=20)
                if answer.json() != {"predictions": [[-1.0, 0.0], [1.0, 0.0]]}:
                    wrong.append(answer.json())

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
