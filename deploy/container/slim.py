"""Removes all files of an installed package but those whose names match, and leaves a package that can still be found.

Engines are opened by their C APIs: of a package of a gigabyte, one or two libraries are needed.

Example:
    python slim.py tensorflow 'libtensorflow_*.so.*'
"""

from __future__ import annotations

import sys
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path


def main(package: str, *kept: str) -> None:
    """Empties the folder of `package` but for files named like one of the patterns `kept`.

    Raises:
        SystemExit: The package is not installed, or has no such file.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        sys.exit(f"{package} is not installed")
    folder = Path(spec.origin).parent
    files = [path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()]
    needed = {path for path in files if any(fnmatch(path.name, pattern) for pattern in kept)}
    if not needed:
        sys.exit(f"{folder} has none of {', '.join(kept)}")
    for path in files:
        if path not in needed:
            path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    (folder / "__init__.py").touch()


if __name__ == "__main__":
    main(*sys.argv[1:])
