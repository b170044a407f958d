"""Files of models that come and go: an uploaded archive becomes a version, at once and whole or not at all."""

from __future__ import annotations

import base64
import binascii
import errno
import os
import re
import secrets
import shutil
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from servable.errors import FailedPrecondition, InvalidArgument, PermissionDenied, StorageFull
from servable.model.formats import detect_format, format_of
from servable.model.manifest import read_manifest, verify_files
from servable.model.staging import publish, require_free, staging_folder
from servable.server.unpack import content_of, sync_folder, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER = ".uploads"
_STALE_S = 86400.0
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/=]{1,64}):")


@dataclass(frozen=True, slots=True)
class Upload:
    """An archive that was received.

    Attributes:
        path: The file.
        size: Its bytes.
        sha256: Of the file, in hex.
        digests: `Repr-Digest` and `Content-Digest` as the client sent them (RFC 9530).
        wanted_sha256: What the client said it is, in hex; or empty.
    """

    path: Path
    size: int
    sha256: str
    digests: tuple[str, ...]
    wanted_sha256: str


def begin(model_folder: Path, staging: Path, number: int | None) -> Path:
    """An empty file for an archive to come.

    Args:
        model_folder: The folder of the model; need not be there.
        staging: A folder on whose disk the file is to be.
        number: The version that it will be; None for the next one.

    Raises:
        AlreadyExists: The version is there already.
        FailedPrecondition: The folder cannot be written to.
        StorageFull: The disk is full.
    """
    if number is not None:
        require_free(model_folder, number)
    folder = staging / FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        _remove_stale(folder)
        path = folder / f"{secrets.token_hex(8)}.archive"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"There is no room on the disk for the upload: {error.strerror}") from error
        raise FailedPrecondition(f"The folder of the models cannot be written to: {error.strerror}") from error
    return path


def finish(model_folder: Path, number: int | None, upload: Upload, *, max_bytes: int, allow_code: bool) -> int:
    """Makes a version of an archive, and returns its number.

    Args:
        model_folder: The folder of the model; made where it is not there.
        number: The number of the version; None for the next one.
        upload: The archive.
        max_bytes: Most bytes that it may unpack to; 0 for no limit.
        allow_code: Whether it may be a Python model.

    Raises:
        InvalidArgument: A digest differs, the archive is not one to unpack, or holds no model.
        ManifestError: Its files are not those that its manifest names.
        PermissionDenied: It is a Python model.
        AlreadyExists: The version is there already.
        TooLarge, StorageFull: See `unpack`.
    """
    _check_digests(upload)
    is_new = not model_folder.exists()
    try:
        with staging_folder(model_folder) as staging:
            content = staging / "content"
            content.mkdir()
            unpack(upload.path, content, max_bytes)
            version = content_of(content)
            _check_model(version, staging, allow_code=allow_code)
            taken, _ = publish(version, model_folder, number)
            sync_folder(model_folder)
            return taken
    finally:
        if is_new:
            with suppress(OSError):  # a version is in it: then it stays
                model_folder.rmdir()


@contextmanager
def remove_folder(folder: Path) -> Iterator[None]:
    """Takes a folder out of sight at once; its files are deleted after the block. Of a link, the link alone goes.

    Raises:
        FailedPrecondition: The folder above cannot be written to.
    """
    hidden = folder.parent / f".removing-{secrets.token_hex(4)}"
    try:
        folder.rename(hidden)
    except OSError as error:
        raise FailedPrecondition(f"{folder.name} cannot be removed: {error.strerror}") from error
    try:
        yield
    finally:
        if hidden.is_symlink():
            hidden.unlink()
        else:
            shutil.rmtree(hidden, ignore_errors=True)


def _check_model(folder: Path, shown: Path, *, allow_code: bool) -> None:
    """Whether the folder is a version that may be served. `shown` is what no message is to name."""
    try:
        manifest = read_manifest(folder)
        form = format_of(manifest.format, manifest.file) if manifest else detect_format(folder)
        if manifest:
            verify_files(folder, manifest)
    except InvalidArgument as error:
        text = error.message.replace(f"{folder}/", "").replace(str(folder), "the archive")
        error.message = text.replace(str(shown), "the archive")
        error.args = (error.message,)
        raise
    if form.engine == "python" and not allow_code:
        raise PermissionDenied(
            "A Python model is code, and this server takes none in uploads", hint="setting upload_code allows it"
        )


def _check_digests(upload: Upload) -> None:
    wanted = []
    if upload.wanted_sha256:
        if not _SHA256.fullmatch(upload.wanted_sha256):
            raise InvalidArgument("sha256 is 64 hex digits")
        wanted.append(upload.wanted_sha256.lower())
    for text in upload.digests:
        if (match := _DIGEST.search(text)) is None:
            raise InvalidArgument(f"No sha-256 in the digest {text[:200]!r}", hint="sha-256=:BASE64:")
        try:
            wanted.append(base64.b64decode(match[1], validate=True).hex())
        except binascii.Error:
            raise InvalidArgument(f"The digest {text[:200]!r} is not base64") from None
    for digest in wanted:
        if digest != upload.sha256:
            raise InvalidArgument(
                f"The upload has SHA-256 {upload.sha256}, the client said {digest}", hint="send it again"
            )


def _remove_stale(folder: Path) -> None:
    """Files of a server that was killed."""
    for child in folder.iterdir():
        with suppress(OSError):
            if time.time() - child.stat().st_mtime > _STALE_S:
                child.unlink()
