"""From nothing to the first answer, the import, and what an installation weighs."""

from __future__ import annotations

import subprocess
import sys
import time
import venv
from typing import TYPE_CHECKING

from bench import models, payloads
from bench.process import ALL_CORES
from bench.samples import Check
from bench.scenarios.base import Figures, Options
from bench.servers.base import ask
from bench.servers.servable import saved, servable, unavailable
from bench.servers.venvs import unconstrained
from bench.tools import ROOT, WORK, BenchError

if TYPE_CHECKING:
    from pathlib import Path

    from bench.payloads import Payload

TITLE = "Start to first answer, import, size of an installation"
MODEL = "digits"
IMPORT = "import time; begin = time.perf_counter(); import servable; print(time.perf_counter() - begin)"
WEIGHT_UNIT = 1e6


def run(options: Options) -> Figures:
    if why_not := unavailable():
        raise BenchError(f"servable cannot be measured: {why_not}")
    folder = saved(MODEL, models.mlp())
    payload = payloads.tfs_rest(MODEL, models.example())
    rounds = range(options.runs + 1)
    starts = [_first_answer(folder, payload) for _ in rounds][1:]
    imports = [_import() for _ in rounds][1:]
    checks = [
        Check("exec of `servable serve` to the first answer", "s", starts, 0.5),
        Check("`import servable`", "s", imports, 0.2),
    ]
    notes = ["Files are in the page cache: one run before the counted ones. Both cores free, one small model."]
    wheel = options.wheel or max(ROOT.glob("dist/servable-*.whl"), key=lambda path: path.stat().st_mtime, default=None)
    if wheel:
        plain, compiled = _weight(wheel)
        checks += [
            Check("base installation into an empty environment, without bytecode", "MB", [plain], 150.0),
            Check("the same with the bytecode that pip compiles unless told --no-compile", "MB", [compiled]),
        ]
        notes.append(f"Weighed {wheel.name} and what it needs, without pip itself.")
    else:
        notes.append("The installation was not weighed: no wheel in dist/ (make wheel).")
    return Figures(checks=checks, notes=notes)


def _import() -> float:
    """Seconds that `import servable` takes in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"`import servable` failed:\n{done.stderr}")
    return float(done.stdout)


def _first_answer(folder: Path, payload: Payload) -> float:
    """Seconds from exec to a right answer over REST."""
    with servable(folder, cores=ALL_CORES) as server:
        while ask(server.rest_port, payload, 1.0) is None:
            server.process.check()
            time.sleep(0.002)
        return time.perf_counter() - server.process.started


def _weight(wheel: Path) -> tuple[float, float]:
    """Megabytes that installing the wheel adds to an empty environment: without and with bytecode."""
    folder = WORK / "weighed"
    venv.EnvBuilder(clear=True, with_pip=True).create(folder)
    before = _bytes(folder)
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", str(wheel)]
    if subprocess.run(command, check=False, env=unconstrained()).returncode:
        raise BenchError(f"Could not install {wheel}")
    (plain, compiled), (plain_before, compiled_before) = _bytes(folder), before
    return (plain - plain_before) / WEIGHT_UNIT, (compiled - compiled_before) / WEIGHT_UNIT


def _bytes(folder: Path) -> tuple[int, int]:
    """Bytes of all files but those of bytecode, and of all."""
    sizes = [(path.suffix, path.lstat().st_size) for path in folder.rglob("*") if not path.is_dir()]
    return sum(size for suffix, size in sizes if suffix != ".pyc"), sum(size for _, size in sizes)
