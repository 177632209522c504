"""The tuning database: which schedule was fastest for an operator on a machine, in one SQLite file.

    record = machine threads signature version -> operator point default_ns best_ns trials made

A `point` is a schedule's free choices as numbers by name; this file knows nothing of what they
mean. Whatever differs in machine (a target's key), number of threads, signature (an operator's
digest) or version of the schedules is another record.

Several processes may write at once: each write is a transaction that waits for the others. A file
that is no database is put aside under another name, with a warning, and a new one begun; nothing
that is read from a file can raise anything but TuningError. Who else may write to it is not asked,
unlike with compiled programs: it holds numbers, a program made by any of them is proven defined
before it runs, and people may share one file.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ferrule.base import log
from ferrule.base.config import Settings
from ferrule.base.errors import TuningError

Point = Mapping[str, int]

FILE = "tuning.sqlite"
_WAIT = 30.0  # seconds for other processes' transactions
_FORMAT = 1
_TABLE = """
create table if not exists tuned (
    machine text not null, threads integer not null, signature text not null,
    version text not null, operator text not null, point text not null,
    default_ns real not null, best_ns real not null, trials integer not null, made real not null,
    primary key (machine, threads, signature, version)
)"""
_FIELDS = (
    "machine", "threads", "signature", "version", "operator", "point", "default_ns", "best_ns",
    "trials", "made",
)  # fmt: skip


@dataclass(frozen=True)
class Record:
    """The fastest `point` found for an operator: times are nanoseconds of one call, measured side
    by side; `operator` says to people what it is; `made` is seconds since 1970.
    """

    machine: str
    threads: int
    signature: str
    version: str
    operator: str
    point: Point
    default_ns: float
    best_ns: float
    trials: int
    made: float = field(default_factory=time.time)


def default_path(settings: Settings) -> Path:
    """The file of the setting `tuning_db`, else one in the folder of the cache."""
    given = settings.tuning_db
    return settings.cache_folder / FILE if given is None else Path(given).expanduser()


@dataclass(frozen=True)
class Database:
    """The database in a file, which need not be there yet."""

    path: Path

    def lookup(self, machine: str, threads: int, version: str) -> dict[str, Record]:
        """The records by signature; none where there is no file or it cannot be read."""
        if not self.path.is_file():
            return {}
        where = "machine = ? and threads = ? and version = ?"
        try:
            return {r.signature: r for r in self._read(where, (machine, threads, version))}
        except TuningError as error:
            log.warn(f"tuned schedules are not used: {error}")
            return {}

    def records(self) -> list[Record]:
        """All records, in order of their keys. Raises TuningError for a file that is damaged or not
        there.
        """
        if not self.path.is_file():
            raise TuningError(f"there is no tuning database {self.path}")
        return self._read("1", ())

    def put(self, records: Iterable[Record]) -> None:
        """Writes records over those of the same keys. Raises TuningError where the file cannot be
        written.
        """
        rows = [_row(r) for r in records]
        marks = ", ".join("?" * len(_FIELDS))
        with self._writing() as db:
            db.executemany(f"insert or replace into tuned values ({marks})", rows)

    def merge(self, other: Path) -> int:
        """Takes the records of another file over: those whose keys are new here, and those of more
        trials. Gives their number. Raises TuningError.
        """
        found = Database(other).records()
        known = {_key(r): r for r in self.records()} if self.path.is_file() else {}
        new = [r for r in found if _key(r) not in known or r.trials > known[_key(r)].trials]
        self.put(new)
        return len(new)

    def export(self, file: Path) -> int:
        """Writes all records to a new file and gives their number. Raises TuningError."""
        if file.exists():
            raise TuningError(f"{file} is there already: export writes a new file")
        found = self.records()
        Database(file).put(found)
        return len(found)

    def _read(self, where: str, values: tuple[Any, ...]) -> list[Record]:
        query = f"select {', '.join(_FIELDS)} from tuned where {where} order by 1, 2, 3, 4"
        try:
            with contextlib.closing(_opened(self.path, "ro")) as db:
                rows = db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise TuningError(f"{self.path} is no tuning database: {error}") from error
        return [r for row in rows if (r := _record(row)) is not None]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction on the file, which is made where it is missing or damaged."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # the cache's, too
            with contextlib.closing(self._sound()) as db:
                db.execute("begin immediate")
                yield db
                db.commit()
        except (sqlite3.Error, OSError) as error:
            raise TuningError(
                f"the tuning database {self.path} cannot be written: {error}; "
                "FERRULE_TUNING_DB names another file"
            ) from error

    def _sound(self) -> sqlite3.Connection:
        """A connection to a file with the table."""
        try:
            return _with_table(self.path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            aside = self.path.with_name(f"{self.path.name}.damaged-{os.getpid()}")
            os.replace(self.path, aside)
            log.warn(f"{self.path} is no tuning database ({error}): it is now {aside.name}")
            return _with_table(self.path)


def known(settings: Settings, machine: str, threads: int, version: str) -> Mapping[str, Record]:
    """What the default database has for this machine, kept in memory while the file stays as it is;
    nothing where the setting `tuning` is off.
    """
    if not settings.tuning:
        return {}
    path = default_path(settings)
    try:
        stat = path.stat()
    except OSError:
        return {}
    key = (str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns, machine, threads, version)
    if key not in _kept:
        _kept.clear()
        _kept[key] = Database(path).lookup(machine, threads, version)
    return _kept[key]


_kept: dict[tuple[Any, ...], Mapping[str, Record]] = {}


def _opened(path: Path, mode: str) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(address, timeout=_WAIT, isolation_level=None, uri=True)


def _with_table(path: Path) -> sqlite3.Connection:
    db = _opened(path, "rwc")
    try:
        db.execute(_TABLE)
        db.execute(f"pragma user_version = {_FORMAT}")
    except sqlite3.Error:
        db.close()
        raise
    return db


def _key(r: Record) -> tuple[str, int, str, str]:
    return r.machine, r.threads, r.signature, r.version


def _row(r: Record) -> tuple[Any, ...]:
    point = json.dumps(dict(r.point), sort_keys=True)
    return (*_key(r), r.operator, point, r.default_ns, r.best_ns, r.trials, r.made)


def _record(row: tuple[Any, ...]) -> Record | None:
    """A row as a record, or None where its values are not what they should be."""
    values = dict(zip(_FIELDS, row, strict=True))
    try:
        point = json.loads(values["point"])
    except (TypeError, ValueError):
        return None
    whole = isinstance(point, dict) and all(isinstance(v, int) for v in point.values())
    names = ("machine", "signature", "version", "operator")
    texts = all(isinstance(values[n], str) for n in names)
    numbers = ("threads", "default_ns", "best_ns", "trials", "made")
    if not (whole and texts and all(isinstance(values[n], (int, float)) for n in numbers)):
        return None
    return Record(**{**values, "point": point})
