"""Compiled programs on disk, found by a digest of what they were compiled from.

    key = digest(graph_text, target.key, version)
    compiled = cache.get(key) or cache.put(key, compile(...))

One file an entry, `DIR/xx/KEY.ferrule`, written beside its place and renamed into it, so that other
processes see a whole entry or none. Entries carry a checksum; a damaged one is deleted and counts
as absent. A folder that cannot be written turns the cache off with one line in the log, and so does
one that other users may write to, since what is in it would be run (see trusted). When the folder
outgrows the setting `cache_mb`, the entries used least recently go, down to nine tenths.
Settings: `cache`, `cache_dir`, `cache_mb`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from ferrule.base import config, log
from ferrule.base.artifact import Compiled
from ferrule.base.errors import CacheError, InputError
from ferrule.runtime import trusted

_SUFFIX = ".ferrule"
_told = False  # that something is not trusted, once a process
_HEX = frozenset("0123456789abcdef")


def directory() -> Path:
    """The folder of the cache."""
    return Path(config.get("cache_dir")).expanduser()


def get(key: str) -> Compiled | None:
    """The program stored under `key`, or None. Marks it as used now."""
    if not config.get("cache"):
        return None
    path = _path(key)
    try:
        data = trusted.read(path)
    except trusted.Untrusted as error:
        _tell_untrusted(error)
        return None
    except OSError:
        return None
    try:
        compiled = Compiled.from_bytes(data)
    except CacheError as error:
        log.log(5, f"cache: {path.name} is deleted: {error}")
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return compiled


def put(key: str, compiled: Compiled) -> Compiled:
    """Stores a program under `key`, where the cache is on, and gives it back."""
    if config.get("cache"):
        path = _path(key)
        try:
            _write(path, compiled.to_bytes())
            prune()
        except trusted.Untrusted as error:
            _tell_untrusted(error)
        except OSError as error:
            log.warn(f"compiled programs are not kept on disk: {error}; see FERRULE_CACHE_DIR")
    return compiled


def prune() -> None:
    """Deletes the entries used least recently while all together exceed the setting `cache_mb`."""
    limit = config.get("cache_mb") << 20
    entries = sorted(_entries())
    total = sum(size for _, size, _ in entries)
    if total <= limit:
        return
    for _, size, path in entries:
        if total <= limit * 9 // 10:
            break
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size


def clear() -> None:
    """Deletes every entry."""
    for _, _, path in _entries():
        with contextlib.suppress(OSError):
            path.unlink()


def _path(key: str) -> Path:
    if len(key) < 8 or not _HEX.issuperset(key):
        raise InputError(f"a cache key is a hexadecimal digest, not {key!r}")
    return directory() / key[:2] / (key + _SUFFIX)


def _write(path: Path, data: bytes) -> None:
    trusted.make_folder(path.parent.parent)
    trusted.make_folder(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _tell_untrusted(error: trusted.Untrusted) -> None:
    global _told
    if not _told:
        _told = True
        log.warn(
            "compiled programs are not read from disk where others may have written them: "
            f"{error}; make it yours alone (chown, chmod go-w), delete it, or name a folder of "
            "your own in FERRULE_CACHE_DIR"
        )


def _entries() -> list[tuple[int, int, Path]]:
    """Time of last use in ns, size in bytes and path of each entry that is there now."""
    found = []
    for path in directory().glob("??/*"):
        with contextlib.suppress(OSError):
            stat = path.stat()
            found.append((stat.st_mtime_ns, stat.st_size, path))
    return found
