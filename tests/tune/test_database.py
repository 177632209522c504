"""The tuning database: what is put is found, by machine, threads, version; damage is survived."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ferrule.base import config
from ferrule.base.errors import TuningError
from ferrule.tune.database import Database, Record, default_path, known

RECORD = Record("cpu", 2, "abc", "1", "f32 m=4", {"rows": 4, "vectors": 3}, 100.0, 80.0, 12, 5.0)


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Database]:
    path = tmp_path / "folder" / "tuning.sqlite"
    with config.override(tuning_db=str(path), tuning=True):
        yield Database(path)


def test_what_is_put_is_found_under_its_key_alone(base: Database) -> None:
    assert base.lookup("cpu", 2, "1") == {}
    base.put([RECORD])
    assert base.lookup("cpu", 2, "1") == {"abc": RECORD}
    assert base.lookup("cpu", 1, "1") == {}
    assert base.lookup("cpu", 2, "2") == {}
    assert base.lookup("other", 2, "1") == {}
    assert base.records() == [RECORD]


def test_a_record_takes_the_place_of_one_with_its_key(base: Database) -> None:
    later = replace(RECORD, point={"rows": 6}, trials=3)
    base.put([RECORD, replace(RECORD, signature="def")])
    base.put([later])
    assert [r.point for r in base.records()] == [{"rows": 6}, RECORD.point]


def test_export_and_merge(base: Database, tmp_path: Path) -> None:
    base.put([RECORD])
    assert base.export(tmp_path / "out.sqlite") == 1
    other = Database(tmp_path / "other.sqlite")
    other.put([replace(RECORD, trials=5, point={"rows": 1}), replace(RECORD, signature="def")])
    assert base.merge(other.path) == 1  # the known one has more trials here
    assert base.lookup("cpu", 2, "1")["abc"] == RECORD
    assert other.merge(tmp_path / "out.sqlite") == 1
    assert other.lookup("cpu", 2, "1")["abc"] == RECORD
    assert Database(tmp_path / "new.sqlite").merge(base.path) == 2


def test_export_overwrites_nothing(base: Database, tmp_path: Path) -> None:
    base.put([RECORD])
    (tmp_path / "out").write_text("precious")
    with pytest.raises(TuningError, match="is there already"):
        base.export(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "precious"


def test_a_missing_file_cannot_be_merged(base: Database, tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="there is no"):
        base.merge(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_put_aside(base: Database, content: bytes, capsys) -> None:
    base.path.parent.mkdir()
    base.path.write_bytes(content)
    assert base.lookup("cpu", 2, "1") == {}
    with pytest.raises(TuningError, match="no tuning database"):
        base.records()
    base.put([RECORD])
    assert base.records() == [RECORD]
    (aside,) = base.path.parent.glob("*damaged*")
    assert aside.read_bytes() == content
    assert "tuning database" in capsys.readouterr().err


def test_a_database_of_something_else_is_refused_or_kept(base: Database) -> None:
    base.path.parent.mkdir()
    with sqlite3.connect(base.path) as db:
        db.execute("create table tuned (a)")
    assert base.lookup("cpu", 2, "1") == {}
    with pytest.raises(TuningError):
        base.put([RECORD])


def test_strange_rows_are_passed_over(base: Database) -> None:
    base.put([RECORD, replace(RECORD, signature="def")])
    for point in ("[1]", "{", '{"rows": "x"}', '{"rows": 1.5}'):
        with sqlite3.connect(base.path) as db:
            db.execute("update tuned set point = ? where signature = 'def'", (point,))
        assert base.lookup("cpu", 2, "1") == {"abc": RECORD}


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TuningError, match="FERRULE_TUNING_DB"):
        Database(tmp_path / "file" / "tuning.sqlite").put([RECORD])


def test_processes_write_at_once(base: Database) -> None:
    code = """
import sys; from pathlib import Path; from dataclasses import replace
from ferrule.tune.database import Database, Record
for i in range(20):
    r = Record("cpu", 2, f"{sys.argv[2]}.{i}", "1", "op", {"rows": i}, 1.0, 1.0, 1, 0.0)
    Database(Path(sys.argv[1])).put([r])
"""
    several = [
        subprocess.Popen([sys.executable, "-c", code, str(base.path), str(n)]) for n in range(4)
    ]
    assert [p.wait() for p in several] == [0] * 4
    assert len(base.records()) == 80


def test_known_follows_the_file_and_the_setting(base: Database) -> None:
    assert default_path(config.settings()) == base.path
    assert known(config.settings(), "cpu", 2, "1") == {}
    base.put([RECORD])
    assert known(config.settings(), "cpu", 2, "1") == {"abc": RECORD}
    base.put([replace(RECORD, signature="def")])
    assert set(known(config.settings(), "cpu", 2, "1")) == {"abc", "def"}
    with config.override(tuning=False):
        assert known(config.settings(), "cpu", 2, "1") == {}


def test_the_database_lies_beside_the_cache(tmp_path: Path) -> None:
    with config.override(cache_dir=str(tmp_path), tuning_db=None):
        assert default_path(config.settings()) == tmp_path / "tuning.sqlite"
