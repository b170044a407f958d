"""The proof: what was written is run by servable's own engine and compared with what the framework answered."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from servable.engines.load import open_servable
from servable.engines.native import runner, unload
from servable.engines.options import EngineOptions
from servable.errors import ConversionError, GoldenMismatch, Internal, InvalidArgument, Unimplemented
from servable.model.batch_safe import prove_batch_safe
from servable.model.formats import format_of
from servable.model.golden import GoldenExample, Run, check, write_examples
from servable.model.manifest import Manifest
from servable.model.signatures import signatures_from_json
from servable.wire.tensors import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from servable import _native
    from servable.convert.draft import Draft
    from servable.model.compare import Report
    from servable.model.formats import Format
    from servable.model.signatures import Signature
    from servable.model.tolerance import Tolerance


def written_signatures(folder: Path, form: Format) -> tuple[Signature, ...]:
    """What a model that was just written takes and gives, as its engine reads it.

    Raises:
        ServableError: It cannot be loaded.
    """
    with opened(folder, Manifest(form.name, form.file, ()), EngineOptions()) as servable:
        return signatures_from_json(servable.signatures)


@contextmanager
def opened(folder: Path, manifest: Manifest, options: EngineOptions) -> Iterator[_native.Servable]:
    servable = open_servable(folder, format_of(manifest.format, manifest.file), manifest, options)
    try:
        yield servable
    finally:
        unload(servable)


def prove(
    draft: Draft, folder: Path, model: str, tolerance: Mapping[str, Tolerance], options: EngineOptions
) -> Manifest:
    """Runs what was written, compares, writes the golden examples. Returns the manifest, but for files and origin."""
    manifest = Manifest(
        draft.form.name,
        draft.form.file,
        draft.signatures,
        frameworks=draft.frameworks,
        tolerance=tolerance,
        engine_options={**draft.engine_options, **_threads(options)},
    )
    with _as_conversion_error(draft), opened(folder, manifest, options) as servable:
        ask = runner(servable)
        examples = [_answered(ask, example) for example in draft.examples]
        _require(check(ask, examples, tolerance), draft.hint)
        signatures = signatures_from_json(servable.signatures)
        batchable = all(signature.batch_axis == 0 for signature in signatures)
        batch_safe = prove_batch_safe(ask, examples, tolerance) if batchable else False
    write_examples(folder, examples, model)
    return replace(manifest, signatures=signatures, batch_safe=batch_safe)


@contextmanager
def _as_conversion_error(draft: Draft) -> Iterator[None]:
    """What a converter wrote and the engine cannot run is a fault of the conversion, whatever the engine calls it."""
    try:
        yield
    except (Internal, InvalidArgument, Unimplemented) as error:
        converted = all(example.outputs is not None for example in draft.examples)
        if error.hint is not None or not converted:
            raise
        raise ConversionError(f"What was written does not run: {error.message}", hint=draft.hint) from error


def _answered(ask: Run, example: GoldenExample) -> GoldenExample:
    return example if example.outputs is not None else replace(example, outputs=_own_answers(ask, example))


def _own_answers(ask: Run, example: GoldenExample) -> dict[str, Tensor]:
    """The engine's answers, copied: the engine's own memory is gone once the version is closed."""
    answer = ask(example.signature, example.inputs)
    return {name: Tensor(tensor.datatype, tensor.array.copy()) for name, tensor in answer.items()}


def _threads(options: EngineOptions) -> dict[str, int]:
    chosen = {"intra_op_threads": options.intra_op_threads, "inter_op_threads": options.inter_op_threads}
    return {name: count for name, count in chosen.items() if count is not None}


def _require(report: Report, hint: str | None) -> None:
    if not report.passed:
        raise GoldenMismatch(f"The version does not answer as the model does:\n{report.table()}", hint=hint)
