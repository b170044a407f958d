"""`servable check`: versions that answer as they did, versions that do not, and what cannot be checked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from servable.convert.save import save
from servable.model.golden import FILE_NAME, GoldenExample, read_examples, write_examples
from servable.wire.tensors import as_tensor
from tiny_models import centred, double, echo_text
from version_folders import publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

X = np.array([[1, 2], [3, 5], [8, 13]], np.float32)


@pytest.fixture
def check(servable: Callable[..., Any], models: Path) -> Callable[..., Any]:
    return lambda *arguments: servable("check", *arguments, "--models", models)


def change_golden_answer(folder: Path) -> None:
    """As if the version had answered otherwise when it was saved; its manifest is gone, so no checksum tells."""
    [example] = read_examples(folder)
    write_examples(folder, [GoldenExample(example.inputs, {"y": as_tensor(2 * X + [0, 0.5], "FP32")})])
    (folder / "servable.json").unlink()


def test_a_version_that_answers_as_it_did_passes(check: Callable[..., Any], models: Path) -> None:
    save(double(), models / "m", examples=X, statistics=np.tile(X, (50, 1)))
    result = check("m/1")
    assert result.exit_code == 0, result.output
    assert "m/1: onnx, 1 golden examples" in result.stdout
    assert "0 of 6" in result.stdout
    assert "batch_safe  yes" in result.stdout
    assert "features of 150 training rows" in result.stdout
    assert "x[1]" in result.stdout
    assert "passed" in result.stdout


def test_versions_are_named_by_folder_or_by_model(check: Callable[..., Any], models: Path) -> None:
    save(double(), models / "m", examples=X)
    newest = save(double(), models / "m", examples=X)
    for name in ("m/2", "m", models / "m", newest.path):
        assert json.loads(check(name, "--json").stdout)["path"] == str(newest.path)
    result = check("m/7")
    assert (result.exit_code, "there are: 1, 2" in result.stderr) == (1, True)


def test_a_changed_golden_answer_fails_with_the_table(check: Callable[..., Any], models: Path) -> None:
    change_golden_answer(save(double(), models / "m", examples=X).path)
    result = check("m/1")
    assert result.exit_code == 1
    assert "3 of 6" in result.stdout
    assert "failed" in result.stdout
    [output] = json.loads(check("m/1", "--json").stdout)["outputs"]
    assert (output["output"], output["outside"], output["passed"]) == ("y", 3, False)
    assert check("m/1", "--tolerance", "0.6").exit_code == 0
    assert check("m/1", "--tolerance", "much").exit_code == 2


def test_a_corrupted_file_is_refused(check: Callable[..., Any], models: Path) -> None:
    version = save(double(), models / "m", examples=X)
    content = bytearray((version.path / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (version.path / "model.onnx").write_bytes(content)
    result = check("m/1")
    assert result.exit_code == 1
    assert "checksum differs" in result.stderr


def test_rows_that_influence_each_other_are_told_of(check: Callable[..., Any], models: Path) -> None:
    save(centred(), models / "m", examples=X)
    result = check("m/1")
    assert result.exit_code == 0
    assert "batch_safe  no" in result.stdout


def test_without_golden_answers_nothing_is_proven(check: Callable[..., Any], models: Path) -> None:
    publish_onnx(models / "m", 1, double())
    result = check("m/1")
    assert result.exit_code == 1
    assert "Nothing was proven" in result.stderr
    assert json.loads(check("m/1", "--json").stdout)["compared"] == 0


def test_texts_are_shown_as_categories(check: Callable[..., Any], models: Path) -> None:
    save(echo_text(), models / "m", examples=np.array(["a", "b", "a", ""], object))
    assert "2 categories: a, b" in check("m/1").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "gpu"], "The engine onnx runs on the CPU alone"),
        (["--engine", "litert"], "no model for the engine litert"),
    ],
    ids=["device", "engine"],
)
def test_what_an_engine_cannot_do_is_refused(
    arguments: list[str], message: str, check: Callable[..., Any], models: Path
) -> None:
    save(double(), models / "m", examples=X)
    result = check("m/1", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert check("m/1", "--device", "cpu", "--engine", "onnx").exit_code == 0


def test_a_version_of_several_formats_is_checked_with_each_engine(check: Callable[..., Any], models: Path) -> None:
    folder = save(double(), models / "m", examples=X).path
    (folder / "servable.json").unlink()
    (folder / "model.py").write_text(
        "class Model:\n"
        "    signature = {'inputs': {'x': ('FP32', [-1, 2])}, 'outputs': {'y': ('FP32', [-1, 2])}}\n"
        "    def predict(self, x):\n"
        "        return {'y': 3 * x}\n"
    )
    assert (folder / FILE_NAME).exists()
    assert check("m/1", "--engine", "onnx").exit_code == 0
    wrong = check("m/1", "--engine", "python")
    assert (wrong.exit_code, "6 of 6" in wrong.stdout) == (1, True), wrong.output
