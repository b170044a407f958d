"""What a server has to say of its models, for people: the rows of the table that `servable serve` shows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from servable.lifecycle import State
from servable.lifecycle.eviction import eviction_text
from servable.server.publish import batching, not_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from servable.engines.load import Loaded
    from servable.lifecycle import ModelRoute, Routes, VersionStatus
    from servable.model.signatures import Signature
    from servable.settings import PerModelSettings


@dataclass(frozen=True, slots=True)
class VersionReport:
    """One version; or a model of which there is none, then with `version` None.

    Attributes:
        model: Its name.
        version: Its number.
        state: START, LOADING, AVAILABLE, UNLOADING or END; empty where there is no version.
        default: Whether it answers requests that name no version.
        format: Its format, and the engine where that has another name. Empty until it is loaded.
        batching: How requests are joined. Empty until it is loaded.
        memory: Bytes that the engine holds for it; None until it is loaded.
        note: What went wrong, or should be known. May have many lines.
        failed: Whether the note tells of an error.
        signatures: What it takes and gives. Empty until it is loaded.
    """

    model: str
    version: int | None
    state: str
    default: bool = False
    format: str = ""
    batching: str = ""
    memory: int | None = None
    note: str = ""
    failed: bool = False
    signatures: tuple[Signature, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerReport:
    """All versions that are, or should be, there; by model, highest first.

    Attributes:
        starting: The first load is not over.
        not_ready: Why the server is not ready; empty where it is.
        versions: The versions.
    """

    starting: bool
    not_ready: tuple[str, ...]
    versions: tuple[VersionReport, ...]


def report_on(
    routes: Routes,
    loaded: Mapping[tuple[str, int], Loaded],
    settings_of: Callable[[str], PerModelSettings],
    *,
    starting: bool,
) -> ServerReport:
    """Puts together what the manager, the engines and the settings know."""
    reasons = ["The models are still being loaded"] if starting else not_ready(routes)
    rows = (row for name, route in routes.models.items() for row in _model_rows(name, route, loaded, settings_of(name)))
    return ServerReport(starting, tuple(reasons), tuple(rows))


def _model_rows(
    name: str, route: ModelRoute, loaded: Mapping[tuple[str, int], Loaded], settings: PerModelSettings
) -> Iterator[VersionReport]:
    if route.status.error is not None or route.status.notes:
        error = [route.status.error.message] if route.status.error else []
        yield VersionReport(name, None, "", note="; ".join([*error, *route.status.notes]), failed=bool(error))
    for status in route.status.versions:
        # What ended as it should is of no interest any more.
        if status.state is not State.END or status.failure:
            yield _version_row(name, route, status, loaded.get((name, status.version)), settings)


def _version_row(
    name: str, route: ModelRoute, status: VersionStatus, loaded: Loaded | None, settings: PerModelSettings
) -> VersionReport:
    available = status.state is State.AVAILABLE
    labels = [label for label, version in route.labels.items() if version == status.version]
    note = status.message if not available else f"label {', '.join(labels)}" if labels else ""
    if status.evicted:
        last_used = route.status.residence.last_used
        note = eviction_text(None if last_used is None else time.monotonic() - last_used)
    return VersionReport(
        model=name,
        version=status.version,
        state=status.state.value,
        default=status.version == route.default,
        format=_format(loaded) if loaded else "",
        batching=_batching(settings, loaded) if loaded else "",
        memory=loaded.footprint if loaded else None,
        note=note,
        failed=bool(status.failure) and not available and not status.evicted,
        signatures=loaded.signatures if loaded else (),
    )


def _format(loaded: Loaded) -> str:
    form = loaded.format
    return form.name if form.engine == form.name else f"{form.name} by {form.engine}"


def _batching(settings: PerModelSettings, loaded: Loaded) -> str:
    if batching(settings, batchable=loaded.batchable) is not None:
        return f"up to {settings.max_batch_rows} rows"
    if settings.batch == "off":
        return "off"
    return "no: rows depend" if loaded.batch_safe is False else "no: not proven"
