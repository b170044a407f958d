"""`servable.save`: a trained model becomes the next version in a folder, proven to answer as the model does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servable.convert.conversion import Conversion
from servable.convert.converters import converter_of
from servable.convert.proof import prove
from servable.convert.statistics import version_statistics
from servable.engines.options import EngineOptions
from servable.model.destination import destination_of
from servable.model.examples import take_examples
from servable.model.manifest import record_files, write_manifest
from servable.model.origin import origin_of
from servable.model.tolerance import check_tolerance
from servable.model.versions import check_number

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from servable.model.tolerance import Tolerance
    from servable.model.versions import Version


def save(
    model: object,
    folder: str | os.PathLike[str],
    *,
    examples: Any,
    preprocess: Any = None,
    signatures: Mapping[str, Any] | None = None,
    format: str | None = None,  # noqa: A002  # the word that users know
    version: int | None = None,
    input_name: str = "inputs",
    datatype: str = "FP32",
    tolerance: Mapping[str, Tolerance] | None = None,
    statistics: Any = None,
    options: EngineOptions | None = None,
    run: str | None = None,
    parent_version: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Version:
    """Writes a trained model as a version that any server of servable can run.

    The version carries golden examples: the inputs given here with the model's own answers. What was written is run by
    servable's engine and compared with them before it becomes visible. Nothing is left behind where this fails.

    Args:
        model: A fitted model of scikit-learn, XGBoost or LightGBM; a Keras model, or the path of a .keras file; a
            tf.Module, or the path of a SavedModel's folder; a PyTorch module or program of torch.export; a JAX function
            with its parameters; the path of an .onnx, .pt2 or .tflite file, or a ModelProto; or any object with
            `predict` (see `servable.convert.python_object`).
        folder: The model's folder, like `models/digits` or `s3://bucket/models/digits`; it is made if it is not there.
            Its name is the model's name.
        examples: Real inputs as the model takes them: an array whose first axis counts instances, a dict of arrays, or
            a DataFrame. A handful is best; at most 1024.
        preprocess: What comes before the model, in the same framework: a function, a layer or a module. It becomes part
            of the version, which then takes what `preprocess` takes. The examples are what goes into it.
        signatures: Further functions to serve, by name; see `servable.convert.conversion`.
        format: `onnx`, `saved_model`, `tflite` or `python`. Default: what suits the model best.
        version: The version's number. Default: the highest one there, plus one.
        input_name: What to call the input where the examples are one array. An ONNX model brings its own name.
        datatype: `FP32` or `FP64`: what floats become, where the framework computes in either.
        tolerance: By datatype, how far the engine's answers may be from the model's. Stored with the version.
        statistics: Training inputs, in the form of the examples, as many rows as you like. What they look like (feature
            by feature: range, deciles, categories, missing values) is stored with the version, and a server tells when
            requests look otherwise. Default: the examples, which are too few for that.
        options: Threads of the engine; stored with the version.
        run: The training run that the model comes from, in your words.
        parent_version: The version that it was trained on from.
        progress: Called with a few words before each stage.

    Returns:
        The version: its folder, number and manifest.

    Raises:
        ConversionError: The model cannot be turned into a version.
        GoldenMismatch: The version does not answer as the model does. Message: a table of where and how much.
        AlreadyExists: The version number is taken.
        InvalidArgument: Examples or folder are unusable.
        Unavailable: The bucket cannot be reached; further errors of buckets: `servable.storage.location.Location`.
        EngineMissing: ONNX Runtime is not installed.

    Example:
        >>> version = save(pipeline, "models/digits", examples=x[:8])  # doctest: +SKIP
        >>> print(version)  # doctest: +SKIP
        digits/1
    """
    say = progress or (lambda _: None)
    model_folder = destination_of(folder)
    given = take_examples(examples, input_name)
    limits = check_tolerance(tolerance)
    if version is not None:
        model_folder.require_free(check_number(version))
    with model_folder.staging() as staging:
        say(f"Converting {Path(model).name if isinstance(model, str | Path) else type(model).__name__}")
        draft = converter_of(model).convert(
            Conversion(model, given, staging, preprocess, format, signatures, datatype, say)
        )
        say("Checking it against the model's own answers")
        proven = prove(draft, staging, model_folder.name, limits, options or EngineOptions())
        manifest = replace(
            proven,
            statistics=version_statistics(statistics, draft.examples, proven.signatures),
            origin=origin_of(run, parent_version),
            files=record_files(staging),
        )
        write_manifest(staging, manifest)
        saved = model_folder.publish(staging, manifest, version, say)
    say(f"Saved version {saved.number}")
    return saved
