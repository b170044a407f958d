"""Models in buckets: mirrors of them on the local disk, kept up to date by a slow poll, beside the server's own look.

Asking a bucket takes time, may fail and costs money, so it is done on threads of its own: a few for each bucket, that
one which hangs holds up no other. The server looks at the mirrors as at any folders.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from servable.errors import FailedPrecondition, ServableError
from servable.lifecycle import Aspired, Failure, Routes, State
from servable.lifecycle.folders import version_number
from servable.server.mirror import Mirror
from servable.server.model_list import failures
from servable.server.places import is_plain
from servable.server.polling import Poll
from servable.storage.cache import Cache
from servable.storage.location import Location
from servable.storage.uri import BucketUri, bucket_uri, local_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from servable.lifecycle import Source, VersionPolicy
    from servable.lifecycle.sources import PolicyOf
    from servable.server.model_list import ModelConfig
    from servable.server.places import Places
    from servable.server.polling import Followed
    from servable.settings import ServerSettings

logger = logging.getLogger(__name__)

_FASTEST = 10.0


class Buckets:
    """The models of a server that are in buckets.

    Args:
        settings: Of the server.
        policy: Which versions of a model are wanted, by its local folder.
        changed: Called when a mirror has changed; from any thread.

    Attributes:
        mirrors: The models that are followed, by name. Replaced as a whole, so it may be read from any thread.
    """

    def __init__(
        self,
        settings: ServerSettings,
        policy: Callable[[Path], VersionPolicy],
        changed: Callable[[], None],
    ) -> None:
        self.mirrors: Mapping[str, Mirror] = {}
        self._settings = settings
        self._policy = policy
        self._changed = changed
        self._routes = Routes()
        self._root: _Root | None = None
        self._folder: Path | None = None
        self._made = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._poll = Poll(settings.bucket_poll_interval, self._look)
        self._cache: Cache | None = None

    # --- which models

    def take_folders(self, models: str | Path | Mapping[str, str | Path]) -> Path | Mapping[str, Path]:
        """What a server that follows folders is told: the same with local folders in place of URIs.

        A URI alone is asked at once whether it is a folder of models, or that of one.

        Raises:
            InvalidArgument: A URI cannot be used.
            ServableError: A bucket cannot be read.
        """
        if isinstance(models, (str, Path)):
            uri = bucket_uri(models)
            return local_path(models) if uri is None else self._take_one(Location(uri))
        return {name: self._take_named(name, place) for name, place in models.items()}

    def _take_one(self, place: Location) -> Path | Mapping[str, Path]:
        listing = place.list()
        if any(version_number(name) is not None for name in listing.folders):
            return {place.uri.name: self._mirror(place.uri.name, place, self._policy).folder}
        if not listing.folders:
            logger.warning("There are no models in %s yet", place)
        folder = self._new_folder("models")
        folder.mkdir()
        self._root = _Root(place, lambda names: self._follow_children(place, folder, names))
        self._root.take(listing.folders)
        self._poll.add(self._root)
        return folder

    def _take_named(self, name: str, place: str | Path) -> Path:
        uri = bucket_uri(place)
        return local_path(place) if uri is None else self._mirror(name, Location(uri), self._policy).folder

    def take_list(self, models: Iterable[ModelConfig]) -> tuple[ModelConfig, ...]:
        """The configs of a list with local folders in place of URIs. Models that stay where they were are kept.

        Raises:
            FailedPrecondition: The package for buckets is not installed.
        """
        listed = {config.name: config for config in models}
        for name, mirror in self.mirrors.items():
            if name not in listed or listed[name].base_path != mirror.remote.uri:
                self._forget(name)
        return tuple(self._take_config(config) for config in listed.values())

    def _take_config(self, config: ModelConfig) -> ModelConfig:
        if not isinstance(config.base_path, BucketUri):
            return config
        policy = config.version_policy or self._policy
        mirror = self.mirrors.get(config.name)
        if mirror is None:
            mirror = self._mirror(config.name, Location(config.base_path), policy)
        else:
            mirror.policy = policy
            self._poll.look_now(mirror)
        return replace(config, base_path=mirror.folder)

    def _follow_children(self, place: Location, folder: Path, names: Iterable[str]) -> None:
        wanted = {name for name in names if is_plain(name) and version_number(name) is None}
        for name in self.mirrors.keys() - wanted:
            self._forget(name)
        for name in wanted - self.mirrors.keys():
            self._mirror(name, place / name, self._policy, folder / name)

    def _mirror(self, name: str, remote: Location, policy: PolicyOf, folder: Path | None = None) -> Mirror:
        mirror = Mirror(
            name,
            remote,
            folder or self._new_folder(name),
            self._the_cache(),
            policy,
            failed=self._failed,
            stopping=self._stopping.is_set,
        )
        with self._lock:
            self.mirrors = {**self.mirrors, name: mirror}
        self._poll.add(mirror)
        return mirror

    def _forget(self, name: str) -> None:
        with self._lock:
            mirror = self.mirrors.get(name)
            self.mirrors = {other: each for other, each in self.mirrors.items() if other != name}
        if mirror is not None:
            self._poll.remove(mirror)
            mirror.close()

    def _new_folder(self, name: str) -> Path:
        if self._folder is None:
            interval = self._settings.bucket_poll_interval
            if interval < _FASTEST:
                logger.warning("Buckets are asked every %g s: stores charge for each request", interval)
            self._folder = Path(tempfile.mkdtemp(prefix="servable-mirror-"))
            self._remove_folder = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._made += 1
        parent = self._folder / str(self._made)
        parent.mkdir()
        return parent / name

    def _the_cache(self) -> Cache:
        if self._cache is None:
            self._cache = Cache.from_environment(self._settings.cache, self._settings.cache_size)
        return self._cache

    # --- life

    def start(self, *, once: bool = False) -> None:
        """Begins to look; `once` for no more looks at a model after one that succeeded."""
        self._poll.start(once=once)

    def stop(self) -> None:
        """Gives up what is under way, and removes the mirrors."""
        self._stopping.set()
        self._poll.stop()
        for mirror in self.mirrors.values():
            mirror.close()
        if self._folder is not None:
            self._remove_folder()

    def published(self, routes: Routes) -> None:
        """Takes note of what is served now. Where a version has failed, an older one in the bucket may stand in."""
        before, self._routes = self._routes, routes
        mirrors = self.mirrors
        for model, failed in failures(mirrors, routes).items():
            if failures([model], before).get(model) != failed:
                self._poll.look_now(mirrors[model])

    def _failed(self, model: str) -> frozenset[int]:
        """The versions of a model that were tried and cannot be served."""
        route = self._routes.models.get(model)
        versions = route.status.versions if route else ()
        return frozenset(each.version for each in versions if each.state is State.END and each.failure)

    def _look(self, followed: Followed) -> None:
        if followed.look():
            self._changed()

    # --- what the rest of the server sees of it

    def source(self, local: Source) -> Source:
        """A source that tells, beside what a source of the local folders says, how it is with the buckets."""
        return _BucketSource(local, self)

    def places(self, local: Places) -> Places:
        """Places in which models in buckets cannot be changed."""
        return _BucketPlaces(local, lambda name: self._root is not None or name in self.mirrors)

    @property
    def error(self) -> Failure | None:
        """Why the folder of models could not be listed."""
        return self._root.error if self._root else None


class _Root:
    """A folder of model folders in a bucket: models come and go."""

    is_arriving = False

    def __init__(self, remote: Location, take: Callable[[tuple[str, ...]], None]) -> None:
        self.remote = remote
        self.error: Failure | None = None
        self.take = take

    def look(self) -> bool:
        before = self.error
        try:
            self.take(self.remote.list().folders)
            self.error = None
        except (ServableError, OSError) as error:
            self.error = Failure.of(error)
        return self.error is None or before != self.error

    @property
    def has_failed(self) -> bool:
        return self.error is not None


class _BucketSource:
    """See `Buckets.source`."""

    def __init__(self, local: Source, buckets: Buckets) -> None:
        self._local = local
        self._buckets = buckets

    def look(self, now: float) -> list[Aspired]:
        mirrors = self._buckets.mirrors
        said = {item.model: item for item in self._local.look(now)}
        for name, mirror in mirrors.items():
            if name in said or not mirror.looked or mirror.error or not mirror.empty:
                said[name] = self._with_bucket(said.get(name, Aspired(name)), mirror)
        return list(said.values())

    def _with_bucket(self, item: Aspired, mirror: Mirror) -> Aspired:
        if not mirror.looked:
            return Aspired(item.model, settling=(0,))
        local, remote = str(mirror.folder), str(mirror.remote)
        error = mirror.error or self._buckets.error or mirror.trouble or item.error
        notes = (*mirror.notes, *(note.replace(local, remote) for note in item.notes))
        settling = (*item.settling, *mirror.settling)
        if error is not None:
            error = replace(error, message=error.message.replace(local, remote))
        return replace(item, error=error, notes=notes, settling=settling)


class _BucketPlaces:
    """See `Buckets.places`."""

    def __init__(self, local: Places, is_followed: Callable[[str], bool]) -> None:
        self._local = local
        self._is_followed = is_followed

    def find(self, name: str) -> Path:
        return self._local.find(name)

    def changeable(self, name: str) -> Path:
        self._refuse(name)
        return self._local.changeable(name)

    def take(self, name: str) -> Path:
        self._refuse(name)
        return self._local.take(name)

    def removable(self, name: str) -> Path:
        self._refuse(name)
        return self._local.removable(name)

    def staging(self, name: str) -> Path:
        return self._local.staging(name)

    def _refuse(self, name: str) -> None:
        if self._is_followed(name):
            raise FailedPrecondition(
                f"The model {name[:255]!r} is in a bucket, which this server only reads",
                hint="write, pin and remove its versions in the bucket",
            )
