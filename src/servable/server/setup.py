"""From the settings of a server to the parts of its lifecycle: the manager, and the source of what is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from servable.errors import InvalidArgument
from servable.lifecycle import (
    SWAP_POLICIES,
    FolderSource,
    FoldersSource,
    ListSource,
    Manager,
    ManagerSettings,
    is_model_folder,
)
from servable.server.memory import default_budget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from servable.lifecycle import Source, VersionPolicy
    from servable.settings import ServerSettings


def manager_of(settings: ServerSettings) -> Manager:
    """The manager that the settings ask for."""
    return Manager(
        ManagerSettings(
            swap=SWAP_POLICIES[settings.swap_policy],
            memory_budget=settings.memory_budget or default_budget(),
            max_load_retries=settings.load_retries,
            load_retry_interval=settings.load_retry_interval,
            max_concurrent_loads=settings.load_threads,
            on_demand=settings.on_demand,
            min_residence=settings.min_residence,
        )
    )


def source_of(
    models: str | Path | Mapping[str, str | Path], settings: ServerSettings, policy: Callable[[Path], VersionPolicy]
) -> tuple[Source, list[Path]]:
    """Where the wanted versions come from, and the folders to watch.

    Args:
        models: A folder of model folders, one model folder, or model names with their folders.
        settings: Of the server.
        policy: Which versions of the model in a folder are wanted.

    Raises:
        InvalidArgument: The folder is not there.
    """
    if not isinstance(models, (str, Path)):
        paths = {name: Path(path).absolute() for name, path in models.items()}
        policies = dict.fromkeys(paths, policy)
        return ListSource(paths, policies=policies, settle=settings.settle), list(paths.values())
    folder = Path(models).absolute()
    if not folder.is_dir():
        raise InvalidArgument(
            f"There is no folder {folder}", hint="name a folder of models, or the folder of one model's versions"
        )
    if is_model_folder(folder):
        return FolderSource(folder.name, folder, policy=policy, settle=settings.settle), [folder]
    return FoldersSource(folder, policy=policy, settle=settings.settle), [folder]
