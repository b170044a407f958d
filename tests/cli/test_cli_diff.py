"""`servable diff`: two versions on the same inputs."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from servable.convert.save import save
from tiny_models import add, double, onnx_model
from version_folders import constant, publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

X = np.array([[1, 2], [3, 5], [8, 13]], np.float32)


def above(limit: float) -> Any:
    """label = whether x [n] is above a limit, as 0 or 1."""
    nodes = [
        helper.make_node("Greater", ["x", "limit"], ["is_above"]),
        helper.make_node("Cast", ["is_above"], ["label"], to=TensorProto.INT64),
    ]
    inputs, outputs = {"x": (TensorProto.FLOAT, ["n"])}, {"label": (TensorProto.INT64, ["n"])}
    return onnx_model(nodes, inputs, outputs, {"limit": np.float32(limit)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models: m, whose version 2 is 0.5 higher; labels, of which few flip; plain, without golden examples."""
    folder = tmp_path_factory.mktemp("models")
    save(constant(1.0), folder / "m", examples=X)
    save(constant(1.5), folder / "m", examples=X[:2])
    save(constant(1.0), folder / "m", examples=X)
    for limit in (5.0, 6.0):
        save(above(limit), folder / "labels", examples=np.arange(10, dtype=np.float32))
    for number in (1, 2):
        publish_onnx(folder / "plain", number, constant(float(number)))
    save(double(), folder / "double", examples=X)
    for _ in range(2):
        save(add(), folder / "add", examples={"a": np.ones(3, np.float32), "b": np.ones(3, np.float32)})
    return folder


@pytest.fixture
def diff(servable: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    return lambda *arguments: servable("diff", *arguments, "--models", folder)


def test_versions_that_agree_pass(diff: Callable[..., Any]) -> None:
    result = diff("m/1", "m/3")
    assert result.exit_code == 0, result.output
    assert "m/3 against m/1" in result.stdout
    assert "passed" in result.stdout


def test_versions_that_differ_fail_with_table_and_histogram(diff: Callable[..., Any]) -> None:
    result = diff("m/1", "m/2")
    assert result.exit_code == 1
    assert "5 (100.00%)" in result.stdout, "the examples of both"
    assert "1e-01 - 1e+00         5 ####" in result.stdout
    found = json.loads(diff("m/1", "m/2", "--json").stdout)
    [output] = found["outputs"]
    assert (output["max"], output["mean"], output["outside"], output["flips"]) == (0.5, 0.5, 5, None)
    assert found["passed"] is False


def test_the_tolerance_decides(diff: Callable[..., Any]) -> None:
    assert diff("m/1", "m/2", "--tolerance", "0.6").exit_code == 0
    assert diff("m/1", "m/2", "--tolerance", "0,0.4").exit_code == 1


def test_labels_that_flip_are_counted(diff: Callable[..., Any]) -> None:
    result = diff("labels/1", "labels/2")
    assert result.exit_code == 1
    assert "1 (10.00%)" in result.stdout
    [output] = json.loads(diff("labels/1", "labels/2", "--json").stdout)["outputs"]
    assert (output["flips"], output["values"], output["histogram"]) == (1, 10, [])


def test_without_golden_examples_nothing_is_compared(diff: Callable[..., Any]) -> None:
    result = diff("plain/1", "plain/2")
    assert result.exit_code == 1
    assert "--data" in result.stderr


@pytest.mark.parametrize("kind", ["npy", "npz", "csv", "jsonl", "json"])
def test_inputs_come_from_files(kind: str, diff: Callable[..., Any], tmp_path: Path) -> None:
    rows = np.arange(1200, dtype=np.float32).reshape(600, 2)
    path = tmp_path / f"x.{kind}"
    match kind:
        case "npy":
            np.save(path, rows)
        case "npz":
            np.savez_compressed(path, x=rows)
        case "csv":
            np.savetxt(path, rows, delimiter=",")
        case "jsonl":
            path.write_text("\n".join(map(json.dumps, rows.tolist())))
        case _:
            path.write_text(json.dumps({"instances": rows.tolist()}))
    [output] = json.loads(diff("plain/1", "plain/2", "--data", path, "--json").stdout)["outputs"]
    assert (output["values"], output["max"], output["outside"]) == (600, 1.0, 600)


@pytest.mark.parametrize("kind", ["npz", "jsonl"])
def test_several_inputs_come_from_one_file(kind: str, diff: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind}"
    if kind == "npz":
        np.savez(path, a=np.ones(4, np.float32), b=np.ones(4, np.float32))
    else:
        path.write_text('{"a": 1, "b": 2}\n\n{"a": 3, "b": 4}\n')
    assert diff("add/1", "add/2", "--data", path).exit_code == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", b"[1, 2]\n{"),
        ("x.npz", b"PK\x03\x04 no archive"),
        ("x.csv", b"a,b\nc,d\n"),
        ("x.jsonl", b"[" * 99999),
    ],
    ids=["lines", "archive", "words", "nested"],
)
def test_files_that_cannot_be_read_are_refused(
    name: str, content: bytes, diff: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    result = diff("plain/1", "plain/2", "--data", tmp_path / name)
    assert result.exit_code == 1
    assert "error: " in result.stderr
    assert "fault of servable" not in result.stderr


def test_a_version_that_fails_its_golden_examples_can_be_looked_at(diff: Callable[..., Any], tmp_path: Path) -> None:
    broken = shutil.copytree(save(constant(1.0), tmp_path / "m", examples=X).path, tmp_path / "copy" / "1")
    (broken / "servable.json").unlink()
    (broken / "model.onnx").write_bytes(constant(4.0).SerializeToString())
    result = diff("m/1", broken)
    assert result.exit_code == 1
    assert "3 (100.00%)" in result.stdout


def test_versions_of_other_shapes_are_told_apart(diff: Callable[..., Any]) -> None:
    result = diff("m/1", "double")
    assert result.exit_code == 1
    assert "y: has shape [3, 2] instead of [3, 1]" in result.stdout


def test_versions_that_take_other_inputs_cannot_be_compared(diff: Callable[..., Any]) -> None:
    result = diff("m/1", "add/1")
    assert result.exit_code == 1
    assert "does not take what the first one takes" in result.stderr
