"""Compiled programs on disk, found by a digest of what they were compiled from.

    cache = Cache(folder, limit)
    compiled = cache.get(key) or cache.put(key, compile(...))

One file an entry, `DIR/xx/KEY.ferrule`, written beside its place and renamed into it, so that other
processes see a whole entry or none. Entries carry a checksum; a damaged one is deleted and counts
as absent. A folder that cannot be written keeps nothing, with one line in the log, and so does one
that other users may write to, since what is in it would be run (see trusted). When the folder
outgrows its limit, the entries used least recently go, down to nine tenths.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from ferrule.base import log
from ferrule.base.artifact import Compiled
from ferrule.base.config import Settings
from ferrule.base.errors import CacheError, InputError
from ferrule.base.files import write_whole
from ferrule.runtime import trusted

_SUFFIX = ".ferrule"
_told = False  # that something is not trusted, once a process
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Cache:
    """The programs in a folder, which need not be there yet, of at most `limit` bytes together.
    One that is `off` holds nothing and keeps nothing.
    """

    folder: Path
    limit: int
    off: bool = False

    def get(self, key: str) -> Compiled | None:
        """The program stored under `key`, or None. Marks it as used now."""
        if self.off:
            return None
        path = self._path(key)
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

    def put(self, key: str, compiled: Compiled) -> Compiled:
        """Stores a program under `key` and gives it back."""
        if self.off:
            return compiled
        path = self._path(key)
        try:
            _write(path, compiled.to_bytes())
            self.prune()
        except trusted.Untrusted as error:
            _tell_untrusted(error)
        except OSError as error:
            log.warn(f"compiled programs are not kept on disk: {error}; see FERRULE_CACHE_DIR")
        return compiled

    def prune(self) -> None:
        """Deletes the entries used least recently while all together exceed the limit."""
        entries = sorted(self._entries())
        total = sum(size for _, size, _ in entries)
        if total <= self.limit:
            return
        for _, size, path in entries:
            if total <= self.limit * 9 // 10:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size

    def clear(self) -> None:
        """Deletes every entry."""
        for _, _, path in self._entries():
            with contextlib.suppress(OSError):
                path.unlink()

    def _path(self, key: str) -> Path:
        if len(key) < 8 or not _HEX.issuperset(key):
            raise InputError(f"a cache key is a hexadecimal digest, not {key!r}")
        return self.folder / key[:2] / (key + _SUFFIX)

    def _entries(self) -> list[tuple[int, int, Path]]:
        """Time of last use in ns, size in bytes and path of each entry that is there now."""
        found = []
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(OSError):
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_size, path))
        return found


def cache_of(settings: Settings) -> Cache:
    """The cache that `settings` ask for: `cache`, `cache_dir`, `cache_mb`."""
    return Cache(settings.cache_folder, settings.cache_mb << 20, off=not settings.cache)


def _write(path: Path, data: bytes) -> None:
    trusted.make_folder(path.parent.parent)
    trusted.make_folder(path.parent)
    write_whole(path, lambda file: file.write(data), private=True)


def _tell_untrusted(error: trusted.Untrusted) -> None:
    global _told
    if not _told:
        _told = True
        log.warn(
            "compiled programs are not read from disk where others may have written them: "
            f"{error}; make it yours alone (chown, chmod go-w), delete it, or name a folder of "
            "your own in FERRULE_CACHE_DIR"
        )
