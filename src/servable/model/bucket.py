"""Versions in a bucket: which there are, fetched into the cache, and written so that half a version is never one.

    digits/3/.saving          claims the number 3 for one writer, made on condition that it is not there
    digits/3/model.onnx ...   the files
    digits/3/servable.json    the manifest, written last: from then on the version is there
                              and the claim is removed

A folder with a claim and without a manifest is no version: it is being written, or its writer died.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from servable.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ServableError,
    Unavailable,
)
from servable.model.manifest import FILE_NAME, MAX_BYTES, FileRecord, inside, parse_manifest
from servable.model.versions import version_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from servable.storage.cache import Cache, Entry
    from servable.storage.location import Listing, Location, Object

    Say = Callable[[str], None]

logger = logging.getLogger(__name__)

CLAIM = ".saving"
_ATTEMPTS = 100
_LOOKS = 3
# Below this, a transfer is over before anybody could read how far it is.
_WORTH_TELLING = 64 << 20


def bucket_versions(listing: Listing) -> dict[int, str]:
    """The numbers in a model's folder, lowest first, each with the name that it has there. Not all need be whole."""
    found = {number: name for name in listing.folders if (number := version_number(name)) is not None}
    return dict(sorted(found.items()))


# --- reading


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in the folder of a version.

    Attributes:
        has_manifest: It was written whole.
        claimed: It is being written, or its writer died.
        objects: Every object in it, where it is not ours; empty for one with a manifest or a claim.
    """

    has_manifest: bool
    claimed: bool
    objects: Mapping[str, Object]

    @property
    def key(self) -> str:
        """Stands for the objects: changes when one comes, goes or changes."""
        text = "\n".join(f"{name}\0{each.size}\0{each.mark}" for name, each in sorted(self.objects.items()))
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()

    @property
    def written(self) -> float:
        """When the newest of the objects was written, in seconds of the store's clock."""
        return max((each.written for each in self.objects.values()), default=0.0)


def look_into(version: Location) -> Contents:
    """Looks into the folder of a version.

    Raises:
        ServableError: See `servable.storage.location.Location`.
    """
    top = version.list().objects
    if FILE_NAME in top or CLAIM in top:
        return Contents(FILE_NAME in top, CLAIM in top, {})
    return Contents(has_manifest=False, claimed=False, objects=version.walk())


def find_bucket_version(place: Location) -> Location:
    """The folder of a version: `place` itself, or the newest whole version in it.

    Raises:
        NotFound: There is none.
    """
    listing = place.list()
    if FILE_NAME in listing.objects:
        return place
    for _, name in sorted(bucket_versions(listing).items(), reverse=True):
        contents = look_into(place / name)
        if contents.has_manifest or contents.objects:
            return place / name
    if listing.objects:
        return place
    raise NotFound(f"{place} holds no versions", hint="write one with servable.save(model, uri, examples=...)")


def fetch(
    version: Location, cache: Cache, say: Say = lambda _: None, stopping: Callable[[], bool] = lambda: False
) -> Entry:
    """A version's files in the cache; downloaded where they are not there yet, and compared with the manifest then.

    Args:
        version: Its folder in the bucket.
        cache: Where to.
        say: Told how far it is, where it takes long.
        stopping: Asked now and then whether to give up.

    Raises:
        NotFound: There is no version.
        ManifestError: The manifest cannot be read.
        DataLoss: A file is not what the manifest says.
        FailedPrecondition: The version has no manifest and changes while it is read; or it is still being written.
        StorageFull: There is no room on the disk.
        Unavailable: It was given up.
        ServableError: See `servable.storage.location.Location`.
    """
    try:
        raw = version.read(FILE_NAME, MAX_BYTES)
    except NotFound:
        return _fetch_foreign(version, cache, _Transfer(say, stopping))
    manifest = parse_manifest(raw, f"{version}/{FILE_NAME}")

    def fill(folder: Path) -> None:
        _download(version, manifest.files, folder, _Transfer(say, stopping))
        (folder / FILE_NAME).write_bytes(raw)

    # The manifest has the checksums of all files, so its own one stands for everything.
    return cache.entry(hashlib.sha256(raw).hexdigest(), fill)


def _fetch_foreign(version: Location, cache: Cache, transfer: _Transfer) -> Entry:
    """A version without a manifest: its listing must be the same before and after."""
    for _ in range(_LOOKS):
        contents = look_into(version)
        if contents.claimed:
            raise FailedPrecondition(f"{version} is not whole: it is being written, or its writer died")
        if not contents.objects:
            raise NotFound(f"There is nothing in {version}", hint="check the URI")
        records = {inside(name): FileRecord(each.size, "") for name, each in contents.objects.items()}

        def fill(folder: Path, records: dict[str, FileRecord] = records, before: Contents = contents) -> None:
            _download(version, records, folder, transfer)
            if look_into(version) != before:
                raise _ChangedError

        with suppress(_ChangedError):
            return cache.entry(contents.key, fill)
    raise FailedPrecondition(f"{version} changes while it is read: it is still being copied", hint="try again later")


