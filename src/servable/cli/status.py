"""`servable status`: what a server serves."""

from __future__ import annotations

import collections
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import click

from servable.cli.metrics_page import samples
from servable.cli.options import DEFAULT_URL, URL_VARIABLE, credentials_options, json_option, timeout_option
from servable.cli.output import columns, size_text, write, write_json
from servable.cli.skew_status import FeatureSkew, skew_note, skew_of
from servable.errors import InvalidArgument, NotFound
from servable.lifecycle.eviction import eviction_text

if TYPE_CHECKING:
    from servable.client.credentials import Credentials
    from servable.client.http_transport import Http

_HEADS = ("model", "version", "state", "memory", "requests", "note")


@dataclass(frozen=True, slots=True)
class _Version:
    version: int
    state: str
    code: str
    message: str
    memory_bytes: int | None
    requests: int
    skew: list[FeatureSkew] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Status:
    url: str
    ready: bool
    reasons: list[str]
    models: dict[str, list[_Version]]


@click.command()
@click.argument("url", envvar=URL_VARIABLE, default=DEFAULT_URL)
@credentials_options
@timeout_option
@json_option
@click.pass_context
def status(
    context: click.Context,
    *,
    url: str,
    token: str | None,
    ca: str | None,
    cert: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Show what a running server serves.

    A line for each version: its state, memory, answered requests, and what went wrong with it. The skew of inputs
    against those of the training is in --json for every feature, in the table where it is over skew_threshold.

    URL is the address of its REST port; by default SERVABLE_URL, else http://127.0.0.1:8501.

    The exit status is 1 where the server is not ready.
    """
    from servable.client.credentials import Credentials

    found = _ask(url, timeout, Credentials(token or None, ca, cert))
    if as_json:
        write_json(asdict(found))
    else:
        write(f"{found.url} is {'ready' if found.ready else 'not ready'}")
        for reason in found.reasons:
            write(f"  {reason}")
        if any(found.models.values()):
            write(columns([_HEADS, *_rows(found)]))
    context.exit(0 if found.ready else 1)


def _ask(url: str, timeout: float, credentials: Credentials) -> _Status:
    from servable.client.http_transport import Http
    from servable.client.types import Deadline

    if not url.startswith(("http://", "https://")):
        raise InvalidArgument(f"{url} is not an address of REST", hint=f"such as {DEFAULT_URL}")
    until = Deadline(timeout)
    http = Http(url, credentials)
    try:
        ready = http.get("/readyz", until)
        if ready.status not in (200, 503):
            raise NotFound(f"No servable server answers at {url}: /readyz has HTTP status {ready.status}")
        answer = ready.json()
        page = bytes(http.get("/metrics", until).checked().body).decode(errors="replace")
        names = {labels["model"]: None for labels, _ in samples(page, "servable_model_state") if "model" in labels}
        models = {name: _versions(http, name, page, until) for name in names}
    finally:
        http.close()
    reasons = answer.get("reasons", []) if isinstance(answer, dict) else []
    return _Status(url, ready.status == 200, [str(reason) for reason in reasons], models)


def _versions(http: Http, model: str, page: str, until: Any) -> list[_Version]:
    from servable.client import tfs

    memory: collections.Counter[str] = collections.Counter()
    requests: collections.Counter[str] = collections.Counter()
    for counter, name in ((memory, "servable_replica_memory_bytes"), (requests, "servable_requests_total")):
        for labels, value in samples(page, name):
            if labels.get("model") == model:
                counter[labels.get("version", "")] += int(value)
    try:
        found = tfs.read_status(http.get(tfs.status(model).path, until).checked())
    except NotFound:  # it went between the two questions
        return []
    evicted = any(labels.get("model") == model for labels, _ in samples(page, "servable_model_evicted"))
    uses = samples(page, "servable_model_last_use_timestamp_seconds")
    last_use = next((value for labels, value in uses if labels.get("model") == model), None)
    skew = skew_of(page)
    note = eviction_text(None if last_use is None else max(time.time() - last_use, 0.0)) if evicted else ""
    return [
        _Version(
            version=each.version,
            state=each.state,
            code=each.code,
            message=note if note and each.state == "START" else each.message,
            memory_bytes=memory.get(str(each.version)),
            requests=requests[str(each.version)],
            skew=skew.get((model, str(each.version)), []),
        )
        for each in found
    ]


def _rows(found: _Status) -> list[tuple[str, ...]]:
    return [
        (model, str(each.version), each.state, size_text(each.memory_bytes), str(each.requests), _note(each))
        for model, versions in found.models.items()
        for each in versions
    ]


def _note(version: _Version) -> str:
    return "; ".join(filter(None, (version.message, skew_note(version.skew))))
