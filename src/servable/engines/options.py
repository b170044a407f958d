"""What an engine is told when it loads a version."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from servable.engines.library import litert_library, onnxruntime_library, tensorflow_library, tensorflow_text_libraries
from servable.errors import InvalidArgument, ManifestError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_THREADS = 1024


@dataclass(frozen=True)
class TensorFlowOptions:
    """How TensorFlow loads SavedModels. All but the tags hold for the whole process: those of its first load count.

    Attributes:
        tags: Of the meta graph that is served.
        custom_ops: Shared libraries with operations that TensorFlow lacks. Those of the package `tensorflow-text` need
            not be named where it is installed.
        gpu_memory_fraction: Share of each GPU's memory, over 0 and up to 1; None for TensorFlow's own choice.
        gpu_memory_growth: Take the GPU's memory as it is needed, not at once.
        session_config: A serialized `tensorflow.ConfigProto`. What it says of threads wins over `EngineOptions`; what
            is said here of GPUs wins over it.

    Raises:
        InvalidArgument: The fraction is out of its range.
    """

    tags: tuple[str, ...] = ("serve",)
    custom_ops: tuple[Path, ...] = ()
    gpu_memory_fraction: float | None = None
    gpu_memory_growth: bool = False
    session_config: bytes = b""

    def __post_init__(self) -> None:
        fraction = self.gpu_memory_fraction
        if fraction is not None and not 0 < fraction <= 1:
            raise InvalidArgument(f"gpu_memory_fraction must be over 0 and at most 1, not {fraction}")


@dataclass(frozen=True)
class LiteRTOptions:
    """How TensorFlow Lite models are loaded.

    Attributes:
        prefer: Take `model.tflite` where a version's folder holds a SavedModel as well.
        interpreters: Most runs of a model at the same time, each with memory of its own; they are made when they are
            needed. None for one a core.

    Raises:
        InvalidArgument: The number is out of its range.
    """

    prefer: bool = False
    interpreters: int | None = None

    def __post_init__(self) -> None:
        if self.interpreters is not None and not 1 <= self.interpreters <= MAX_THREADS:
            raise InvalidArgument(f"interpreters must be from 1 to {MAX_THREADS}, not {self.interpreters}")


@dataclass(frozen=True)
class EngineOptions:
    """Options of one load; None takes what the manifest says, else the engine's default.

    Attributes:
        intra_op_threads: Threads that share the work of one operator. Default 1: parallelism comes from requests.
        inter_op_threads: Threads that run independent operators of one call side by side. Default 1.
        library: The engine's shared library. Default: the one of the installed wheel.
        tensorflow: What only TensorFlow is told.
        warm_up_iterations: How often each golden example is run; 0 for not at all: nothing is proven then.
        litert: What only LiteRT is told.
    """

    intra_op_threads: int | None = None
    inter_op_threads: int | None = None
    library: Path | None = None
    tensorflow: TensorFlowOptions = field(default_factory=TensorFlowOptions)
    warm_up_iterations: int = 1
    litert: LiteRTOptions = field(default_factory=LiteRTOptions)

    def __post_init__(self) -> None:
        for name in ("intra_op_threads", "inter_op_threads"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= MAX_THREADS:
                raise InvalidArgument(f"{name} must be from 1 to {MAX_THREADS}, not {value}")


def onnx_options(options: EngineOptions, saved: Mapping[str, Any]) -> str:
    """The options of the engine `onnx` as the data plane reads them.

    Args:
        options: Of this load.
        saved: `engine_options` of the manifest.

    Raises:
        EngineMissing: ONNX Runtime is not installed.
        ManifestError: The manifest's options are of another form.
    """
    return json.dumps(
        {
            "library": str(options.library or onnxruntime_library()),
            "intra_op_threads": options.intra_op_threads or _threads(saved, "intra_op_threads"),
            "inter_op_threads": options.inter_op_threads or _threads(saved, "inter_op_threads"),
        }
    )


def tensorflow_options(options: EngineOptions, saved: Mapping[str, Any]) -> str:
    """The options of the engine `tensorflow` as the data plane reads them.

    TensorFlow has one set of threads in a process, which all its models share: those of the first load count. One
    thread between operations, the default elsewhere, would let one model wait for another, so it means one a core here
    (said in numbers, since TensorFlow counts those that the loading thread may use).

    Args:
        options: Of this load.
        saved: `engine_options` of the manifest.

    Raises:
        EngineMissing: TensorFlow is not installed.
        ManifestError: The manifest's options are of another form.
    """
    special = options.tensorflow
    inter_op_threads = options.inter_op_threads or _threads(saved, "inter_op_threads")
    return json.dumps(
        {
            "library": str(options.library or tensorflow_library()),
            "tags": special.tags,
            "intra_op_threads": options.intra_op_threads or _threads(saved, "intra_op_threads"),
            "inter_op_threads": (os.cpu_count() or 1) if inter_op_threads == 1 else inter_op_threads,
            "gpu_memory_fraction": special.gpu_memory_fraction or 0.0,
            "gpu_memory_growth": special.gpu_memory_growth,
            "session_config": list(special.session_config),
            "custom_ops": [str(path) for path in special.custom_ops],
            "spare_ops": [str(path) for path in tensorflow_text_libraries()],
        }
    )


def litert_options(options: EngineOptions, saved: Mapping[str, Any]) -> str:
    """The options of the engine `litert` as the data plane reads them.

    Args:
        options: Of this load.
        saved: `engine_options` of the manifest.

    Raises:
        EngineMissing: LiteRT is not installed, or in a version that is not known.
        ManifestError: The manifest's options are of another form.
    """
    return json.dumps(
        {
            "library": str(options.library or litert_library()),
            "intra_op_threads": options.intra_op_threads or _threads(saved, "intra_op_threads"),
            "interpreters": options.litert.interpreters or os.cpu_count() or 1,
        }
    )


def _threads(saved: Mapping[str, Any], name: str) -> int:
    value = saved.get(name, 1)
    if type(value) is not int or not 1 <= value <= MAX_THREADS:
        raise ManifestError(f"Engine option '{name}' must be an integer from 1 to {MAX_THREADS}, not {value!r}")
    return value
