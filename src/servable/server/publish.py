"""From what the manager decided to what the data plane serves: the routing snapshot.

`native/dataplane/src/route.rs` reads what is written here.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from servable.lifecycle import State
from servable.server.skew import skew_share

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from servable import _native
    from servable.engines.load import Loaded
    from servable.lifecycle import ModelRoute, ModelStatus, Routes, VersionStatus
    from servable.settings import PerModelSettings

LoadedVersions = dict[tuple[str, int], "Loaded"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What `Server.apply` takes.

    Attributes:
        description: The JSON text.
        servables: The loaded servables that the text names.
    """

    description: str
    servables: dict[str, _native.Servable]


def describe(
    routes: Routes,
    loaded: Mapping[tuple[str, int], Loaded],
    settings_of: Callable[[str, int], PerModelSettings],
    *,
    starting: bool,
    metrics: str = "",
    request_logs: Mapping[str, dict[str, Any] | None] = MappingProxyType({}),
) -> Snapshot:
    """The snapshot for these routes.

    Args:
        routes: What the manager published.
        loaded: By model and version; holds every available version.
        settings_of: The settings of a version of a model.
        starting: The first load is not over: unknown models may still come.
        metrics: Lines for Prometheus' page that only Python knows.
        request_logs: Where the requests of a model are logged, by model.
    """
    servables: dict[str, _native.Servable] = {}
    models = {}
    now = time.monotonic()
    for name, route in routes.models.items():
        models[name] = _model(name, route, loaded, settings_of, now) | {"request_log": request_logs.get(name)}
        for version in route.available:
            servables[_key(name, version)] = loaded[name, version].servable
    reasons = ["The models are still being loaded"] if starting else not_ready(routes)
    description = {"ready": not reasons, "reasons": reasons, "starting": starting, "models": models, "metrics": metrics}
    return Snapshot(json.dumps(description), servables)


def not_ready(routes: Routes) -> list[str]:
    """Why the server is not ready: a line for each model that should answer and does not.

    A model whose old version serves while a new one fails is ready: otherwise one bad upload would take every server
    out of the load balancer. So is one that is loaded on demand, also where that has failed for the time.
    """
    reasons = []
    for name, route in routes.models.items():
        if route.answers or not _is_wanted(route.status) or _may_recover(route):
            continue
        reasons.append(f"{name}: {route.unavailable or _trouble(route.status)}")
    return reasons


def first_load_is_over(routes: Routes) -> bool:
    """Whether each model has a version that answers, or has failed once, or has nothing to load."""
    return all(
        route.answers or not route.status.pending or any(version.failure for version in route.status.versions)
        for route in routes.models.values()
    )


def _may_recover(route: ModelRoute) -> bool:
    stay = route.status.residence
    return stay.evicted and (route.retry_at is not None or stay.demand_loads > 0)


def _is_wanted(status: ModelStatus) -> bool:
    failed = any(version.failure for version in status.versions)
    return status.error is not None or (status.wanted and (status.pending or failed))


def _trouble(status: ModelStatus) -> str:
    if status.error is not None:
        return status.error.message
    failed = [version for version in status.versions if version.failure]
    if failed:
        return f"version {failed[0].version} failed to load: {failed[0].message}"
    return "no version is loaded yet"


def _model(
    name: str,
    route: ModelRoute,
    loaded: Mapping[tuple[str, int], Loaded],
    settings_of: Callable[[str, int], PerModelSettings],
    now: float,
) -> dict[str, Any]:
    settings = {version: settings_of(name, version) for version in route.available}
    return {
        "default": route.default,
        "labels": dict(route.labels),
        "hold": route.hold,
        "unavailable": route.unavailable,
        "on_demand": list(route.on_demand),
        "failure": _failure(route, now),
        "versions": {
            str(version): {
                "servable": _key(name, version),
                "batching": batching(settings[version], batchable=loaded[name, version].batchable),
                "max_queued_rows": settings[version].max_queued_rows,
                "skew_sample": skew_share(settings[version], loaded[name, version]),
            }
            for version in route.available
        },
        "status": [_status(status) for status in route.status.versions],
    }


def _failure(route: ModelRoute, now: float) -> dict[str, Any] | None:
    if route.failure is None:
        return None
    retry = None if route.retry_at is None else max(route.retry_at - now, 1.0)
    return {"message": route.failure.message, "retry_s": retry}


def batching(settings: PerModelSettings, *, batchable: bool) -> dict[str, Any] | None:
    """How the data plane groups requests; None for not at all."""
    if settings.batch == "off" or (settings.batch == "auto" and not batchable):
        return None
    return {
        "max_rows": settings.max_batch_rows,
        "timeout_us": round(settings.batch_timeout * 1e6),
        "allowed_sizes": list(settings.allowed_batch_sizes),
        "pad": settings.pad_batches,
        # Left to itself, the data plane makes batches only while it measures that they are worth it.
        "adaptive": settings.batch == "auto",
        "max_request_rows": settings.max_request_rows,
        "split": settings.split_requests,
    }


def _status(status: VersionStatus) -> dict[str, Any]:
    # A version that answers has no error, whatever went wrong on the way to it.
    failed = status.state is not State.AVAILABLE
    return {
        "version": status.version,
        "state": status.state.value,
        "code": status.code if failed else 0,
        "message": status.message if failed else "",
    }


def _key(model: str, version: int) -> str:
    return f"{model}/{version}"
