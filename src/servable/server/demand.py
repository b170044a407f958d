"""Models that are loaded on demand: the thread that hears of requests which wait, and the metrics of evictions."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

from servable.engines.native import typed_errors
from servable.errors import FailedPrecondition
from servable.lifecycle import Use
from servable.server.metrics_text import escaped

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable import _native
    from servable.lifecycle import Routes

_LONGEST_WAIT_S = 3600.0
_EVICTIONS = "servable_evictions_total"
_DEMAND_LOADS = "servable_demand_loads_total"
_EVICTED = "servable_model_evicted"
_LAST_USE = "servable_model_last_use_timestamp_seconds"


class DemandWatch:
    """Tells which models requests wait for, as long as it runs.

    Args:
        native: The data plane.
        demand: Called with the names, on this watch's own thread.
    """

    def __init__(self, native: _native.Server, demand: Callable[[list[str]], None]) -> None:
        self._native = native
        self._demand = demand
        self._thread = threading.Thread(target=self._run, name="servable-demand", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Waits for the end of the thread; the data plane has stopped before."""
        if self._thread.is_alive():
            self._thread.join()

    def usage(self) -> dict[str, Use]:
        """How the models that serve are used."""
        try:
            with typed_errors():
                found = json.loads(self._native.usage())
        except FailedPrecondition:  # not started, or stopped
            return {}
        return {name: Use(use["idle_s"], use["in_flight"]) for name, use in found.items()}

    def _run(self) -> None:
        while (names := self._native.wait_demand(_LONGEST_WAIT_S)) is not None:
            if names:
                self._demand(names)


def residence_metrics(routes: Routes) -> str:
    """The lines for Prometheus about models that go and come; none where none ever did."""
    stays = {name: route.status.residence for name, route in routes.models.items()}
    now, clock = time.time(), time.monotonic()
    rows: dict[str, list[tuple[str, float]]] = {
        f"{_EVICTIONS} counter": [(name, stay.evictions) for name, stay in stays.items() if stay.evictions],
        f"{_DEMAND_LOADS} counter": [(name, stay.demand_loads) for name, stay in stays.items() if stay.demand_loads],
        f"{_EVICTED} gauge": [(name, 1) for name, stay in stays.items() if stay.evicted],
        f"{_LAST_USE} gauge": [
            (name, round(now - (clock - stay.last_used), 1))
            for name, stay in stays.items()
            if stay.last_used is not None
        ],
    }
    lines = []
    for head, samples in rows.items():
        if samples:
            lines.append(f"# TYPE {head}")
        for name, value in samples:
            lines.append(f'{head.split()[0]}{{model="{escaped(name)}"}} {value}')
    return "".join(f"{line}\n" for line in lines)
