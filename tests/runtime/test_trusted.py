"""Code from folders and files that somebody else may write to is not read, and nothing crashes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ferrule.base.artifact import Compiled
from ferrule.base.digest import digest
from ferrule.runtime import cache as caches
from ferrule.runtime import trusted
from ferrule.runtime.cache import Cache
from ferrule.tune.database import Database

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="the system knows no users")

PROGRAM = Compiled("p", "k", b"code" * 100, (), (), (), meta={"kernels": 2})
KEY = digest("graph", b"target")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A cache that has one entry."""
    monkeypatch.setattr(caches, "_told", False)
    made = Cache(tmp_path / "above" / "cache", 1 << 30)
    made.put(KEY, PROGRAM)
    assert made.get(KEY) == PROGRAM
    return made


@pytest.fixture
def folder(cache: Cache) -> Path:
    return cache.folder


def entry(folder: Path) -> Path:
    return folder / KEY[:2] / f"{KEY}.ferrule"


def warnings(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if "not read from disk" in line]


def test_what_the_cache_makes_is_its_users_alone(folder: Path) -> None:
    for path in (folder, entry(folder).parent, entry(folder)):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775, 0o702])
@pytest.mark.parametrize("which", ["folder", "part"])
def test_a_folder_that_others_may_write_to_turns_the_cache_off(
    cache: Cache, folder: Path, which: str, mode: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder if which == "folder" else entry(folder).parent
    path.chmod(mode)
    before = entry(folder).read_bytes(), sorted(folder.rglob("*"))
    for _ in range(3):
        assert cache.get(KEY) is None
        assert cache.put(KEY, PROGRAM) is PROGRAM
    assert (entry(folder).read_bytes(), sorted(folder.rglob("*"))) == before
    (text,) = warnings(capsys)
    assert str(path) in text
    assert "FERRULE_CACHE_DIR" in text
    path.chmod(0o755)
    assert cache.get(KEY) == PROGRAM


def test_a_shared_folder_above_is_fine(
    cache: Cache, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.parent.chmod(0o1777)
    assert cache.get(KEY) == PROGRAM
    assert not warnings(capsys)


def test_what_belongs_to_another_user_is_not_read(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trusted, "users", lambda: {os.geteuid() + 1})
    assert cache.get(KEY) is None
    assert cache.put(KEY, PROGRAM) is PROGRAM
    (text,) = warnings(capsys)
    assert f"another user ({os.geteuid()})" in text


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_an_entry_that_others_may_write_to_is_replaced(
    cache: Cache, folder: Path, mode: int, capsys: pytest.CaptureFixture[str]
) -> None:
    entry(folder).chmod(mode)
    assert cache.get(KEY) is None
    assert len(warnings(capsys)) == 1
    cache.put(KEY, PROGRAM)
    assert cache.get(KEY) == PROGRAM


def test_an_entry_that_is_no_plain_file_is_not_read(
    cache: Cache, folder: Path, tmp_path: Path
) -> None:
    path = entry(folder)
    os.replace(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.get(KEY) is None
    path.unlink()
    os.mkfifo(path, 0o600)
    assert cache.get(KEY) is None
    path.unlink()
    path.mkdir(0o700)
    assert cache.get(KEY) is None


def test_the_folder_itself_may_be_a_link(cache: Cache, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert Cache(tmp_path / "link", 1 << 30).get(KEY) == PROGRAM


def test_a_system_without_users_trusts_all(
    cache: Cache, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.chmod(0o777)
    assert cache.get(KEY) is None
    monkeypatch.delattr(os, "geteuid")
    assert cache.get(KEY) == PROGRAM


def test_the_tuning_database_makes_a_folder_that_the_cache_trusts(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        Database(tmp_path / "cache" / "tuning.sqlite").put([])
        cache = Cache(tmp_path / "cache", 1 << 30)
        cache.put(KEY, PROGRAM)
        assert cache.get(KEY) == PROGRAM
    finally:
        os.umask(before)
