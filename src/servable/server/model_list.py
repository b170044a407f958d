"""A list of models that can be replaced while the server runs: what TensorFlow Serving calls its model config."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from servable.errors import FailedPrecondition, Internal, InvalidArgument
from servable.lifecycle import Aspired, FolderSource, State
from servable.storage.uri import BucketUri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from servable.lifecycle import Failure, Routes, VersionPolicy
    from servable.server.model_server import ModelServer
    from servable.server.request_log import LogTarget
    from servable.settings import ModelSettings

    Failed: TypeAlias = tuple[int | None, Failure]

PLATFORM = "tensorflow"
"""The platform of every model, whatever its format: the only one that TensorFlow Serving has."""

MAX_MODELS = 10_000
"""Most models in one list."""


class Looks(StrEnum):
    """When the server looks for versions: as they come, once after each new list, or never."""

    FOLLOW = "follow"
    ONCE = "once"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model of a list.

    Attributes:
        name: Under which clients ask for it.
        base_path: The folder that holds its versions; absolute, or in a bucket.
        version_policy: Which versions are wanted; None for what the settings of the model say.
        labels: Label -> version; None for what the settings of the model say.
        platform: Its kind, as TensorFlow Serving means it; cannot change while the model is served.
        request_log: Where its requests are logged; None for what the settings of the model say.
    """

    name: str
    base_path: Path | BucketUri
    version_policy: VersionPolicy | None = None
    labels: Mapping[str, int] | None = None
    platform: str = PLATFORM
    request_log: LogTarget | None = None

    @property
    def folder(self) -> Path:
        """The local folder that holds its versions. Not for one in a bucket: it has to be given one first."""
        if isinstance(self.base_path, BucketUri):
            raise Internal(f"Model {self.name} is in a bucket and not followed")
        return self.base_path


@dataclass(frozen=True, kw_only=True)
class ModelList:
    """What a server is told that serves a list of models.

    Attributes:
        models: The first list.
        looks: When to look for versions.
        wait_for_all: The first load is over only when every model has a version that answers; until then requests are
            told to come back. Else it is over when each has one, or has failed once.
        labels_for_unavailable: A label that is new or unchanged may name a version that is not available.
        version_settings: The settings of one version, of its folder and of those of its model; called when it is
            loaded, and what it raises fails the load.
        reload: Called, on a thread of its own, with what a client sent to replace the list: a serialized
            `tensorflow.serving.ReloadConfigRequest`. None where clients may not.
    """

    models: tuple[ModelConfig, ...]
    looks: Looks = Looks.FOLLOW
    wait_for_all: bool = False
    labels_for_unavailable: bool = True
    version_settings: Callable[[Path, ModelSettings], ModelSettings] | None = None
    reload: Callable[[ModelServer, bytes], None] | None = None

    def __post_init__(self) -> None:
        check_models(self.models)


@dataclass(slots=True)
class ModelListSource:
    """Looks into the folders of a list that can be replaced. Not for several threads at once.

    Args:
        policy: Reads the version policy of a model's folder, where the list does not say it.
        settle: Seconds that a folder must rest before it is taken for a whole version.
    """

    policy: Callable[[Path], VersionPolicy]
    settle: float
    configs: dict[str, ModelConfig] = field(default_factory=dict)
    _sources: dict[str, tuple[ModelConfig, FolderSource]] = field(default_factory=dict)

    def replace(self, models: Iterable[ModelConfig]) -> None:
        """Takes over a new list. What is known of a folder's files is kept where the model stays the same."""
        self.configs = {config.name: config for config in models}
        kept = {name: found for name, found in self._sources.items() if self.configs.get(name) == found[0]}
        self._sources = {
            name: kept.get(name) or (config, self._source(config)) for name, config in self.configs.items()
        }

    def look(self, now: float) -> list[Aspired]:
        return [source.look_at_model(now) for _, source in self._sources.values()]

    def _source(self, config: ModelConfig) -> FolderSource:
        policy = config.version_policy or self.policy
        return FolderSource(config.name, config.folder, policy=policy, settle=self.settle)


