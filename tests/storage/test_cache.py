"""servable.storage.cache: entries made once, kept while they are used, removed when there are too many."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from servable.errors import FailedPrecondition, SettingsError
from servable.storage.cache import DEFAULT_SIZE, Cache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def filling(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "model").write_text(text) and None


def refuse(folder: Path) -> None:
    raise AssertionError(f"{folder} is there already")


def test_an_entry_is_made_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with cache.entry("a", filling("weights")) as entry:
        assert (entry.path / "model").read_text() == "weights"
    with Cache(tmp_path).entry("a", refuse) as again:
        assert again.path == entry.path


def test_what_fails_to_be_made_leaves_nothing_and_can_be_made_later(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def break_off(folder: Path) -> None:
        (folder / "half").touch()
        raise ConnectionError

    with pytest.raises(ConnectionError):
        cache.entry("a", break_off)
    assert not list((tmp_path / "entries").iterdir())
    with cache.entry("a", filling("weights")) as entry:
        assert [path.name for path in entry.path.iterdir()] == ["model"]


def test_threads_that_want_the_same_entry_at_once_make_it_once(tmp_path: Path) -> None:
    made: list[Path] = []
    together = threading.Barrier(8)

    def fill(folder: Path) -> None:
        made.append(folder)
        (folder / "model").write_text("w")

    def get(_: int) -> str:
        together.wait(20)
        with Cache(tmp_path).entry("a", fill) as entry:
            return (entry.path / "model").read_text()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(get, range(8))) == {"w"}
    assert len(made) == 1


def test_what_was_used_least_recently_makes_room(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=10)
    for key in ("a", "b", "a"):
        cache.entry(key, filling("1234")).close()
    cache.entry("c", filling("1234")).close()
    assert {path.name for path in (tmp_path / "entries").iterdir()} == {"a", "c"}


def test_an_entry_in_use_stays_even_if_the_cache_is_over_its_limit(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=1)
    with cache.entry("a", filling("1234")) as entry:
        cache.entry("b", filling("1234")).close()
        assert (entry.path / "model").exists()
    cache.entry("c", filling("1234")).close()
    assert {path.name for path in (tmp_path / "entries").iterdir()} == {"c"}


def test_an_entry_in_use_by_another_process_stays_until_that_one_ends(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from servable.storage.cache import Cache\n"
        "Cache(Path(sys.argv[1])).entry('a', lambda f: (f / 'model').write_text('1234') and None)\n"
        "held = Cache(Path(sys.argv[1])).entry('a', None); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        Cache(tmp_path, limit=1).entry("b", filling("1234")).close()
        assert (tmp_path / "entries" / "a").exists()
        process.kill()
    Cache(tmp_path, limit=1).entry("c", filling("1234")).close()
    assert not (tmp_path / "entries" / "a").exists()


def test_what_a_process_left_that_died_is_removed(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from servable.storage.cache import Cache\n"
        "def fill(folder): (folder / 'half').touch(); os._exit(1)\n"
        "Cache(Path(sys.argv[1])).entry('a', fill)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=60)
    assert [path.name for path in (tmp_path / "entries").iterdir()] == [".fetching-a"]
    Cache(tmp_path).entry("b", filling("w")).close()
    assert [path.name for path in (tmp_path / "entries").iterdir()] == ["b"]


def test_a_damaged_entry_is_discarded_and_made_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.discard(cache.entry("a", filling("damaged")))
    with cache.entry("a", filling("whole")) as entry:
        assert (entry.path / "model").read_text() == "whole"


def test_a_staging_folder_is_gone_at_the_end(tmp_path: Path) -> None:
    with Cache(tmp_path).staging() as folder:
        (folder / "model").touch()
    assert not [path for path in tmp_path.rglob("*") if path.name not in ("entries", "locks")]


def test_the_environment_says_where_the_cache_is_and_how_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SERVABLE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Cache.from_environment().root == tmp_path / "servable"
    monkeypatch.setenv("SERVABLE_CACHE", str(tmp_path / "other"))
    monkeypatch.setenv("SERVABLE_CACHE_SIZE", "1GiB")
    cache = Cache.from_environment()
    assert (cache.root, cache.limit, DEFAULT_SIZE) == (tmp_path / "other", 1 << 30, 20 << 30)
    monkeypatch.setenv("SERVABLE_CACHE_SIZE", "much")
    with pytest.raises(SettingsError, match="SERVABLE_CACHE_SIZE must be a size"):
        Cache.from_environment()


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FailedPrecondition) as refused:
        Cache(tmp_path / "file").entry("a", refuse)
    assert "SERVABLE_CACHE" in str(refused.value.hint)
