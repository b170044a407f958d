"""Memory of versions that were swapped out or unloaded is given back to the system."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from version_folders import constant

SCRIPT = Path(__file__).with_name("memory_of_swaps.py")
WEIGHTS = 12_500_000
SWAPS = 20


@pytest.mark.parametrize("policy", ["availability", "resource"])
def test_memory_after_many_swaps_is_that_after_the_first(tmp_path: Path, policy: str) -> None:
    onnx.save(constant(1, weights=WEIGHTS), tmp_path / "spare.onnx")
    command = [sys.executable, str(SCRIPT), str(tmp_path), policy, str(SWAPS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    resident = [int(line) for line in done.stdout.split()]
    assert len(resident) == SWAPS
    assert resident[-1] < 1.1 * resident[0]
    assert max(resident) < resident[0] + 4 * WEIGHTS, "a version that was swapped out is still there"


@pytest.mark.tensorflow
def test_memory_comes_back_after_every_unload_of_a_large_saved_model(saved_models: Path, tmp_path: Path) -> None:
    version = shutil.copytree(saved_models / "large" / "1", tmp_path / "version")
    script = Path(__file__).with_name("memory_of_loads.py")
    command = [sys.executable, str(script), str(version), str(tmp_path), "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    rounds = [[int(number) / 1e6 for number in line.split()] for line in done.stdout.splitlines()]
    assert len(rounds) == 20
    assert all(loaded - after > 80 for loaded, after in rounds), "MB that a version held"
    assert rounds[-1][1] - rounds[0][1] < 50
