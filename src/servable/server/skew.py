"""Skew: compares sampled live inputs with the feature statistics of their version.

data plane: keeps the inputs of some requests -> once a second, taken here -> counted into the bins of the statistics ->
metrics page, and a warning when a feature passes the threshold
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.model.skew import MIN_REFERENCE_ROWS
from servable.server.metrics_text import escaped
from servable.server.skew_window import BLOCK_ROWS, Window
from servable.wire.tensors import Tensor, from_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from servable.engines.load import Loaded
    from servable.model.statistics import SignatureStatistics
    from servable.server.skew_window import Finding
    from servable.settings import PerModelSettings

logger = logging.getLogger(__name__)

INTERVAL_S = 1.0
_MOST_REQUEST_ROWS = BLOCK_ROWS
_MOST_NAMED = 5

Sample = tuple[str, int, str, list[Any]]
Key = tuple[str, int]


def skew_share(settings: PerModelSettings, loaded: Loaded) -> float:
    """The share of a version's requests that is looked at: 0 where its statistics are too few to compare with."""
    return settings.skew_sample if _references(loaded) else 0.0


def _references(loaded: Loaded) -> dict[str, SignatureStatistics]:
    known = loaded.manifest.statistics if loaded.manifest else {}
    return {name: each for name, each in known.items() if each.rows >= MIN_REFERENCE_ROWS and each.features}


