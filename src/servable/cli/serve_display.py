"""What `servable serve` shows: the interface of a display, and the plain one that writes log lines."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from servable.server import Addresses
    from servable.server.report import ServerReport

logger = logging.getLogger(__name__)

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104  # read, not bound


class Display(Protocol):
    """Shows a server while it runs. Called on one thread."""

    def start(self, addresses: Addresses) -> None:
        """The ports are bound."""

    def show(self, report: ServerReport) -> None:
        """Something may have changed."""

    def end(self) -> None:
        """Nothing more will be shown."""


class LogLines:
    """Says where the server listens, and whether it is ready. Loads and unloads are logged by those who do them."""

    def __init__(self) -> None:
        self._said: tuple[str, ...] | None = None

    def start(self, addresses: Addresses) -> None:
        logger.info("Listening: %s", ", ".join(places(addresses)), extra={
            "rest": addresses.rest, "grpc": addresses.grpc, "grpc_socket": addresses.grpc_socket,
        })  # fmt: skip

    def show(self, report: ServerReport) -> None:
        if report.starting or report.not_ready == self._said:
            return
        self._said = report.not_ready
        if report.not_ready:
            logger.warning("Not ready: %s", "; ".join(report.not_ready), extra={"ready": False})
        else:
            logger.info("Ready: %s", served(report), extra={"ready": True})

    def end(self) -> None:
        pass


def places(addresses: Addresses) -> list[str]:
    """The URLs to which requests may be sent."""
    end = "s" if addresses.tls else ""
    named = (("http", addresses.rest), ("grpc", addresses.grpc))
    found = [f"{scheme}{end}://{address}" for scheme, address in named if address]
    return [*found, f"unix:{addresses.grpc_socket}"] if addresses.grpc_socket else found


def reachable(address: str) -> str:
    """A `host:port` that a client on this machine can use, of one to listen on.

    Example:
        >>> reachable("0.0.0.0:8501")
        '127.0.0.1:8501'
    """
    host, _, port = address.rpartition(":")
    return f"{_ANY_ADDRESS.get(host, host)}:{port}"


def served(report: ServerReport) -> str:
    """`digits/3, iris/1`, or that there is nothing yet."""
    names = [f"{row.model}/{row.version}" for row in report.versions if row.default]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more or "no models yet; they are served as soon as they come"
