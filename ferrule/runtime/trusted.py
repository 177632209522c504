"""Whether code in a file may be run: only this user and root can have written it.

    read(path) -> bytes, of a file in a folder of a folder

The file and the two folders above it must belong to this user or root, and nobody else may have
the right to write to them (in a folder that others can write to, they can give an entry the name
of another one). Folders further up need not be looked at: who can move them can put others in
their place, but not others that belong to this user. The file must be a plain one, no link, and it
is the open file that is looked at. Where the system knows no users (Windows), everything is
trusted.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ferrule.base.errors import CacheError

_FLAGS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Untrusted(CacheError):
    """Somebody else may have written what is in this file or folder."""


def read(path: Path) -> bytes:
    """What is in the file. Raises Untrusted for a file that somebody else may have written or put
    there, OSError for one that is not there or cannot be read.
    """
    check_folder(path.parent.parent)
    check_folder(path.parent)
    if path.is_symlink():
        raise Untrusted(f"{path} is a link")
    handle = os.open(path, os.O_RDONLY | _FLAGS)  # a pipe is opened and not waited for
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise Untrusted(f"{path} is no plain file")
        _check(path, found)
        with open(handle, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Makes a folder that is this user's alone, and those above it as usual, where there is none.
    Raises Untrusted for one that somebody else may write to, OSError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """Raises Untrusted for a folder that somebody else may write to, OSError for none."""
    _check(folder, folder.stat())


def users() -> set[int] | None:
    """The users to trust: this one and root; None where the system knows none."""
    own = getattr(os, "geteuid", None)
    return None if own is None else {own(), 0}


def _check(path: Path, found: os.stat_result) -> None:
    known = users()
    if known is None:
        return
    if found.st_uid not in known:
        raise Untrusted(f"{path} belongs to another user ({found.st_uid})")
    if found.st_mode & _OTHERS_WRITE:
        raise Untrusted(f"other users may write to {path}")
