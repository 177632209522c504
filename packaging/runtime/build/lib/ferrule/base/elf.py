"""What an ELF object file (System V ABI, "Object Files") wants of others."""

from __future__ import annotations

import struct

_HEADER, _SECTION, _SYMBOL = "<40xQ10xHHH", "<IIQQQQIIQQ", "<IBBHQQ"
_SYMTAB, _UNDEFINED = 2, 0
_OWN = "_GLOBAL_OFFSET_TABLE_"  # which a linker makes for each object


def undefined_symbols(code: bytes) -> tuple[str, ...]:
    """The symbols that a 64-bit little-endian ELF object refers to and does not define; none for
    another format. Raises ValueError where the file is damaged.
    """
    if code[:6] != b"\x7fELF\x02\x01":
        return ()
    try:
        return tuple(_undefined(code))
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"a damaged object file: {error}") from error


def _undefined(code: bytes) -> list[str]:
    start, size, count, _ = struct.unpack_from(_HEADER, code)
    sections = [struct.unpack_from(_SECTION, code, start + k * size) for k in range(count)]
    found: list[str] = []
    for _, kind, _, _, at, length, link, *_ in sections:
        if kind != _SYMTAB:
            continue
        names = sections[link][4]
        for k in range(at, at + length, struct.calcsize(_SYMBOL)):
            name, _, _, section, _, _ = struct.unpack_from(_SYMBOL, code, k)
            if section == _UNDEFINED and name:
                begin = names + name
                found.append(code[begin : code.index(b"\0", begin)].decode())
    return [name for name in found if name != _OWN]
