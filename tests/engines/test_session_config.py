from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from servable.engines.session_config import LARGEST_FILE, read_session_config
from servable.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.tensorflow


def test_a_text_config_becomes_the_message_of_the_installed_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("inter_op_parallelism_threads: 3 gpu_options { allow_growth: true }")
    assert read_session_config(tmp_path / "config") == b"\x28\x03\x32\x02\x20\x01"


def test_what_is_wrong_with_a_config_is_said(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("intra: 3")
    with pytest.raises(InvalidArgument, match=r'1:1 : .*no field named "intra"'):
        read_session_config(tmp_path / "config")
    (tmp_path / "config").write_bytes(b"\xff")
    with pytest.raises(InvalidArgument, match="UnicodeDecodeError"):
        read_session_config(tmp_path / "config")
    (tmp_path / "config").write_text("gpu_options {" * 100_000)
    with pytest.raises(InvalidArgument, match=r"is larger|RecursionError|ParseError"):
        read_session_config(tmp_path / "config")


def test_a_config_that_is_missing_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="No such file"):
        read_session_config(tmp_path / "config")
    (tmp_path / "config").write_bytes(b" " * (LARGEST_FILE + 1))
    with pytest.raises(InvalidArgument, match="larger than"):
        read_session_config(tmp_path / "config")
