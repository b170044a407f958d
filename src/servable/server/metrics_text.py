"""Lines for the page that Prometheus reads, from Python."""

from __future__ import annotations


def escaped(value: str) -> str:
    r"""The value of a label as the text format wants it.

    Example:
        >>> print(escaped('a"b'))
        a\"b
    """
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
