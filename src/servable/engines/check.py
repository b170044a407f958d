"""Checks a version by hand: loads it as a server would, runs its golden examples, and says what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from servable.engines.devices import on_device, require_gpu
from servable.engines.load import open_servable
from servable.engines.native import runner, unload
from servable.engines.options import EngineOptions
from servable.model.batch_safe import prove_batch_safe
from servable.model.formats import Format, detect_format, format_for_engine, format_of
from servable.model.golden import check, read_examples
from servable.model.manifest import read_manifest, verify_files
from servable.model.signatures import signatures_from_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from servable.model.compare import Report
    from servable.model.manifest import Manifest
    from servable.model.tolerance import Tolerance


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        format: The format that was run, and its engine.
        manifest: The version's manifest; None for a plain folder.
        examples: How many golden examples were run.
        compared: How many of them had answers to compare with.
        report: How the answers differ from the expected ones.
        batch_safe: Whether rows alone and rows together agree on this engine; None where the examples do not say.
        seconds: How long the examples took.
    """

    format: Format
    manifest: Manifest | None
    examples: int
    compared: int
    report: Report
    batch_safe: bool | None
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether there were answers to compare with, and all agree."""
        return self.compared > 0 and self.report.passed


def check_version(
    path: Path,
    *,
    engine: str | None = None,
    device: str | None = None,
    tolerance: Mapping[str, Tolerance] | None = None,
    options: EngineOptions | None = None,
) -> Checked:
    """Checks a version.

    Args:
        path: Its folder.
        engine: The engine to run it with, where the folder holds the model in several formats.
        device: `cpu` or `gpu`; None for the engine's own choice.
        tolerance: Instead of what the manifest says.
        options: For the engine.

    Raises:
        Unimplemented: The engine does not run on that device.
        FailedPrecondition: There is no such device.
        InvalidArgument: The folder holds no model for the engine, or the engine refuses it.
        ServableError: It cannot be loaded; see `servable.engines.load.load_version`.
    """
    manifest = read_manifest(path)
    options = options or EngineOptions()
    form = _format(path, manifest, engine)
    if device is not None:
        options = on_device(options, form.engine, device)
    if manifest:
        verify_files(path, manifest)
    examples = read_examples(path)
    limits = (manifest.tolerance if manifest else {}) if tolerance is None else tolerance
    servable = open_servable(path, form, manifest, options)
    try:
        if device == "gpu":
            require_gpu()
        run = runner(servable)
        start = time.monotonic()
        report = check(run, examples, limits)
        seconds = time.monotonic() - start
        batchable = all(signature.batch_axis == 0 for signature in signatures_from_json(servable.signatures))
        batch_safe = prove_batch_safe(run, examples, limits) if batchable else False
    finally:
        unload(servable)
    compared = sum(example.outputs is not None for example in examples)
    return Checked(form, manifest, len(examples), compared, report, batch_safe, seconds)


def _format(path: Path, manifest: Manifest | None, engine: str | None) -> Format:
    own = format_of(manifest.format, manifest.file) if manifest else None
    if own is not None and engine in (None, own.engine):
        return own
    return detect_format(path) if engine is None else format_for_engine(path, engine)
