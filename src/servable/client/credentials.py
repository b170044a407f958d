"""What a client shows to a server, and by what it knows the server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from servable.errors import InvalidArgument

if TYPE_CHECKING:
    import ssl

_LARGEST_PEM = 4 << 20


@dataclass(frozen=True, slots=True)
class Credentials:
    """Token and certificates of a client.

    Attributes:
        token: The bearer token, or None.
        ca: A PEM file with the certificates that the server's own must come from; None for those of the system.
        cert: PEM files with the client's certificate and its private key, or one file with both, or None.
    """

    token: str | None = None
    ca: str | None = None
    cert: str | tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise InvalidArgument("The token has characters that no token has")

    def __repr__(self) -> str:
        return f"Credentials(token={'...' if self.token else None}, ca={self.ca!r}, cert={self.cert!r})"

    def headers(self) -> dict[str, str]:
        """The header that carries the token, if there is one."""
        return {"authorization": f"Bearer {self.token.strip()}"} if self.token else {}

    def ssl_context(self) -> ssl.SSLContext:
        """For HTTPS; InvalidArgument where a file cannot be used."""
        import ssl

        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert:
                context.load_cert_chain(*([self.cert] if isinstance(self.cert, str) else self.cert))
        except (OSError, ssl.SSLError) as error:
            raise InvalidArgument(
                f"The certificates {self.ca or ''} {self.cert or ''} cannot be used: {error}"
            ) from None
        return context

    def pem(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """For gRPC: the contents of ca, key and certificate; InvalidArgument where a file cannot be read."""
        cert, key = (self.cert, self.cert) if isinstance(self.cert, str) or self.cert is None else self.cert
        ca, key_pem, cert_pem = (None if name is None else _read(name) for name in (self.ca, key, cert))
        return ca, key_pem, cert_pem


def _read(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            return file.read(_LARGEST_PEM)
    except OSError as error:
        raise InvalidArgument(f"Cannot read {name}: {error.strerror}") from None
