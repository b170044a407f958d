"""What a conversion hands over: the files are written, the version is not finished."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from servable.model.formats import Format
    from servable.model.golden import GoldenExample
    from servable.model.signatures import Signature


@dataclass(frozen=True)
class Draft:
    """A converted model in a folder that nobody looks at yet.

    Attributes:
        form: Format, file and engine.
        examples: Inputs with the framework's own answers; without answers where the engine is the framework.
        signatures: What it takes and gives; empty where the engine reads that from the file.
        frameworks: Versions of the packages that made it.
        engine_options: For the manifest.
        hint: What helps when engine and framework do not agree.
    """

    form: Format
    examples: Sequence[GoldenExample]
    signatures: tuple[Signature, ...] = ()
    frameworks: Mapping[str, str] = field(default_factory=dict)
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    hint: str | None = None
