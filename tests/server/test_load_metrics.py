from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from servable.lifecycle import Load
from servable.server import load_metrics
from servable.server.load_metrics import LoadMetrics

if TYPE_CHECKING:
    from pathlib import Path


def load(metrics: LoadMetrics, path: Path, **outcome: Any) -> None:
    metrics.measure(Load("m", 1, path, 1), lambda: SimpleNamespace(**{"golden_examples": 0} | outcome))  # type: ignore[arg-type, return-value]


def test_loads_are_counted_by_folder_and_outcome(tmp_path: Path) -> None:
    metrics = LoadMetrics()
    load(metrics, tmp_path)
    with pytest.raises(OSError, match="gone"):
        metrics.measure(Load("m", 1, tmp_path, 1), lambda: (_ for _ in ()).throw(OSError("gone")))
    assert f':load_attempt_count{{model_path="{tmp_path}",status="success"}} 1\n' in metrics.page()
    assert f':load_attempt_count{{model_path="{tmp_path}",status="fail"}} 1\n' in metrics.page()
    assert f':load_latency{{model_path="{tmp_path}"}} ' in metrics.page()
    assert "warmup" not in metrics.page()


def test_warm_up_is_counted_where_there_was_any(tmp_path: Path) -> None:
    metrics = LoadMetrics()
    for seconds in (0.000015, 0.000019):
        load(metrics, tmp_path, golden_examples=3, warm_up_seconds=seconds)
    labels = f'{{model_path="{tmp_path}",status="OK"'
    assert f':model_warmup_records_read{{model_path="{tmp_path}"}} 6\n' in metrics.page()
    assert f':model_warmup_latency_bucket{labels},le="10"}} 0\n' in metrics.page()
    assert f':model_warmup_latency_bucket{labels},le="18"}} 1\n' in metrics.page()
    assert f':model_warmup_latency_bucket{labels},le="+Inf"}} 2\n' in metrics.page()
    assert f":model_warmup_latency_sum{labels}}} 34\n" in metrics.page()


def test_the_artifact_of_a_version_is_told_where_its_folder_names_one(tmp_path: Path) -> None:
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "mlmd_uuid").write_text("abc\n")
    metrics = LoadMetrics()
    load(metrics, tmp_path)
    assert ':tensorflow:serving:mlmd_map{model_name="m",version="1",mlmd_uuid="abc"} 1\n' in metrics.page()


def test_folders_that_come_and_go_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_metrics, "MAX_PATHS", 2)
    metrics = LoadMetrics()
    for name in "abc":
        load(metrics, tmp_path / name)
    assert str(tmp_path / "a") not in metrics.page()
    assert str(tmp_path / "c") in metrics.page()
