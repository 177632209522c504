"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast


def write_whole(path: Path, write: Callable[[BinaryIO], object], private: bool = False) -> None:
    """Lets `write` fill a new file beside `path`, which then takes its name. A `private` one is for
    this user alone, any other for whom the process's mask allows. Raises OSError, and what `write`
    raises; the file is then as it was.
    """
    handle, name = tempfile.mkstemp(dir=path.absolute().parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "w+b") as stream:
            write(cast(BinaryIO, stream))
        if not private:
            os.chmod(name, 0o666 & ~_mask())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
