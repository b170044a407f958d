"""The model repository: what clients ask for by HTTP or gRPC, answered by changing folders and what is wanted of them.

The requests are those of the Open Inference Protocol's extension
(https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md), and our own:
uploads, removals, and the versions of one model.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from servable.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServableError,
    Unavailable,
    Unimplemented,
    from_status,
)
from servable.lifecycle import ModelStatus, State, clear_pin, read_pin, write_pin
from servable.lifecycle.folders import list_versions
from servable.server.uploads import Upload, begin, finish, remove_folder
from servable.settings.load import is_loopback

if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable, Iterator

    from servable.lifecycle import Routes, VersionStatus, WithheldSource
    from servable.server.model_server import ModelServer
    from servable.server.places import Places
    from servable.settings import ServerSettings

logger = logging.getLogger(__name__)

MAX_BODY = 64 << 10
"""Bytes of a request's JSON."""

_LOOK_AGAIN_S = 0.25
EVICTED = "UNLOADED, evicted: loaded again at the next request"
"""The reason in the index where a model made room for others."""

_STATES = {
    State.START: "LOADING",
    State.LOADING: "LOADING",
    State.AVAILABLE: "READY",
    State.UNLOADING: "UNLOADING",
    State.END: "UNAVAILABLE",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for.

    Attributes:
        action: `index`, `model`, `load`, `unload`, `unpin`, `remove`; `begin`, `finish` and `uploaded` are
            the steps of an upload.
        model: The model's name; empty for all of them.
        version: The version's number, or None.
        body: The JSON object that came with it.
        query: Of the address.
        upload: For the steps of an upload: size, digests, and the file that was filled.
    """

    action: str
    model: str
    version: int | None
    body: dict[str, Any]
    query: dict[str, str]
    upload: Upload


class Repository:
    """Answers requests that list or change the models of a server. From any thread.

    Args:
        server: The server.
        places: Where its models are.
        settings: Its `repository` says what clients may do.
    """

    def __init__(self, server: weakref.ref[ModelServer], places: Places, settings: ServerSettings) -> None:
        self._reference = server
        self._places = places
        self._settings = settings
        self._access, self._why = access(settings)
        self._actions: dict[str, Callable[[Request], Any]] = {
            "index": self._index,
            "model": self._model,
            "load": self._load,
            "unload": self._unload,
            "unpin": self._unpin,
            "remove": self._remove,
            "begin": self._begin,
            "finish": self._finish,
            "uploaded": self._uploaded,
        }

    def answer(self, text: str) -> str:
        """Answers a request of the data plane (`native/dataplane/src/listen/repository.rs`): JSON in, JSON out.

        Raises:
            ServableError: What the client is told.
        """
        request = _read(text)
        if self._access == "off":
            raise Unimplemented("This server does not show its repository of models (setting repository)")
        if request.action not in ("index", "model") and self._access != "write":
            raise PermissionDenied(f"This server lets nobody change its models: {self._why}")
        return json.dumps(self._actions[request.action](request))

    # --- what is there

    def _index(self, request: Request) -> list[dict[str, str]]:
        ready = request.body.get("ready", False)
        if not isinstance(ready, bool):
            raise InvalidArgument("'ready' is true or false")
        server = self._server()
        rows = (
            row
            for name, route in server.routes.models.items()
            if name in server.source.last or any(each.state is not State.END for each in route.status.versions)
            for row in _rows(name, route.status)
        )
        return [row for row in rows if not ready or row["state"] == "READY"]

    def _model(self, request: Request) -> dict[str, Any]:
        server, name = self._server(), request.model
        route = server.routes.models.get(name)
        status = route.status if route else ModelStatus()
        try:
            folder = self._places.find(name)
            on_disk, pin = list_versions(folder).paths, read_pin(folder)
        except (NotFound, OSError):
            if route is None:
                raise NotFound(f"There is no model {name[:255]!r}") from None
            on_disk, pin = {}, None
        known = {each.version: each for each in status.versions}
        numbers = sorted(on_disk.keys() | known.keys(), reverse=True)
        return {
            "name": name,
            "default": route.default if route else None,
            "pinned": pin,
            "unloaded": name in server.source.names,
            "versions": [_version(number, known.get(number), on_disk=number in on_disk) for number in numbers],
            "notes": [*([status.error.message] if status.error else []), *status.notes],
        }

    # --- loaded and unloaded

    def _load(self, request: Request) -> dict[str, Any]:
        _check_parameters(request.body)
        server, name = self._server(), request.model
        self._places.find(name)
        if request.version is not None:
            write_pin(self._places.changeable(name), request.version)
            logger.info("A client pins model %s to version %d", name, request.version)
        if not self._answers(name):
            # What has failed is tried once more: it counts as wanted anew.
            server.look_at_once(lambda source: source.names.add(name))
        server.look_at_once(lambda source: source.names.discard(name))
        server.demand([name])
        logger.info("A client loads model %s", name)
        if _flag(request.query, "wait", default=True):
            self._wait(name, request.version)
        return self._told(name)

    def _unload(self, request: Request) -> dict[str, Any]:
        _check_parameters(request.body)
        name = request.model
        if name not in self._server().routes.models:
            self._places.find(name)
        self._server().look_at_once(lambda source: source.names.add(name))
        logger.info("A client unloaded model %s", name)
        return self._told(name)

    def _unpin(self, request: Request) -> dict[str, Any]:
        was_pinned = clear_pin(self._places.changeable(request.model))
        self._server().look_at_once()
        return self._told(request.model) | {"was_pinned": was_pinned}

    # --- on disk

    def _remove(self, request: Request) -> dict[str, Any]:
        name, number = request.model, request.version
        folder = self._places.removable(name) if number is None else self._places.changeable(name)
        gone = folder
        if number is not None:
            found = list_versions(folder).paths.get(number)
            if found is None:
                raise NotFound(f"There is no version {number} of model {name}")
            if read_pin(folder) == number:
                raise FailedPrecondition(
                    f"Version {number} of model {name} is pinned", hint="pin another one or take the pin away first"
                )
            gone = found
        elif not list_versions(folder).paths and name not in self._server().routes.models:
            raise NotFound(f"There is no model {name!r}")
        logger.info("A client removes %s", gone)
        with remove_folder(gone):

            def forget(source: WithheldSource) -> None:
                if number is None:
                    source.names.discard(name)

            self._server().look_at_once(forget)
        return {"removed": {"model": name, "version": number}}

    def _begin(self, request: Request) -> dict[str, Any]:
        _flag(request.query, "wait", default=True)
        folder = self._places.take(request.model)
        return {"path": str(begin(folder, self._places.staging(request.model), request.version))}

    def _finish(self, request: Request) -> dict[str, Any]:
        name = request.model
        number = finish(
            self._places.take(name),
            request.version,
            request.upload,
            max_bytes=self._settings.max_upload_size,
            allow_code=self._settings.upload_code,
        )
        logger.info("A client uploaded version %d of model %s, %d bytes", number, name, request.upload.size)
        return {"version": number}

    def _uploaded(self, request: Request) -> dict[str, Any]:
        name, number = request.model, request.version
        self._server().look_at_once()
        if _flag(request.query, "wait", default=True):
            self._server().demand([name])
            self._wait(name, number, uploaded=True)
        about = {"version": number, "sha256": request.upload.sha256, "bytes": request.upload.size}
        state = next((each["state"] for each in self._told(name)["versions"] if each["version"] == number), None)
        return {"model": name, **about, "state": state}

    # --- how

    def _server(self) -> ModelServer:
        server = self._reference()
        if server is None or server.stopping:
            raise Unavailable("The server is stopping")
        return server

    def _told(self, name: str) -> dict[str, Any]:
        route = self._server().routes.models.get(name)
        versions = route.status.versions if route else ()
        return {"model": name, "versions": [_version(each.version, each) for each in versions]}

    def _answers(self, name: str) -> bool:
        route = self._server().routes.models.get(name)
        return route is not None and bool(route.available)

    def _wait(self, name: str, number: int | None, *, uploaded: bool = False) -> None:
        """Waits until the version, or any of the model, answers.

        Raises:
            ServableError: It failed; with the message of the load.
            DeadlineExceeded: It takes longer than `reload_timeout`.
        """
        deadline = time.monotonic() + self._settings.reload_timeout
        while not self._is_settled(name, number, uploaded=uploaded):
            if time.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"Model {name} does not answer after {self._settings.reload_timeout:g} s. Loading goes on",
                    hint="setting reload_timeout",
                )
            server = self._server()
            revision = server.routes.revision

            def has_changed(routes: Routes, server: ModelServer = server, revision: int = revision) -> bool:
                return routes.revision != revision or server.stopping

            server.wait_for(has_changed, _LOOK_AGAIN_S)

    def _is_settled(self, name: str, number: int | None, *, uploaded: bool) -> bool:
        """Whether there is nothing more to wait for; raises where that is because it failed."""
        server = self._server()
        route = server.routes.models.get(name)
        status = route.status if route else ModelStatus()
        wanted = server.source.last.get(name)
        if wanted is None:
            raise NotFound(f"Model {name} is gone")
        numbers = {place.version for place in wanted.versions}
        if uploaded and number not in (*numbers, *wanted.settling):
            return True  # pinned to another version, or not what the policy asks for
        if name in server.source.names:
            return True
        numbers = numbers if number is None else {number}
        versions = [each for each in status.versions if each.version in numbers]
        if any(each.state is State.AVAILABLE for each in versions):
            return True
        if wanted.settling:
            return False
        for each in versions:
            if each.failure is not None and each.state is not State.UNLOADING:
                kept = "is stored, but " if uploaded else ""
                text = f"Version {each.version} of model {name} {kept}cannot be loaded: {each.failure.message}"
                raise from_status(each.failure.code, text)
        if wanted.error is not None:
            raise from_status(wanted.error.code, wanted.error.message)
        if not wanted.versions:
            raise NotFound(f"There is nothing to load of model {name}: {'; '.join(wanted.notes)}")
        return False


def access(settings: ServerSettings) -> tuple[str, str]:
    """What clients may do with the models (`off`, `read` or `write`), and why it is not more."""
    asked = settings.repository
    if asked == "auto":
        asked = "write" if settings.tokens else "read"
        why = "allow it with --repository write, or ask for tokens"
    else:
        why = f"repository is {asked}"
    is_mutual = bool(settings.tls_client_ca) and settings.tls_client_verify == "required"
    if asked == "write" and not (settings.tokens or is_mutual or is_loopback(settings.bind)):
        return "read", "other machines reach it, and it asks neither for tokens nor for certificates"
    return asked, why


def repository_handler(repository: Repository) -> Callable[[str], str]:
    """What the data plane calls. Faults are logged, and answered without what is inside."""

    def answer(text: str) -> str:
        try:
            return repository.answer(text)
        except ServableError as error:
            if error.hint:
                error.args = (f"{error.message} ({error.hint})",)
                error.message = error.args[0]
            raise
        except OSError as error:
            logger.exception("A request to the repository failed")
            raise Internal(f"The files of the models cannot be changed: {error.strerror}") from error
        except Exception as error:
            logger.exception("A request to the repository failed")
            raise Internal(f"The request to the repository failed: {type(error).__name__}") from error

    return answer


def _read(text: str) -> Request:
    found = json.loads(text)
    try:
        query = {name: values[-1] for name, values in parse_qs(found["query"], max_num_fields=16).items()}
    except ValueError:
        raise InvalidArgument("The address has too many parameters") from None
    for name in query.keys() - {"wait", "sha256"}:
        raise InvalidArgument(f"Unknown parameter {name[:100]!r} in the address", hint="there are wait and sha256")
    upload = Upload(
        path=Path(found.get("path", "")),
        size=found.get("size") or 0,
        sha256=found.get("sha256", ""),
        digests=tuple(found.get("digests", ())),
        wanted_sha256=query.get("sha256", ""),
    )
    return Request(found["action"], found["model"], found["version"], _body(found.get("body", "")), query, upload)


def _body(text: str) -> dict[str, Any]:
    if len(text) > MAX_BODY:
        raise InvalidArgument(f"The body has more than {MAX_BODY} characters")
    try:
        body = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"The body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise InvalidArgument("The body is a JSON object")
    return body


def _check_parameters(body: dict[str, Any]) -> None:
    parameters = body.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidArgument("'parameters' is a JSON object")
    for name, value in parameters.items():
        # Triton's clients always send it. No model here is made of others, so there is nothing to unload beside it.
        if name != "unload_dependents":
            raise InvalidArgument(f"Unknown parameter {name[:100]!r}", hint="there is unload_dependents")
        if not isinstance(value, bool):
            raise InvalidArgument("'unload_dependents' is true or false")


def _flag(query: dict[str, str], name: str, *, default: bool) -> bool:
    value = query.get(name, str(default).lower())
    if value not in ("true", "false"):
        raise InvalidArgument(f"{name} is true or false, not {value[:100]!r}")
    return value == "true"


def _rows(name: str, status: ModelStatus) -> Iterator[dict[str, str]]:
    """The versions of a model as the index has them; one row without a version where there is none."""
    for each in status.versions:
        reason = each.message or ("unloaded" if each.state is State.END else "")
        reason = "" if each.state is State.AVAILABLE else EVICTED if each.evicted else reason
        state = "UNAVAILABLE" if each.evicted else _STATES[each.state]
        yield {"name": name, "version": str(each.version), "state": state, "reason": reason}
    if not status.versions:
        notes = [*([status.error.message] if status.error else []), *status.notes]
        yield {"name": name, "version": "", "state": "UNAVAILABLE", "reason": "; ".join(notes)}


def _version(number: int, status: VersionStatus | None, *, on_disk: bool = True) -> dict[str, Any]:
    failed = status is not None and status.state is not State.AVAILABLE
    return {
        "version": number,
        "state": status.state.value if status else None,
        "message": EVICTED if status and status.evicted else status.message if status and failed else "",
        "on_disk": on_disk,
    }