def check_models(models: Sequence[ModelConfig], in_force: Mapping[str, ModelConfig] | None = None) -> None:
    """Whether a list is one that a server can take.

    Args:
        models: The list.
        in_force: The list before, by name.

    Raises:
        InvalidArgument: A model is listed twice or has no name, a path is not absolute, a platform is unknown or
            changes, or there are over MAX_MODELS.
    """
    if len(models) > MAX_MODELS:
        raise InvalidArgument(f"There are {len(models)} models in the config list; the limit is {MAX_MODELS}")
    names = set()
    for config in models:
        if not config.name:
            raise InvalidArgument("A model of the config list has no name")
        if config.name in names:
            raise InvalidArgument(f"Illegal to list model {config.name} multiple times in config list")
        names.add(config.name)
        if not isinstance(config.base_path, BucketUri) and not config.base_path.is_absolute():
            raise InvalidArgument(
                f"Expected model {config.name} to have an absolute path or URI; got base_path()={config.base_path}"
            )
        before = in_force.get(config.name) if in_force else None
        if before is not None and before.platform != config.platform:
            raise InvalidArgument(
                f"Illegal to change a model's platform. For model: {config.name} Current platform: {before.platform} "
                f"Desired platform: {config.platform}"
            )
        if config.platform != PLATFORM:
            raise InvalidArgument(f"Model {config.name} requests unsupported platform {config.platform}")


def check_labels(
    models: Iterable[ModelConfig], in_force: Mapping[str, ModelConfig], routes: Routes, *, allow_unavailable: bool
) -> None:
    """Whether the labels of a new list may be set now.

    Args:
        models: The new list.
        in_force: The list before, by name.
        routes: What is served now.
        allow_unavailable: A label that is new or unchanged may name a version that is not available. One that is moved
            may not: requests for it, which are answered now, would fail.

    Raises:
        FailedPrecondition: A label may not be set.
    """
    for config in models:
        route = routes.models.get(config.name)
        available = (*route.available, *route.on_demand) if route else ()
        before = in_force.get(config.name)
        labels_before = (before.labels if before else None) or {}
        for label, version in (config.labels or {}).items():
            is_free = allow_unavailable and labels_before.get(label, version) == version
            if not is_free and version not in available:
                raise FailedPrecondition(
                    f"Request to assign label to version {version} of model {config.name}, which is not currently "
                    "available for inference"
                )


def failures(names: Iterable[str], routes: Routes, arriving: Iterable[str] = ()) -> dict[str, Failed]:
    """The models that have no version and will get none by themselves: name -> the version that failed last, and why.

    A model of which nothing is wanted has not failed. Nor has one of which a version is being copied (`arriving`).
    """
    found: dict[str, Failed] = {}
    for name in sorted(set(names) - set(arriving)):
        route = routes.models.get(name)
        if route is None or route.answers or route.status.pending:
            continue
        ended = (each for each in route.status.versions if each.state is State.END and each.failure)
        if (failed := next(ended, None)) is not None and failed.failure is not None:
            found[name] = failed.version, failed.failure
    return found


def unreadable(names: Iterable[str], routes: Routes) -> dict[str, Failed]:
    """The models without a version whose folders cannot be read: name -> None, and why."""
    found: dict[str, Failed] = {}
    for name in sorted(names):
        route = routes.models.get(name)
        if route is not None and not route.available and route.status.error is not None:
            found[name] = None, route.status.error
    return found


def unavailable_message(kind: str, failed: Mapping[str, Failed]) -> str:
    """TensorFlow Serving's words for models that did not become available; `kind` is `servable` or `model`.

    Example:
        >>> from servable.lifecycle import Failure
        >>> unavailable_message("servable", {"m": (1, Failure(5, "no file"))})
        '1 servable(s) did not become available: {{name: m version: 1} due to error: NOT_FOUND: no file}, }'
    """

    def servable(name: str, version: int | None) -> str:
        return f"{{name: {name}}}" if version is None else f"{{name: {name} version: {version}}}"

    each = (
        f"{servable(name, version)} due to error: {failure.code_name}: {failure.message}}}, "
        for name, (version, failure) in failed.items()
    )
    return f"{len(failed)} {kind}(s) did not become available: {{{''.join(each)}}}"
