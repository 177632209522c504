"""The disk cache: hits, damage, unwritable folders, size limit, and many processes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ferrule.base import config
from ferrule.base.artifact import Compiled
from ferrule.base.digest import digest
from ferrule.base.errors import InputError
from ferrule.runtime.cache import Cache, cache_of

PROGRAM = Compiled("p", "k", b"code" * 100, (), (), (), meta={"kernels": 2})
KEY = digest("graph", b"target")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", limit=1 << 30)


def test_what_was_put_is_got(cache: Cache) -> None:
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


def test_a_damaged_entry_is_deleted_and_counts_as_absent(cache: Cache) -> None:
    cache.put(KEY, PROGRAM)
    (path,) = cache.folder.glob("*/*")
    for damage in (b"", b"FERRULE2", path.read_bytes()[:-1], path.read_bytes() + b"x"):
        path.write_bytes(damage)
        assert cache.get(KEY) is None
        assert not path.exists()
    cache.put(KEY, PROGRAM)
    assert cache.get(KEY) == PROGRAM


def test_no_cache_when_it_is_off(cache: Cache) -> None:
    off = replace(cache, off=True)
    assert off.put(KEY, PROGRAM) is PROGRAM
    assert not cache.folder.exists()
    cache.put(KEY, PROGRAM)
    assert off.get(KEY) is None


def test_settings_say_which(tmp_path: Path) -> None:
    found = cache_of(config.settings(cache_dir=tmp_path, cache_mb=3, cache=False))
    assert found == Cache(tmp_path, 3 << 20, off=True)


def test_a_folder_that_cannot_be_written_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file" / "cache", 1 << 20)
    for _ in range(3):
        assert cache.put(KEY, PROGRAM) is PROGRAM
        assert cache.get(KEY) is None
    assert capsys.readouterr().err.count("not kept on disk") == 1


def test_the_least_recently_used_go_first(cache: Cache) -> None:
    large = replace(PROGRAM, object_code=bytes(400 << 10))
    keys = [digest(str(i)) for i in range(4)]
    for age, key in zip((40, 30, 20), keys):
        cache.put(key, large)
        os.utime(cache.folder / key[:2] / f"{key}.ferrule", (1000 - age, 1000 - age))
    cache.get(keys[0])  # used now, so the second is the oldest
    replace(cache, limit=1 << 20).put(keys[3], large)
    assert [cache.get(k) is not None for k in keys] == [True, False, False, True]


def test_nothing_but_whole_entries_is_left_behind(cache: Cache) -> None:
    cache.put(KEY, PROGRAM)
    cache.put(KEY, PROGRAM)
    assert [p.name for p in cache.folder.glob("*/*")] == [f"{KEY}.ferrule"]


def test_keys_are_digests(cache: Cache) -> None:
    with pytest.raises(InputError, match="hexadecimal"):
        cache.get("../../etc/passwd")


def test_many_processes_at_once(cache: Cache) -> None:
    script = (
        "from ferrule.base.artifact import Compiled; from ferrule.base.digest import digest\n"
        "import sys; from pathlib import Path; from ferrule.runtime.cache import Cache\n"
        "cache = Cache(Path(sys.argv[1]), 1 << 20)\n"
        "for i in range(60):\n"
        "    key = digest(str(i % 4))\n"
        "    p = Compiled('p', 'k', str(i % 4).encode() * 50000, (), (), ())\n"
        "    cache.put(key, p)\n"
        "    got = cache.get(key)\n"
        "    assert got is None or got == p\n"
    )
    command = [sys.executable, "-c", script, str(cache.folder)]
    running = [
        subprocess.Popen(command, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in running:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err.decode()
