"""Programs from files: text, portable artifacts, exports of JAX."""

from __future__ import annotations

import os
from pathlib import Path

from ferrule.base.errors import InputError, ParseError
from ferrule.frontend.stablehlo.bytecode import MAGIC, read_bytecode
from ferrule.frontend.stablehlo.export import read_export
from ferrule.frontend.stablehlo.module import Module
from ferrule.frontend.stablehlo.text import read_text


def read(source: str | os.PathLike[str] | bytes) -> Module:
    """The program of a file, or of what a file holds. Bytecode begins with its magic number, and an
    export of JAX with an offset that has a byte of zero; all else is text.

    Raises InputError if a file can't be read, ParseError where the program is malformed, and
    UnsupportedError where it has types or operations that are not read.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        data, name = bytes(source), "<bytes>"
    else:
        name = os.fspath(source)
        try:
            data = Path(name).read_bytes()
        except (OSError, ValueError) as error:
            raise InputError(f"the program {name!r} can't be read: {error}") from None
    if data[:4] == MAGIC:
        return read_bytecode(data, name)
    if b"\0" in data[:4]:
        return read_export(data, name).module
    try:
        return read_text(data.decode("utf-8"), name)
    except UnicodeDecodeError as error:
        message = f"{name}: byte {error.start}: this is neither text nor bytecode of MLIR"
        raise ParseError(message) from None
