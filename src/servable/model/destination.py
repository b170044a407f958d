"""Where `servable.save` writes to: a model's folder on the local disk, or in a bucket."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from servable.model import staging as local
from servable.model.bucket import check_is_model, require_free_number, upload
from servable.model.manifest import FILE_NAME
from servable.model.versions import Version, version_number
from servable.storage.cache import Cache
from servable.storage.location import Location
from servable.storage.uri import bucket_uri, local_path

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from servable.model.manifest import Manifest


class Destination(Protocol):
    """A model's folder, whatever holds it."""

    @property
    def name(self) -> str:
        """The name of the model."""

    def require_free(self, number: int) -> None:
        """Raises AlreadyExists where a version number is taken."""

    def staging(self) -> AbstractContextManager[Path]:
        """A fresh local folder that nobody looks at; what is left of it at the end is removed."""

    def publish(self, staging: Path, manifest: Manifest, number: int | None, say: Callable[[str], None]) -> Version:
        """Makes a finished folder appear as a version: under the given number, or the next after the highest.

        Raises:
            AlreadyExists: The given number is taken.
        """


class LocalDestination:
    """A folder on the local disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name = folder.name

    def require_free(self, number: int) -> None:
        local.require_free(self._folder, number)

    def staging(self) -> AbstractContextManager[Path]:
        return local.staging_folder(self._folder)

    def publish(self, staging: Path, manifest: Manifest, number: int | None, _: Callable[[str], None]) -> Version:
        chosen, path = local.publish(staging, self._folder, number)
        return Version(path, self.name, chosen, manifest)


class BucketDestination:
    """A folder in a bucket. What was written is in the cache afterwards, so that loading it downloads nothing.

    Raises:
        InvalidArgument: The URI has no name for a model.
    """

    def __init__(self, folder: Location, cache: Cache) -> None:
        check_is_model(folder)
        self._folder = folder
        self._cache = cache
        self.name = folder.uri.name

    def require_free(self, number: int) -> None:
        require_free_number(self._folder, number)

    def staging(self) -> AbstractContextManager[Path]:
        return self._cache.staging()

    def publish(self, staging: Path, manifest: Manifest, number: int | None, say: Callable[[str], None]) -> Version:
        version = upload(staging, manifest.files, self._folder, number, say)
        key = hashlib.sha256((staging / FILE_NAME).read_bytes()).hexdigest()

        def move(folder: Path) -> None:
            for child in staging.iterdir():
                child.rename(folder / child.name)

        with self._cache.entry(key, move) as entry:
            return Version(entry.path, self.name, version_number(version.uri.name) or 0, manifest, str(version))


def destination_of(folder: str | os.PathLike[str]) -> Destination:
    """The destination that a path or a URI names.

    Raises:
        InvalidArgument: It is a URI that cannot be used.
        FailedPrecondition: It is in a bucket, and the package for that is not installed.
    """
    uri = bucket_uri(folder)
    if uri is None:
        return LocalDestination(local_path(folder))
    return BucketDestination(Location(uri), Cache.from_environment())
