"""On which device a version is to run, where an engine leaves the choice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from servable.errors import FailedPrecondition, Unimplemented

if TYPE_CHECKING:
    from servable.engines.options import EngineOptions

DEVICES = ("cpu", "gpu")

# ConfigProto: device_count { key: "GPU" value: 0 }. Source: tensorflow/core/protobuf/config.proto.
_NO_GPU = b"\x0a\x07\x0a\x03GPU\x10\x00"


def on_device(options: EngineOptions, engine: str, device: str) -> EngineOptions:
    """The options that keep an engine to a device.

    Args:
        options: All the others.
        engine: `onnx`, `tensorflow`, `litert` or `python`.
        device: `cpu` or `gpu`.

    Raises:
        Unimplemented: The engine has no such choice.
    """
    if engine == "python":
        raise Unimplemented("A Python model chooses its device itself", hint="leave --device out")
    if engine != "tensorflow":
        if device != "cpu":
            raise Unimplemented(f"The engine {engine} runs on the CPU alone", hint="leave --device out")
        return options
    if device == "gpu":
        return options
    config = options.tensorflow.session_config + _NO_GPU
    return replace(options, tensorflow=replace(options.tensorflow, session_config=config))


def require_gpu() -> None:
    """Checks, once a version is loaded, that its engine has taken hold of a GPU.

    Raises:
        FailedPrecondition: No file of NVIDIA's driver is open in this process.
    """
    try:
        links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    except OSError:
        links = []
    if not any(link.startswith("/dev/nvidia") for link in links):
        raise FailedPrecondition(
            "The engine found no GPU that it can use",
            hint='nvidia-smi shows the GPUs; TensorFlow needs pip install "tensorflow[and-cuda]" for them',
        )
