"""Reads a text `tensorflow.ConfigProto`, with the declaration of the TensorFlow that is installed."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from servable.engines.library import tensorflow_library
from servable.errors import InvalidArgument
from servable.settings.bounded_file import read_bounded

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_FILE = 1 << 20
"""Bytes of a session config."""

_READ_S = 60
# In a process of its own, where TensorFlow's declarations meet no others; its package without its code is enough.
_READER = """
import sys, types
package = types.ModuleType("tensorflow")
package.__path__ = [sys.argv[1]]
sys.modules["tensorflow"] = package
from google.protobuf import text_format
from tensorflow.core.protobuf import config_pb2
try:
    config = text_format.Parse(sys.stdin.buffer.read().decode(), config_pb2.ConfigProto())
except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
sys.stdout.buffer.write(config.SerializeToString())
"""


def read_session_config(path: str | Path) -> bytes:
    """The serialized ConfigProto of a text file.

    Raises:
        NotFound: The file is not there.
        EngineMissing: TensorFlow is not installed.
        InvalidArgument: It cannot be read, is over LARGEST_FILE, or is no ConfigProto; says where.

    Example:
        >>> read_session_config("session.config")  # doctest: +SKIP
        b'...'
    """
    content = read_bounded(path, LARGEST_FILE, "session config")
    command = [sys.executable, "-c", _READER, str(tensorflow_library().parent)]
    done = subprocess.run(command, input=content, capture_output=True, timeout=_READ_S, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise InvalidArgument(f"{path} is no text tensorflow.ConfigProto: {reason}")
    return done.stdout
