"""The source of a class, as a `model.py` that stands alone."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

from servable.errors import ConversionError

_MODULE_HINT = "put the class into a module of its own and import it from there"


def module_source(cls: type) -> str:
    """The source of the module that defines a class.

    A script is taken only where running it again does nothing but define things.

    Raises:
        ConversionError: The class is defined in a function, its source is not to be found, or its module would do
            more than define things, or needs modules beside it, or others that are not installed.
    """
    if "<locals>" in cls.__qualname__ or "." in cls.__qualname__:
        raise ConversionError(f"{cls.__qualname__} is defined inside another thing", hint=_MODULE_HINT)
    module = sys.modules.get(cls.__module__)
    try:
        source = inspect.getsource(module) if module is not None else ""
    except (OSError, TypeError):
        source = ""
    if not source:
        hint = f"{_MODULE_HINT}; in a notebook: %%writefile my_model.py"
        raise ConversionError(f"There is no source file of class {cls.__name__}", hint=hint)
    tree = ast.parse(source)
    file = Path(inspect.getfile(cls)).name
    _require_no_neighbours(tree, file)
    _require_installed(source, file)
    if cls.__module__ == "__main__":
        _require_only_definitions(tree, file)
    return source


def imported_packages(source: str) -> list[str]:
    r"""The packages that a source imports at its top, but for Python's own.

    Example:
        >>> imported_packages("import os\nimport numpy as np\nfrom sklearn.base import clone")
        ['numpy', 'sklearn']
    """
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return sorted(names - sys.stdlib_module_names)


def _require_no_neighbours(tree: ast.Module, file: str) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise ConversionError(
                f"{file}, line {node.lineno}: a relative import has nothing beside it in a version",
                hint="import by the full name of an installed package, or put all into one module",
            )


def _require_installed(source: str, file: str) -> None:
    """Refuses imports that work here because of the folder that the program is in, and nowhere else."""
    doubtful = [name for name in imported_packages(source) if not _in_site_packages(name)]
    # Whether it is installed in another way, as packages in development are, a Python in another folder knows.
    known = "import sys, importlib.util as u; print(*[n for n in sys.argv[1:] if u.find_spec(n) is None])"
    command = [sys.executable, "-P", "-c", known, *doubtful]
    lost = subprocess.run(command, cwd="/", check=True, capture_output=True, text=True).stdout if doubtful else ""
    if lost.split():
        raise ConversionError(
            f"{file} imports {', '.join(lost.split())}, which is no installed package but a file of this program",
            hint="put it into the same module, or install it as a package",
        )


def _in_site_packages(name: str) -> bool:
    module = sys.modules.get(name)
    places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", ())]
    return any(part in ("site-packages", "dist-packages") for place in places for part in Path(place).parts)


def _require_only_definitions(tree: ast.Module, file: str) -> None:
    for node in tree.body:
        if not (_defines(node) or _is_guard(node)):
            raise ConversionError(
                f"{file}, line {node.lineno}: the script would run again wherever the version is loaded",
                hint=f'{_MODULE_HINT}, or put what it does under if __name__ == "__main__":',
            )


def _defines(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return node.value is None or _is_literal(node.value)
    kinds = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return isinstance(node, kinds) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _is_literal(value: ast.expr) -> bool:
    try:
        ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _is_guard(node: ast.stmt) -> bool:
    """Whether it is `if __name__ == "__main__":` or `if TYPE_CHECKING:`."""
    if not isinstance(node, ast.If):
        return False
    test = ast.unparse(node.test)
    return test.endswith("TYPE_CHECKING") or test in ("__name__ == '__main__'", "'__main__' == __name__")
