"""Loads a version: finds format and engine, checks its files, loads it, and has it prove that it answers right."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from servable import _native
from servable.engines.native import runner, typed_errors, unload
from servable.engines.options import EngineOptions, litert_options, onnx_options, tensorflow_options
from servable.engines.python import load_python_model
from servable.errors import NotFound
from servable.model.batch_safe import prove_batch_safe
from servable.model.formats import Format, detect_format, format_of
from servable.model.golden import GoldenExample, check, read_examples, require
from servable.model.manifest import Manifest, read_manifest, verify_files
from servable.model.signatures import Signature, signatures_from_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from servable.model.tolerance import Tolerance

# Every row that is proven independent while a version loads is one more call.
_MAX_PROOF_ROWS = 4


class OtherProcess(Protocol):
    """The process that a version runs in, where that is not this one."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def on_end(self, callback: Callable[[str], None]) -> None:
        """Has `callback` called, with the reason, when it ends without being told to; at once where it has."""


@dataclass(frozen=True)
class Loaded:
    """A version that an engine has loaded and that passed its golden examples.

    Attributes:
        servable: The native servable, for `Server.apply`.
        signatures: What it takes and gives, as the engine says.
        batch_safe: Whether rows of a batch are proven independent; None for unknown.
        footprint: Bytes that the engine holds for it, estimated.
        format: Its format, file and engine.
        manifest: Its manifest; None for a plain folder.
        golden_examples: How many golden examples it was run on.
        warm_up_seconds: How long that took.
        process: Where it runs; None for this process.
    """

    servable: _native.Servable
    signatures: tuple[Signature, ...]
    batch_safe: bool | None
    footprint: int
    format: Format
    manifest: Manifest | None
    golden_examples: int
    warm_up_seconds: float
    process: OtherProcess | None = None

    @property
    def batchable(self) -> bool:
        """Whether a server may put the rows of several requests into one call without being told to."""
        return self.batch_safe is True and all(signature.batch_axis == 0 for signature in self.signatures)


def load_version(path: Path, options: EngineOptions | None = None) -> Loaded:
    """Loads the version in a folder, with a manifest or without.

    Where there is a manifest, sizes and checksums of all files are compared first. Golden examples are run, for warm-up
    and for proof, before it returns, unless the options say that they are not to be.

    Args:
        path: The version's folder.
        options: For the engine; what is left open is taken from the manifest.

    Raises:
        NotFound: There is no such folder.
        ManifestError: Manifest, golden examples or files are not what they have to be.
        DataLoss: The file of the golden examples is damaged.
        Unimplemented: No engine of this build runs the format.
        EngineMissing: The engine's package is not installed.
        GoldenMismatch: It does not answer as it did when it was saved. Message: a table of where and how much.
        InvalidArgument: The folder holds no model, or the engine refuses it.
    """
    manifest = read_manifest(path)
    options = options or EngineOptions()
    form = version_format(path, manifest, options)
    if manifest:
        verify_files(path, manifest)
    examples = read_examples(path) if options.warm_up_iterations else []
    servable = open_servable(path, form, manifest, options)
    try:
        tolerance = manifest.tolerance if manifest else {}
        start = time.monotonic()
        for _ in range(options.warm_up_iterations):
            require(
                check(runner(servable), examples, tolerance),
                f"{path} does not answer as its golden examples say:",
            )
        warm_up_seconds = time.monotonic() - start
        batch_safe = _prove(servable, examples, tolerance, manifest)
    except BaseException:
        unload(servable)
        raise
    signatures = signatures_from_json(servable.signatures)
    return Loaded(servable, signatures, batch_safe, servable.footprint, form, manifest, len(examples), warm_up_seconds)


def version_format(path: Path, manifest: Manifest | None, options: EngineOptions) -> Format:
    """The format that a version's folder is loaded as: what its manifest says, or else what its files tell.

    Raises:
        NotFound: There is no such folder.
        InvalidArgument: The manifest's format is not known, or there is no manifest and the folder holds no model, or
            several.
    """
    if manifest:
        return format_of(manifest.format, manifest.file)
    return detect_format(path, prefer_tflite=options.litert.prefer)


def open_servable(path: Path, form: Format, manifest: Manifest | None, options: EngineOptions) -> _native.Servable:
    """Has the engine load a version's folder, without checking anything.

    Raises:
        NotFound: The file that the engine opens is not there.
        EngineMissing: The engine's package is not installed.
        InvalidArgument: The engine refuses it.
    """
    file = path / form.file
    saved: Mapping[str, Any] = manifest.engine_options if manifest else {}
    if not file.is_file():
        raise NotFound(f"There is no file {file}")
    if form.engine == "python":
        return load_python_model(file, manifest.signatures if manifest else (), saved)
    if form.engine == "tensorflow":
        target, described = path, tensorflow_options(options, saved)
    elif form.engine == "litert":
        target, described = file, litert_options(options, saved)
    else:
        target, described = file, onnx_options(options, saved)
    with typed_errors():
        return _native.load(str(target), form.engine, described)


def _prove(
    servable: _native.Servable,
    examples: Sequence[GoldenExample],
    tolerance: Mapping[str, Tolerance],
    manifest: Manifest | None,
) -> bool | None:
    """Whether rows are independent, as the manifest says; where it does, a few rows are tried on this engine again.

    The data plane measures these runs: rows alone and rows together, so that it knows from the first request on whether
    batches are worth it.
    """
    if manifest and not manifest.batch_safe:
        return manifest.batch_safe
    if any(signature.batch_axis is None for signature in signatures_from_json(servable.signatures)):
        return False
    return prove_batch_safe(runner(servable), examples, tolerance, max_rows=_MAX_PROOF_ROWS)
