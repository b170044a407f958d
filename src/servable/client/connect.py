"""From the address of a server to the protocol and the sockets for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from servable.client.calls import Calls, seconds
from servable.client.credentials import Credentials
from servable.client.retry import NO_RETRY, Retry
from servable.errors import InvalidArgument

if TYPE_CHECKING:
    from servable.client.steps import AsyncTransport, Transport

Files = str | Path | tuple[str | Path, str | Path] | None


@dataclass(frozen=True, slots=True)
class Options:
    """What both clients are made of; see `Client` for each."""

    url: str
    timeout: float
    dialect: str
    token: str | None
    ca: str | Path | None
    cert: Files
    retry: Retry | None
    hedge_after: float | None
    binary: bool | None

    def calls(self) -> Calls:
        """The protocol of the address; InvalidArgument where it is none, or where an option is not right."""
        if self.hedge_after is not None:
            seconds(self.hedge_after)
        retry = NO_RETRY if self.retry is None else self.retry
        if self._over_http():
            from servable.client.rest import Rest

            return Calls(Rest(self.dialect, retry, binary=self.binary), self.timeout, self.url)
        from servable.client.rpc import Rpc

        return Calls(Rpc(retry), self.timeout, self.url)

    def transport(self) -> Transport:
        """Sockets that block. Imports come late: a program that never speaks to a server pays for none of this."""
        if self.hedge_after is not None:
            from servable.client.hedge import Hedged

            return Hedged(self._plain_async, self.hedge_after)
        if self._over_http():
            from servable.client.http_transport import Http

            return Http(self.url, self._credentials())
        from servable.client.grpc_transport import Grpc

        return Grpc(self._target(), self._credentials(), secure=self._scheme == "grpcs")

    def async_transport(self) -> AsyncTransport:
        """Sockets of asyncio."""
        if self.hedge_after is None:
            return self._plain_async()
        from servable.client.hedge import AsyncHedged

        return AsyncHedged(self._plain_async(), self.hedge_after)

    def _plain_async(self) -> AsyncTransport:
        if self._over_http():
            from servable.client.http_transport import AsyncHttp

            return AsyncHttp(self.url, self._credentials())
        from servable.client.grpc_transport import AsyncGrpc

        return AsyncGrpc(self._target(), self._credentials(), secure=self._scheme == "grpcs")

    @property
    def _scheme(self) -> str:
        return self.url.partition(":")[0]

    def _target(self) -> str:
        return self.url if self._scheme == "unix" else urlsplit(self.url).netloc

    def _credentials(self) -> Credentials:
        cert = self.cert
        files = (str(cert[0]), str(cert[1])) if isinstance(cert, tuple) else None if cert is None else str(cert)
        return Credentials(self.token, None if self.ca is None else str(self.ca), files)

    def _over_http(self) -> bool:
        """Whether it is an address of REST, not of gRPC; InvalidArgument where it is none at all."""
        scheme, _, rest = self.url.partition(":")
        try:
            host, port = urlsplit(self.url).hostname, urlsplit(self.url).port
        except ValueError:
            host, port = None, None
        if (self.ca or self.cert) and scheme in ("http", "grpc", "unix"):
            raise InvalidArgument(f"{self.url} speaks without certificates", hint="with TLS it is https:// or grpcs://")
        if scheme in ("http", "https") and host:
            return True
        if (scheme in ("grpc", "grpcs") and host and port) or (scheme == "unix" and rest):
            return False
        raise InvalidArgument(
            f"{self.url!r} is no address of a server", hint="such as http://localhost:8501 or grpc://localhost:8500"
        )
