"""The disk cache: hits, damage, unwritable folders, size limit, and many processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ferrule.base import config
from ferrule.base.artifact import Compiled
from ferrule.base.digest import digest
from ferrule.base.errors import InputError
from ferrule.runtime import cache

PROGRAM = Compiled("p", "k", b"code" * 100, (), (), (), meta={"kernels": 2})
KEY = digest("graph", b"target")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    with config.override(cache=True, cache_dir=str(tmp_path / "cache"), cache_mb=2048):
        yield tmp_path / "cache"


def test_what_was_put_is_got() -> None:
    assert cache.get(KEY) is None
    assert cache.put(KEY, PROGRAM) is PROGRAM
    assert cache.get(KEY) == PROGRAM
    assert cache.get(digest("another")) is None
    cache.clear()
    assert cache.get(KEY) is None


def test_digests_tell_parts_apart() -> None:
    keys = {digest(*p) for p in [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ()]}
    assert len(keys) == 5
    assert digest("a") == digest(b"a")


def test_a_damaged_entry_is_deleted_and_counts_as_absent(folder: Path) -> None:
    cache.put(KEY, PROGRAM)
    (path,) = folder.glob("*/*")
    for damage in (b"", b"FERRULE2", path.read_bytes()[:-1], path.read_bytes() + b"x"):
        path.write_bytes(damage)
        assert cache.get(KEY) is None
        assert not path.exists()
    cache.put(KEY, PROGRAM)
    assert cache.get(KEY) == PROGRAM


def test_no_cache_when_it_is_off(folder: Path) -> None:
    with config.override(cache=False):
        cache.put(KEY, PROGRAM)
        assert not folder.exists()
    cache.put(KEY, PROGRAM)
    with config.override(cache=False):
        assert cache.get(KEY) is None


def test_a_folder_that_cannot_be_written_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    with config.override(cache_dir=str(tmp_path / "file" / "cache")):
        for _ in range(3):
            assert cache.put(KEY, PROGRAM) is PROGRAM
            assert cache.get(KEY) is None
    assert capsys.readouterr().err.count("not kept on disk") == 1


def test_the_least_recently_used_go_first(folder: Path) -> None:
    large = replace(PROGRAM, object_code=bytes(400 << 10))
    keys = [digest(str(i)) for i in range(4)]
    for age, key in zip((40, 30, 20), keys):
        cache.put(key, large)
        os.utime(folder / key[:2] / f"{key}.ferrule", (1000 - age, 1000 - age))
    cache.get(keys[0])  # used now, so the second is the oldest
    with config.override(cache_mb=1):
        cache.put(keys[3], large)
    assert [cache.get(k) is not None for k in keys] == [True, False, False, True]


def test_nothing_but_whole_entries_is_left_behind(folder: Path) -> None:
    cache.put(KEY, PROGRAM)
    cache.put(KEY, PROGRAM)
    assert [p.name for p in folder.glob("*/*")] == [f"{KEY}.ferrule"]


def test_keys_are_digests() -> None:
    with pytest.raises(InputError, match="hexadecimal"):
        cache.get("../../etc/passwd")


def test_many_processes_at_once(folder: Path) -> None:
    script = (
        "from ferrule.base.artifact import Compiled; from ferrule.base.digest import digest\n"
        "from ferrule.runtime import cache\n"
        "for i in range(60):\n"
        "    key = digest(str(i % 4))\n"
        "    p = Compiled('p', 'k', str(i % 4).encode() * 50000, (), (), ())\n"
        "    cache.put(key, p)\n"
        "    got = cache.get(key)\n"
        "    assert got is None or got == p\n"
    )
    environment = {**os.environ, "FERRULE_CACHE_DIR": str(folder), "FERRULE_CACHE_MB": "1"}
    running = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in running:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err.decode()
