"""Conversions that need heavy imports, or another framework than the caller uses, run in a child process.

The child is a fresh Python with a function of ours. Arguments and result are JSON; tensors go through files in a folder
that both know. Over the pipe come lines of JSON: {"say": ...} at any time, then one {"done": ...} or {"failed": ...}.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

from servable.errors import ConversionError, ServableError, all_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LAST_WORDS = 1500


def run_in_child(
    function: str,
    arguments: Mapping[str, Any],
    say: Callable[[str], None],
    environment: Mapping[str, str] | None = None,
) -> Any:
    """Runs a function in a process of its own.

    Args:
        function: `package.module:name` of a function that takes `say` and the arguments by name.
        arguments: What JSON can carry.
        say: Called with what the child tells of its progress.
        environment: Variables for the child, beside those of this process.

    Returns:
        What the function returned, as JSON carries it.

    Raises:
        ServableError: What the function raised.
        ConversionError: The function raised another error, or the child ended without a result: with its last words.
    """
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "servable.convert.child", function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(environment or {}),
        )
        try:
            stdin, stdout = cast("IO[bytes]", child.stdin), cast("IO[bytes]", child.stdout)
            with suppress(BrokenPipeError):  # it has ended already, and its last words say why
                stdin.write(json.dumps(arguments).encode())
                stdin.close()
            for line in stdout:
                report = json.loads(line)
                match report:
                    case {"say": str(words)}:
                        say(words)
                    case {"done": result}:
                        return result
                    case {"failed": dict(failed)}:
                        raise _error(failed)
        finally:
            child.kill()
            child.wait()
            stdout.close()
        errors.seek(0)
        words = errors.read().decode(errors="replace")[-_LAST_WORDS:]
    raise ConversionError(f"The conversion ended without a result ({function}):\n{words}")


def _environment(additional: Mapping[str, str]) -> dict[str, str]:
    sources = str(Path(__file__).resolve().parents[2])
    # What the caller can import, its child can: models are made of the user's own modules.
    return {**os.environ, "PYTHONPATH": os.pathsep.join([sources, *filter(None, sys.path)]), **additional}


def _error(failed: Mapping[str, Any]) -> ServableError:
    kind = next((cls for cls in all_errors() if cls.code == failed.get("code")), ConversionError)
    return kind(str(failed.get("message")), hint=failed.get("hint"))


def main() -> NoReturn:
    """The child's side."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not get between the reports

    def report(kind: str, content: object) -> None:
        pipe.write(json.dumps({kind: content}) + "\n")
        pipe.flush()

    module, _, name = sys.argv[1].partition(":")
    arguments = json.loads(sys.stdin.buffer.read())
    try:
        result = getattr(importlib.import_module(module), name)(lambda words: report("say", words), **arguments)
        report("done", result)
    except ServableError as error:
        report("failed", {"code": error.code, "message": error.message, "hint": error.hint})
    except Exception as error:
        first = " ".join(str(error).split("\n")[0].split())[:500]
        report("failed", {"message": f"{type(error).__name__}: {first}"})
    # The pipe has said it all, and frameworks take their time to go.
    os._exit(0)


if __name__ == "__main__":
    main()
