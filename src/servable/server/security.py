"""Certificates and tokens of a server: read at its start, and again whenever their files change."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servable.engines.native import typed_errors
from servable.errors import ServableError, SettingsError
from servable.server.watch import ChangeWatcher
from servable.settings.load import is_loopback
from servable.settings.token_file import read_tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable import _native
    from servable.settings import ServerSettings

logger = logging.getLogger(__name__)

_LARGEST_PEM = 4 << 20


@dataclass(frozen=True, slots=True)
class GrpcTls:
    """Certificates for gRPC alone, its Unix socket included, as texts in PEM. REST speaks plain text then.

    Attributes:
        certificate: The server's, and those between it and its root.
        key: Its private key.
        client_ca: Of the authorities that clients' certificates must come from; empty: none is asked for.
    """

    certificate: str
    key: str
    client_ca: str = ""


@dataclass(frozen=True, slots=True)
class GrpcTlsFile:
    """A file that certificates for gRPC alone are read from.

    Attributes:
        path: Read again whenever it changes.
        read: Reads it; a ServableError says what is wrong with it.
    """

    path: Path
    read: Callable[[Path], GrpcTls]


class Security:
    """Who the server says it is, and who may use it.

    Args:
        settings: Its `tls_...` and `tokens` name the files.
        grpc_tls: Instead of the certificates of the settings.

    Raises:
        SettingsError: One of the files cannot be read.
        ServableError: What the reader of `grpc_tls` says.
    """

    def __init__(self, settings: ServerSettings, grpc_tls: GrpcTlsFile | None = None) -> None:
        self._settings = settings
        self._grpc_tls = grpc_tls
        self._tls = self._read_tls()
        self._tokens = _tokens(settings)
        self._watcher: ChangeWatcher | None = None

    def native_settings(self) -> dict[str, Any]:
        """What the data plane starts with."""
        return {"tls": self._tls, "tokens": self._tokens}

    def follow(self, native: _native.Server) -> None:
        """Hands files that change to a running server. A file that is broken leaves what was there in force."""
        if self._tokens is not None and self._tls is None and not is_loopback(self._settings.bind):
            logger.warning("Tokens come in plain text from other machines and can be read on the way: set tls_cert")
        settings, file = self._settings, self._grpc_tls and self._grpc_tls.path
        named = (settings.tls_cert, settings.tls_key, settings.tls_client_ca, settings.tokens, file)
        folders = {Path(name).absolute().parent for name in named if name}
        if not folders:
            return
        followed = [
            _Followed("The TLS certificates", self._read_tls, self._tls, native.set_tls),
            _Followed("The tokens", lambda: _tokens(self._settings), self._tokens, native.set_tokens),
        ]

        def look() -> float:
            for each in followed:
                each.look()
            return self._settings.poll_interval

        # Only what lies beside the files: a certificate may lie in /etc.
        self._watcher = ChangeWatcher(look, folders, recursive=False)
        self._watcher.start()

    def stop(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()

    def _read_tls(self) -> dict[str, Any] | None:
        file = self._grpc_tls
        return _grpc_alone(file.read(file.path)) if file else _tls(self._settings)


class _Followed:
    """One thing that is read from files, and where it goes when it has changed."""

    def __init__(self, what: str, read: Any, current: Any, take: Any) -> None:
        self._what = what
        self._read = read
        self._last = current
        self._take = take
        self._trouble = ""

    def look(self) -> None:
        try:
            found = self._read()
            if found == self._last:
                self._trouble = ""
                return
            # What is refused once is not tried again: it is refused until the files change.
            self._last = found
            with typed_errors():
                self._take(json.dumps(found))
        except ServableError as error:
            if str(error) != self._trouble:
                logger.error("%s were not read again, the ones before stay: %s", self._what, error)  # noqa: TRY400
            self._trouble = str(error)
        else:
            self._trouble = ""
            logger.info("%s have changed and are in force", self._what)


def _grpc_alone(tls: GrpcTls) -> dict[str, Any]:
    certificates = {"certificate": tls.certificate, "key": tls.key, "client_ca": tls.client_ca}
    return certificates | {"rest": False, "grpc_socket": True}


def _tls(settings: ServerSettings) -> dict[str, Any] | None:
    if not settings.tls_cert:
        return None
    return {
        "certificate": _pem(settings.tls_cert),
        "key": _pem(settings.tls_key),
        "client_ca": _pem(settings.tls_client_ca) if settings.tls_client_ca else "",
        "client_verify": settings.tls_client_verify,
    }


def _pem(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_LARGEST_PEM + 1)
    except OSError as error:
        raise SettingsError(f"Cannot read {path}: {error.strerror}") from None
    if not content.isascii() or not content or len(content) > _LARGEST_PEM:
        raise SettingsError(f"{path} is not PEM")
    return content.decode()


def _tokens(settings: ServerSettings) -> list[dict[str, Any]] | None:
    if not settings.tokens:
        return None
    fields = ("id", "name", "salt", "hash", "scopes", "expires")
    return [{name: getattr(token, name) for name in fields} for token in read_tokens(Path(settings.tokens))]
