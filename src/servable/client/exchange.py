"""HTTP requests and replies as values, and the errors that replies stand for. No sockets here."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from servable.errors import (
    AlreadyExists,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServableError,
    StorageFull,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_MESSAGE = 2000
TOKEN_HINT = "give the client a token: Client(url, token=...), --token or SERVABLE_TOKEN"  # noqa: S105
_ERRORS: dict[int, type[ServableError]] = {
    400: InvalidArgument,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    405: Unimplemented,
    408: DeadlineExceeded,
    409: AlreadyExists,
    413: TooLarge,
    415: InvalidArgument,
    422: InvalidArgument,
    431: ResourceExhausted,
    500: Internal,
    501: Unimplemented,
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
    507: StorageFull,
}


class Failed(Exception):  # noqa: N818  # never leaves the client: it becomes Unavailable
    """A request got no answer.

    Attributes:
        sent: Whether the server may have got it, and so may have done what it asks for.
    """

    def __init__(self, message: str, *, sent: bool, hint: str | None = None) -> None:
        super().__init__(message)
        self.sent = sent
        self.hint = hint

    def error(self) -> Unavailable:
        """What the caller of the client gets to see."""
        return Unavailable(str(self), hint=self.hint)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, without the address of the server."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP reply, read whole. The names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytearray

    def json(self) -> Any:
        """The body as JSON, with NaN and Infinity allowed; Internal where it is not that."""
        return read_json(self.body)

    def checked(self) -> Reply:
        """The reply itself where it is a success, else its error is raised."""
        if self.status != 200:
            raise error_of(self)
        return self

    @property
    def refused(self) -> bool:
        """Whether the server did not take the request now, and may take it later."""
        return self.status in (429, 503)

    @property
    def unsure(self) -> bool:
        """Whether a gateway lost the server behind it, which may have done what was asked for."""
        return self.status == 502

    @property
    def retry_after(self) -> float | None:
        """Seconds that the server asks to wait for, if it does (RFC 9110, section 10.2.3, without dates)."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None


def read_json(text: bytes | bytearray | memoryview) -> Any:
    """JSON of a server, with NaN and Infinity allowed; Internal where it cannot be read.

    Bytes that are no UTF-8 are kept as surrogates: TensorFlow Serving writes strings as the model gave them.
    """
    try:
        return json.loads(str(text, "utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise Internal(f"The server's answer is not JSON: {error}") from None


def error_of(reply: Reply) -> ServableError:
    """The typed error of a reply that is no success, with the server's own message.

    Example:
        >>> error_of(Reply(404, {}, bytearray(b'{"error": "no such model"}')))
        NotFound('no such model')
    """
    message = _message(reply)
    if reply.status in (502, 503):
        return Unavailable(message, retry_after=reply.retry_after)
    if reply.status == 429:
        return ResourceExhausted(message, retry_after=reply.retry_after)
    if 300 <= reply.status < 400:
        # To follow it would hand token and inputs to an address that nobody named.
        where = reply.headers.get("location", "another address")[:200]
        return ServableError(message, hint=f"redirects are not followed; the server names {where}")
    if reply.status == 401:
        return Unauthenticated(message, hint=TOKEN_HINT)
    return _ERRORS.get(reply.status, ServableError)(message)


def _message(reply: Reply) -> str:
    try:
        found = reply.json().get("error")
    except (Internal, AttributeError):
        found = None
    # Gateways of clouds wrap the text once more.
    if isinstance(found, dict):
        found = found.get("message")
    return str(found)[:_LONGEST_MESSAGE] if found else f"The server answered with HTTP status {reply.status}"