class _ChangedError(Exception):
    pass


def _download(version: Location, files: Mapping[str, FileRecord], folder: Path, transfer: _Transfer) -> None:
    total = sum(record.size for record in files.values())
    logger.info("Downloading %s (%d files, %d bytes)", version, len(files), total)
    progress = transfer.of(f"Downloading {version}", total)
    for name, record in files.items():
        target = folder / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            found = version.download(name, record.size, target, progress)
        except NotFound as error:
            raise DataLoss(f"{version}/{name} is missing", hint="save the version again") from error
        except OSError as error:  # its name is too long for a disk, or is that of a folder as well
            raise FailedPrecondition(f"{version}/{name} cannot be a file here: {error.strerror}") from error
        if record.sha256 and found != record.sha256:
            raise DataLoss(
                f"{version}/{name} is not the file that was saved: its checksum differs", hint="save the version again"
            )


@dataclass(frozen=True, slots=True)
class _Transfer:
    """Who is told how far a transfer is, and who may end it."""

    say: Say
    stopping: Callable[[], bool] = lambda: False

    def of(self, what: str, total: int) -> Callable[[int], None]:
        """To be called with each number of bytes that are over; says every tenth of a long transfer."""
        done = tenths = 0

        def count(size: int) -> None:
            nonlocal done, tenths
            done += size
            if self.stopping():
                raise Unavailable(f"{what} was given up")
            if total >= _WORTH_TELLING and done * 10 // total > tenths:
                tenths = done * 10 // total
                self.say(f"{what}: {tenths * 10} % of {total / (1 << 20):,.0f} MiB")

        return count


# --- writing


def require_free_number(model: Location, number: int) -> None:
    """Raises AlreadyExists where a number is taken: by a version, by one being written, or by remains of one."""
    taken = bucket_versions(model.list())
    if number in taken:
        raise AlreadyExists(
            f"{model}/{taken[number]} is there already, or is being written",
            hint=f"leave the version out for the next number, or take {max(taken) + 1}",
        )


def upload(files: Path, names: Mapping[str, FileRecord], model: Location, number: int | None, say: Say) -> Location:
    """Writes a version into a bucket under the given number, or the next after the highest.

    Safe against others that save at the same time: each number is taken by one of them. Where it fails, or is
    interrupted, nothing is left that is listed as a version.

    Args:
        files: The folder of the finished version.
        names: Its files but for the manifest, as the manifest has them.
        model: The model's folder.
        number: Of the version; None for the next.
        say: Told how far it is.

    Returns:
        The version's folder.

    Raises:
        AlreadyExists: The given number is taken.
        FailedPrecondition: Others took a hundred numbers in a row.
        ServableError: See `servable.storage.location.Location`.
    """
    token = json.dumps({"writer": f"{socket.gethostname()}:{os.getpid()}", "token": secrets.token_hex(16)}).encode()
    version = _claim(model, number, token)
    try:
        progress = _Transfer(say).of(f"Uploading {version}", sum(record.size for record in names.values()))
        for name in names:
            version.upload(name, files / name, progress)
        is_written = version.create(FILE_NAME, (files / FILE_NAME).read_bytes())
    except BaseException:
        # The claim goes last: without it the rest would look like a version of somebody else's.
        with suppress(ServableError):
            if not version.exists(FILE_NAME):
                version.delete(names)
                version.delete([CLAIM])
        raise
    with suppress(ServableError):
        version.delete([CLAIM])
    if not is_written:
        raise AlreadyExists(f"{version} was written by somebody who did not claim it")
    return version


def _claim(model: Location, number: int | None, token: bytes) -> Location:
    """A folder that this writer alone writes to."""
    for _ in range(_ATTEMPTS):
        if number is not None:
            require_free_number(model, number)
        chosen = max(bucket_versions(model.list()), default=0) + 1 if number is None else number
        version = model / str(chosen)
        if version.create(CLAIM, token):
            # Somebody may have claimed, written and finished it between the listing and our claim.
            if version.walk().keys() == {CLAIM}:
                return version
            version.delete([CLAIM])
        if number is not None:
            raise AlreadyExists(f"{version} is there already, or is being written")
    raise FailedPrecondition(f"No free version number in {model}", hint="save again")


def check_is_model(model: Location) -> None:
    """Raises InvalidArgument where a URI has no name for a model."""
    if not model.uri.prefix or version_number(model.uri.name) is not None:
        raise InvalidArgument(
            f"{model} is no folder for a model", hint=f"write {model}/NAME; the number of the version is put behind it"
        )
