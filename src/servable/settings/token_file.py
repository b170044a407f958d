"""Tokens on disk: a JSON file with what a server needs to recognise them, and never the tokens themselves.

A token is `svb_<id>_<secret>`: 16 hex digits to find it by, and 64 that only its owner knows. The file has a salted
SHA-256 of the secret. A fast hash is right here: slow ones protect words that people choose, which can be guessed, and
256 random bits cannot be.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servable.errors import AlreadyExists, InvalidArgument, NotFound, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SCOPES = ("predict", "read", "write", "admin")

_LARGEST_FILE = 16 << 20
_NAME = re.compile(r"[\w.@-]{1,128}", re.ASCII)
_HEX = {"id": 16, "hash": 64}


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token.

    Attributes:
        id: 16 hex digits; the part of the token by which it is found.
        name: What people call it.
        salt: Random text in front of the secret when it is hashed.
        hash: SHA-256 of salt and secret, in hex.
        scopes: What it is good for, of SCOPES; `admin` is good for everything.
        created: Seconds since 1970.
        expires: Seconds since 1970 from which on it is of no use; None for never.
    """

    id: str
    name: str
    salt: str
    hash: str
    scopes: tuple[str, ...]
    created: float
    expires: float | None

    def has_expired(self, now: float) -> bool:
        return self.expires is not None and self.expires <= now


def read_tokens(path: Path) -> list[Token]:
    """The tokens of a file, in the order in which they were made.

    Raises:
        SettingsError: There is no such file, or it is no file of tokens.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        hint = "servable token create makes it"
        raise SettingsError(f"Cannot read the tokens in {path}: {error.strerror}", hint=hint) from None
    if len(content) > _LARGEST_FILE:
        raise SettingsError(f"{path} is larger than {_LARGEST_FILE} bytes")
    try:
        found = [_token(item) for item in json.loads(content)["tokens"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise SettingsError(f"{path} is no file of tokens: {error}", hint="servable token create makes one") from None
    for attribute in ("id", "name"):
        if len({getattr(token, attribute) for token in found}) < len(found):
            raise SettingsError(f"{path} has two tokens of the same {attribute}")
    return found


def create_token(path: Path, name: str, scopes: Iterable[str], *, lifetime: float | None = None) -> str:
    """Adds a token to a file, which is made (mode 0600) where there is none.

    Args:
        path: The file.
        name: What to call it: letters, digits and `_ . @ -`.
        scopes: What it is good for, of SCOPES.
        lifetime: Seconds after which it is of no use; None for no end.

    Returns:
        The token. It cannot be had again.

    Raises:
        InvalidArgument: The name or a scope is none.
        AlreadyExists: There is a token of that name.
        SettingsError: The file cannot be read or written.
    """
    wanted = tuple(scope for scope in SCOPES if scope in set(scopes))
    if not wanted or set(scopes) - set(SCOPES):
        raise InvalidArgument(f"A token needs scopes of {', '.join(SCOPES)}")
    if not _NAME.fullmatch(name):
        raise InvalidArgument("The name of a token has 1 to 128 letters, digits or characters of _ . @ -")
    identity, secret, salt = secrets.token_hex(8), secrets.token_hex(32), secrets.token_hex(16)
    with _locked(path):
        tokens = read_tokens(path) if path.exists() else []
        if any(token.name == name for token in tokens):
            raise AlreadyExists(f"There is a token {name} in {path}", hint=f"servable token revoke {name} removes it")
        digest = hashlib.sha256((salt + secret).encode()).hexdigest()
        now = time.time()
        end = None if lifetime is None else now + lifetime
        _write(path, [*tokens, Token(identity, name, salt, digest, wanted, now, end)])
    return f"svb_{identity}_{secret}"


def revoke_token(path: Path, name: str) -> None:
    """Removes a token from a file; servers that follow the file refuse it from then on.

    Raises:
        NotFound: There is no token of that name.
        SettingsError: The file cannot be read or written.
    """
    with _locked(path):
        tokens = read_tokens(path)
        left = [token for token in tokens if token.name != name]
        if len(left) == len(tokens):
            raise NotFound(f"There is no token {name} in {path}", hint="servable token list shows them")
        _write(path, left)


def _token(item: dict[str, Any]) -> Token:
    token = Token(**item | {"scopes": tuple(item["scopes"])})
    for attribute, length in _HEX.items():
        if not re.fullmatch(rf"[0-9a-f]{{{length}}}", getattr(token, attribute)):
            raise ValueError(f"a token's {attribute} must be {length} hex digits")
    if not _NAME.fullmatch(token.name) or not set(token.scopes) <= set(SCOPES) or not isinstance(token.salt, str):
        raise ValueError("a token has a wrong name, salt or scope")
    for seconds in (token.created, token.expires or 0.0):
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e11:
            raise ValueError("a token has a wrong time")
    return token


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time. The folder is what is locked, since the file itself is replaced."""
    try:
        folder = os.open(path.absolute().parent, os.O_RDONLY)
    except OSError as error:
        raise SettingsError(f"Cannot write {path}: {error.strerror}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(path: Path, tokens: list[Token]) -> None:
    """Replaces the file as a whole: a server may read it at any moment."""
    text = json.dumps({"tokens": [asdict(token) for token in tokens]}, indent=2) + "\n"
    place = path.resolve()
    temporary = None
    try:
        # Readable by its owner alone from the first moment on.
        with tempfile.NamedTemporaryFile("w", dir=place.parent, prefix=f".{place.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise SettingsError(f"Cannot write {path}: {error.strerror}") from None
