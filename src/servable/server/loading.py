"""Loads a version for a server: by its engine, counted, and past the gate where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servable.engines.load import load_version
from servable.engines.native import unload
from servable.server.engine_options import engine_options
from servable.server.gate import check_gate
from servable.server.load_metrics import LoadMetrics

if TYPE_CHECKING:
    from servable.engines.load import Loaded
    from servable.engines.options import TensorFlowOptions
    from servable.lifecycle import Load
    from servable.settings import ModelSettings, ServerSettings


class VersionLoader:
    """Loads versions; from any thread.

    Args:
        settings: Of the server.
        tensorflow: What TensorFlow is told.

    Attributes:
        metrics: What is counted of the loads.
    """

    def __init__(self, settings: ServerSettings, tensorflow: TensorFlowOptions) -> None:
        self.metrics = LoadMetrics()
        self._settings = settings
        self._tensorflow = tensorflow

    def load(self, action: Load, settings: ModelSettings) -> Loaded:
        """Loads one version.

        Args:
            action: Which.
            settings: Of its model.

        Raises:
            ServableError: It cannot be loaded, does not answer as its golden examples say, or does not pass the gate.
        """
        return self.metrics.measure(action, lambda: self._load(action, settings))

    def _load(self, action: Load, settings: ModelSettings) -> Loaded:
        loaded = load_version(action.path, engine_options(self._settings, settings, self._tensorflow))
        if settings.gate:
            try:
                check_gate(action.model, action.version, loaded, settings.gate, settings.gate_records)
            except BaseException:
                unload(loaded.servable)
                raise
        return loaded
