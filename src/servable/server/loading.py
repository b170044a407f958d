"""Loads a version for a server: by its engine, counted, and past the gate where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from servable.engines.load import load_version
from servable.engines.native import unload
from servable.errors import FailedPrecondition
from servable.server.engine_options import engine_options
from servable.server.gate import check_gate
from servable.server.load_metrics import LoadMetrics

if TYPE_CHECKING:
    from pathlib import Path

    from servable.engines.load import Loaded
    from servable.engines.options import EngineOptions, TensorFlowOptions
    from servable.lifecycle import Load
    from servable.settings import ModelSettings, ServerSettings


class IsolatedLoader(Protocol):
    """Loads versions outside of this process."""

    def load(self, model: str, version: int, path: Path, options: EngineOptions) -> Loaded:
        """Loads a version; as `servable.engines.load.load_version` otherwise."""

    def stop(self) -> None:
        """Gives the loads up that still run."""


class VersionLoader:
    """Loads versions; from any thread.

    Args:
        settings: Of the server.
        tensorflow: What TensorFlow is told.
        isolated: Loads the versions whose `isolation` is `process`.

    Attributes:
        metrics: What is counted of the loads.
    """

    def __init__(
        self, settings: ServerSettings, tensorflow: TensorFlowOptions, isolated: IsolatedLoader | None = None
    ) -> None:
        self.metrics = LoadMetrics()
        self._settings = settings
        self._tensorflow = tensorflow
        self._isolated = isolated

    def load(self, action: Load, settings: ModelSettings) -> Loaded:
        """Loads one version.

        Args:
            action: Which.
            settings: Of its model.

        Raises:
            ServableError: It cannot be loaded, does not answer as its golden examples say, or does not pass the gate.
            FailedPrecondition: It is to run in another process, and there is no loader for that.
        """
        return self.metrics.measure(action, lambda: self._load(action, settings))

    def stop(self) -> None:
        """Gives up loads in other processes that still run."""
        if self._isolated:
            self._isolated.stop()

    def _load(self, action: Load, settings: ModelSettings) -> Loaded:
        loaded = self._open(action, settings)
        if settings.gate:
            try:
                check_gate(action.model, action.version, loaded, settings.gate, settings.gate_records)
            except BaseException:
                unload(loaded.servable)
                raise
        return loaded

    def _open(self, action: Load, settings: ModelSettings) -> Loaded:
        options = engine_options(self._settings, settings, self._tensorflow)
        if settings.isolation == "none":
            return load_version(action.path, options)
        if self._isolated is None:
            raise FailedPrecondition("This server has no loader for other processes", hint="pass isolated")
        return self._isolated.load(action.model, action.version, action.path, options)