class SkewMonitor:
    """Watches the versions that serve, on a thread of its own, which runs while there is something to watch.

    Args:
        take: Gives the inputs that were kept since the last call: `_native.Server.take_inputs`.
        show: Takes the lines for Prometheus: `_native.Server.set_skew_metrics`.
        threshold_of: The threshold for a version of a model.
    """

    def __init__(
        self,
        take: Callable[[], list[Sample]],
        show: Callable[[str], None],
        threshold_of: Callable[[str, int], float],
    ) -> None:
        self._take = take
        self._show = show
        self._threshold_of = threshold_of
        self._lock = threading.Lock()
        self._watched: dict[Key, tuple[Loaded, dict[str, Window]]] = {}
        self._warned: dict[tuple[str, int, str], frozenset[str]] = {}
        self._is_shown = False
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, loaded: Mapping[Key, Loaded]) -> None:
        """Watches these versions from now on. Those that were watched keep their windows."""
        with self._lock:
            before, self._watched = self._watched, {}
            for key, each in loaded.items():
                known = before.get(key)
                if known is not None and known[0] is each:
                    self._watched[key] = known
                elif references := _references(each):
                    self._watched[key] = (each, {name: Window(reference) for name, reference in references.items()})
            self._is_shown = False
            self._warned = {at: names for at, names in self._warned.items() if at[:2] in self._watched}
            if self._thread is None and self._watched and not self._ending.is_set():
                self._thread = threading.Thread(target=self._run, name="servable-skew", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> None:
        """Takes what was kept, counts it, and says what was found."""
        samples = self._take()
        with self._lock:
            if self._is_shown and not samples:
                return
            for (model, version, signature), inputs in _joined(samples):
                _, windows = self._watched.get((model, version), (None, {}))
                if signature in windows:
                    windows[signature].add(inputs)
            self._show(self._page())
            self._is_shown = True

    def _run(self) -> None:
        while not self._ending.wait(INTERVAL_S):
            try:
                self.look()
            except Exception:  # nothing that it finds may end it
                if not self._ending.is_set():
                    logger.exception("Skew could not be looked at")

    def _page(self) -> str:
        page = _Page()
        for (model, version), (_, windows) in self._watched.items():
            threshold = self._threshold_of(model, version)
            for signature, window in windows.items():
                found = window.findings(threshold)
                page.add(model, version, signature, window.rows, found)
                self._warn(model, version, signature, found)
        return page.text()

    def _warn(self, model: str, version: int, signature: str, found: list[Finding]) -> None:
        skewed = {each.feature.name: each for each in found if each.skewed}
        before = self._warned.get((model, version, signature), frozenset())
        where = {"model": model, "version": version}
        if new := [each for name, each in skewed.items() if name not in before]:
            new.sort(key=lambda each: -each.psi)
            more = f" and {len(new) - _MOST_NAMED} more" if len(new) > _MOST_NAMED else ""
            named = "; ".join(map(describe_finding, new[:_MOST_NAMED]))
            logger.warning(
                "Skew: model %s version %d gets inputs unlike those of its training: %s%s",
                model, version, named, more, extra=where,
            )  # fmt: skip
        if found and (gone := sorted(before - skewed.keys())):
            more = f" and {len(gone) - _MOST_NAMED} more" if len(gone) > _MOST_NAMED else ""
            names = ", ".join(gone[:_MOST_NAMED])
            logger.info(
                "Skew: model %s version %d, as in training again: %s%s", model, version, names, more, extra=where
            )
        self._warned[model, version, signature] = frozenset(skewed)


def describe_finding(finding: Finding) -> str:
    """A feature for people: `age: PSI 0.53, 12.0 % missing (0.1 % in training)`."""
    name, usual = finding.feature.name, finding.feature.missing_ratio
    text = f"{name}: PSI {finding.psi:.2f}"
    if abs(finding.missing_ratio - usual) >= 0.01:
        text += f", {finding.missing_ratio:.1%} missing ({usual:.1%} in training)"
    return text


def _joined(samples: Iterable[Sample]) -> Iterator[tuple[tuple[str, int, str], dict[str, Tensor]]]:
    """The samples of a signature in as few calls as their shapes allow: many rows cost little more than one."""
    groups: dict[Any, list[dict[str, Tensor]]] = {}
    for model, version, signature, named in samples:
        inputs = {tensor[0]: _some_rows(from_named(tensor)) for tensor in named}
        kinds = tuple((name, tensor.datatype, tensor.shape[1:]) for name, tensor in inputs.items())
        groups.setdefault((model, version, signature, kinds), []).append(inputs)
    for (model, version, signature, kinds), calls in groups.items():
        joined = {
            name: Tensor(calls[0][name].datatype, np.concatenate([_at_least_a_row(call[name]) for call in calls]))
            for name, *_ in kinds
        }
        yield (model, version, signature), joined


def _some_rows(tensor: Tensor) -> Tensor:
    """Of one request, so many rows that it does not fill a window alone; evenly spaced."""
    if not tensor.shape or tensor.shape[0] <= _MOST_REQUEST_ROWS:
        return tensor
    return Tensor(tensor.datatype, tensor.array[:: -(-tensor.shape[0] // _MOST_REQUEST_ROWS)])


def _at_least_a_row(tensor: Tensor) -> NDArray[Any]:
    return tensor.array if tensor.shape else tensor.array.reshape(1)


class _Page:
    """The lines for Prometheus."""

    _METRICS = (
        ("servable_feature_psi", "Population stability index of live inputs against those of the training"),
        ("servable_feature_missing_ratio", "Share of live values that are missing"),
        ("servable_feature_skewed", "1 where the index is over skew_threshold by more than chance would give"),
        ("servable_skew_rows", "Rows in the window that features are compared on"),
    )

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {name: [] for name, _ in self._METRICS}

    def add(self, model: str, version: int, signature: str, rows: int, found: Iterable[Finding]) -> None:
        where = f'model="{escaped(model)}",version="{version}",signature="{escaped(signature)}"'
        self._lines["servable_skew_rows"].append(f"{{{where}}} {rows}")
        for each in found:
            labels = f'{{{where},feature="{escaped(each.feature.name)}"}}'
            self._lines["servable_feature_psi"].append(f"{labels} {each.psi:.6g}")
            self._lines["servable_feature_missing_ratio"].append(f"{labels} {each.missing_ratio:.6g}")
            self._lines["servable_feature_skewed"].append(f"{labels} {int(each.skewed)}")

    def text(self) -> str:
        lines = []
        for name, about in self._METRICS:
            if self._lines[name]:
                lines += [
                    f"# HELP {name} {about}",
                    f"# TYPE {name} gauge",
                    *(name + line for line in self._lines[name]),
                ]
        return "".join(f"{line}\n" for line in lines)
