"""Prints what an installed package needs, a line for each, without its extras and without the packages named after it.

Example:
    python requirements.py servable onnxruntime > requirements.txt
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import requires


def main(package: str, *left_out: str) -> None:
    """Prints the requirements of `package` but those on packages in `left_out`."""
    for requirement in requires(package) or ():
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        if "extra ==" not in requirement and name not in left_out:
            sys.stdout.write(requirement + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
