"""From the settings of a server and of a model to what engines are told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from servable.engines.options import EngineOptions, LiteRTOptions, TensorFlowOptions
from servable.engines.session_config import read_session_config

if TYPE_CHECKING:
    from servable.settings import PerModelSettings, ServerSettings


def tensorflow_options_of(settings: ServerSettings) -> TensorFlowOptions:
    """What the settings say for TensorFlow.

    Raises:
        ServableError: The session config that they name cannot be read.
    """
    config = settings.tensorflow_session_config
    return TensorFlowOptions(
        tags=settings.saved_model_tags,
        custom_ops=tuple(Path(library).absolute() for library in settings.custom_ops),
        gpu_memory_fraction=settings.gpu_memory_fraction or None,
        gpu_memory_growth=settings.gpu_memory_growth,
        session_config=read_session_config(config) if config else b"",
    )


def engine_options(server: ServerSettings, model: PerModelSettings, tensorflow: TensorFlowOptions) -> EngineOptions:
    """What a load of a version is told; zero threads are one a core."""
    cores = os.cpu_count() or 1
    return EngineOptions(
        model.intra_op_threads or cores,
        model.inter_op_threads or cores,
        tensorflow=tensorflow,
        litert=LiteRTOptions(model.prefer_tflite, model.tflite_interpreters or None),
        warm_up_iterations=server.warm_up_iterations,
    )
