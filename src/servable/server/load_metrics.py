"""Counts loads and their warm-up, under TensorFlow Serving's names.

Sources: `tensorflow/cc/saved_model/loader.cc`, `tensorflow_serving/servables/tensorflow/saved_model_warmup_util.cc`.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from servable.server.metrics_text import escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from servable.engines.load import Loaded
    from servable.lifecycle import Load

MAX_PATHS = 1000
"""Version folders that are counted; the one that was loaded longest ago makes room."""

_ATTEMPTS = ":tensorflow:cc:saved_model:load_attempt_count"
_LATENCY = ":tensorflow:cc:saved_model:load_latency"
_WARM_UP = ":tensorflow:serving:model_warmup_latency"
_RECORDS = ":tensorflow:serving:model_warmup_records_read"
_LONGEST_UUID = 256
_BOUNDS_US = [10 * 1.8**power for power in range(33)]


@dataclass(slots=True)
class _Counts:
    attempts: dict[str, int] = field(default_factory=lambda: {"success": 0, "fail": 0})
    load_us: int = 0
    records: int = 0
    warm_up_buckets: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS_US) + 1))
    warm_up_us: float = 0.0
    mlmd: str = ""


class LoadMetrics:
    """What is counted of loads, by the folder of the version."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paths: dict[str, _Counts] = {}

    def measure(self, action: Load, load: Callable[[], Loaded]) -> Loaded:
        """Loads, and counts how that went."""
        start = time.monotonic()
        try:
            loaded = load()
        except Exception:
            self._count(action.path).attempts["fail"] += 1
            raise
        counts = self._count(action.path)
        counts.mlmd = _mlmd(action)
        counts.attempts["success"] += 1
        counts.load_us += round((time.monotonic() - start) * 1e6)
        if loaded.golden_examples:
            counts.records += loaded.golden_examples
            microseconds = loaded.warm_up_seconds * 1e6
            counts.warm_up_us += microseconds
            counts.warm_up_buckets[bisect_left(_BOUNDS_US, microseconds)] += 1
        return loaded

    def page(self) -> str:
        """The lines for Prometheus."""
        with self._lock:
            paths = {escaped(path): counts for path, counts in self._paths.items()}
        return "".join(f"{line}\n" for line in _lines(paths))

    def _count(self, path: Path) -> _Counts:
        with self._lock:
            counts = self._paths.pop(str(path), None) or _Counts()
            self._paths[str(path)] = counts
            if len(self._paths) > MAX_PATHS:
                del self._paths[next(iter(self._paths))]
        return counts


def _lines(paths: dict[str, _Counts]) -> Iterator[str]:
    yield from _load_lines(paths)
    yield from _warm_up_lines({path: counts for path, counts in paths.items() if counts.records})


def _load_lines(paths: dict[str, _Counts]) -> Iterator[str]:
    yield f"# TYPE {_ATTEMPTS} counter"
    for path, counts in paths.items():
        for status, count in counts.attempts.items():
            if count:
                yield f'{_ATTEMPTS}{{model_path="{path}",status="{status}"}} {count}'
    yield f"# TYPE {_LATENCY} counter"
    for path, counts in paths.items():
        yield f'{_LATENCY}{{model_path="{path}"}} {counts.load_us}'
    for counts in paths.values():
        if counts.mlmd:
            yield counts.mlmd


def _warm_up_lines(warmed: dict[str, _Counts]) -> Iterator[str]:
    if not warmed:
        return
    yield f"# TYPE {_RECORDS} counter"
    for path, counts in warmed.items():
        yield f'{_RECORDS}{{model_path="{path}"}} {counts.records}'
    yield f"# TYPE {_WARM_UP} histogram"
    for path, counts in warmed.items():
        labels = f'model_path="{path}",status="OK"'
        bounds = [f"{bound:.10g}" for bound in _BOUNDS_US]
        totals = list(accumulate(counts.warm_up_buckets))
        for bound, total in zip([*bounds, "+Inf"], totals, strict=True):
            yield f'{_WARM_UP}_bucket{{{labels},le="{bound}"}} {total}'
        yield f"{_WARM_UP}_sum{{{labels}}} {counts.warm_up_us:.10g}"
        yield f"{_WARM_UP}_count{{{labels}}} {totals[-1]}"


def _mlmd(action: Load) -> str:
    """The line that says which ML Metadata artifact a version is, where its folder says so."""
    try:
        with (action.path / "assets.extra" / "mlmd_uuid").open(encoding="utf-8") as file:
            uuid = file.read(_LONGEST_UUID).strip()
    except (OSError, UnicodeDecodeError):
        return ""
    labels = f'model_name="{escaped(action.model)}",version="{action.version}",mlmd_uuid="{escaped(uuid)}"'
    return f":tensorflow:serving:mlmd_map{{{labels}}} 1"
