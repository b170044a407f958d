"""What should run: sources say which versions are wanted, policies choose the next step, the manager keeps the state.

Pure: no threads, no sockets, no clock of its own; only the sources read folders. The nouns are TensorFlow Serving's.
"""

from servable.lifecycle.aspired import Aspired, Fingerprint, VersionPath
from servable.lifecycle.eviction import Use
from servable.lifecycle.keeping import KeepingSource
from servable.lifecycle.manager import Load, Manager, ManagerSettings, ModelOptions, Unload
from servable.lifecycle.pins import clear_pin, pin_path, read_pin, version_before, write_pin
from servable.lifecycle.policies import SWAP_POLICIES, All, Latest, Specific, SwapPolicy, VersionPolicy, version_policy
from servable.lifecycle.routes import ModelRoute, ModelStatus, Routes
from servable.lifecycle.sources import FolderSource, FoldersSource, ListSource, Source, is_model_folder
from servable.lifecycle.states import Failure, State, VersionStatus
from servable.lifecycle.withheld import WithheldSource

__all__ = [
    "SWAP_POLICIES",
    "All",
    "Aspired",
    "Failure",
    "Fingerprint",
    "FolderSource",
    "FoldersSource",
    "KeepingSource",
    "Latest",
    "ListSource",
    "Load",
    "Manager",
    "ManagerSettings",
    "ModelOptions",
    "ModelRoute",
    "ModelStatus",
    "Routes",
    "Source",
    "Specific",
    "State",
    "SwapPolicy",
    "Unload",
    "Use",
    "VersionPath",
    "VersionPolicy",
    "VersionStatus",
    "WithheldSource",
    "clear_pin",
    "is_model_folder",
    "pin_path",
    "read_pin",
    "version_before",
    "version_policy",
    "write_pin",
]
