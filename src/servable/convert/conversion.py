"""What a converter is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from servable.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from servable.model.examples import Examples


@dataclass(frozen=True)
class Conversion:
    """One model on its way to become a version.

    Attributes:
        model: What the user has, of whatever framework.
        examples: Real inputs, as the user has them: what `preprocess` takes, or else what the model takes.
        folder: Where to write. Nobody looks at it yet.
        preprocess: What comes before the model and is to be inside the version; None for nothing.
        format: `onnx`, `saved_model`, `tflite` or `python`; None for the one that suits the model best.
        signatures: Further functions of the model to serve, by name; frameworks without functions refuse it.
        datatype: `FP32` or `FP64`: what numbers become where the framework computes in either.
        say: Tells the user, in a few words, which stage comes.
    """

    model: Any
    examples: Examples
    folder: Path
    preprocess: Any = None
    format: str | None = None
    signatures: Mapping[str, Any] | None = None
    datatype: str = "FP32"
    say: Callable[[str], None] = lambda _: None

    def allow(self, *formats: str, preprocess: bool = False, signatures: bool = False) -> None:
        """Refuses what a framework has no way for.

        Args:
            *formats: The formats that it can be written in.
            preprocess: Whether it takes something that comes before the model.
            signatures: Whether it takes further functions.

        Raises:
            ConversionError: Something else was asked for.
        """
        kind = f"A model of type {type(self.model).__name__}"
        if self.format is not None and self.format not in formats:
            known = " or ".join(formats)
            raise ConversionError(f"{kind} cannot be written as '{self.format}'", hint=f"it becomes {known}")
        if self.preprocess is not None and not preprocess:
            raise ConversionError(f"{kind} takes no preprocess=", hint="put it inside the model")
        if self.signatures and not signatures:
            raise ConversionError(f"{kind} takes no signatures=", hint="save it as several models")
