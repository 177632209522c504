"""The elements of `dense<..>` in a text: lists in lists, one element for all, or hexadecimal bytes.

The lists are not read element by element: their brackets and commas must be, character by
character, those of the shape, and what is left is a row of numbers.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.frontend.stablehlo.elements import (
    COMPLEX,
    FLOATS,
    STORAGE,
    count,
    from_bytes,
    from_floats,
    from_ints,
    spread,
)
from ferrule.frontend.stablehlo.lexer import Cursor
from ferrule.frontend.stablehlo.module import Constant, TensorType

_BODY = re.compile(r'(?:[^>"/]+|"[^"]*"|//[^\n]*|/)*')
_BRACKETS = re.compile(r"[^\[\](),]+")
_NUMBERS = str.maketrans("[]()", "    ")
_HEX = {"bf16": 4, "f16": 4, "f32": 8, "f64": 16}  # digits of the bits of a float
_TRUTH = {"true": 1, "false": 0}


def body(cursor: Cursor) -> tuple[str, int]:
    """The text between `<`, which is the cursor's token, and `>`, past which it goes; and where it
    begins.
    """
    if not cursor.at("<"):
        raise cursor.expected("'<'")
    text, start = cursor.text, cursor.end
    end = text.find(">", start)
    if end >= 0 and ("//" in (inner := text[start:end]) or inner.count('"') % 2):
        found = _BODY.match(text, start)
        end = found.end() if found and text[found.end() : found.end() + 1] == ">" else -1
    if end < 0:
        raise cursor.error("'<' without '>'")
    inner = text[start:end]
    cursor.seek(end + 1)
    if "//" in inner:
        inner = re.sub(r"//[^\n]*", lambda m: " " * len(m[0]), inner)
    return inner, start


def constant(cursor: Cursor, inner: str, at: int, type: TensorType) -> Constant:
    """The constant whose elements are the text `inner`, which begins at `at`. Raises ParseError if
    they are malformed or do not have the shape of the type.
    """
    number = count(type)
    if number is None:
        raise cursor.error("the type of a constant must have a known shape", at)
    shape = tuple(size or 0 for size in type.shape or ())
    stripped = inner.strip()
    if stripped.startswith('"'):
        return Constant(type, _from_hex(cursor, stripped, at, type))
    if not stripped:
        if number:
            raise cursor.error(f"expected {number} elements, got none", at)
        return Constant(type, np.empty(shape, STORAGE[type.element]))
    found = _BRACKETS.sub("", stripped)
    pair = "(,)" if type.element in COMPLEX else ""
    if found == pair:
        return Constant(type, spread(_elements(cursor, inner, at, type, 1), shape))
    if len(found) != _length(shape, len(pair)) or found != _skeleton(shape, pair):
        raise cursor.error(f"these lists do not have the shape {list(shape)} of the type", at)
    if not number:
        if stripped.translate(str.maketrans("", "", "[], \t\r\n")):
            raise cursor.error("expected no elements", at)
        return Constant(type, np.empty(shape, STORAGE[type.element]))
    return Constant(type, _elements(cursor, inner, at, type, number).reshape(shape))


def from_blob(
    cursor: Cursor, data: bytes, at: int, type: TensorType, splat: bool = True
) -> Constant:
    """The constant with these bytes, which may be one element for all if `splat`. Raises ParseError
    if they are too many or too few.
    """
    number = count(type)
    if number is None:
        raise cursor.error("the type of a constant must have a known shape", at)
    values = from_bytes(data, type, packed=False)
    one = number > 1 and len(data) == STORAGE[type.element].itemsize
    if values is None or (one and not splat):
        raise cursor.error(f"{len(data)} bytes are not the elements of {type}", at)
    return Constant(type, values)


def hexadecimal(cursor: Cursor, quoted: str, at: int) -> bytes:
    """The bytes that a string `"0x.."` tells."""
    if not re.fullmatch(r'"0x(?:[0-9a-fA-F]{2})*"', quoted):
        raise cursor.error('expected bytes as "0x..", two digits each', at)
    return bytes.fromhex(quoted[3:-1])


def _from_hex(cursor: Cursor, quoted: str, at: int, type: TensorType) -> NDArray[Any]:
    return from_blob(cursor, hexadecimal(cursor, quoted, at), at, type).values


def _length(shape: tuple[int, ...], inner: int) -> int:
    """The number of characters of `_skeleton`, which may be too many to write."""
    for size in reversed(shape):
        inner = 2 + size * inner + max(size - 1, 0)
    return inner


def _skeleton(shape: tuple[int, ...], inner: str) -> str:
    """The brackets and commas of lists of a shape."""
    for size in reversed(shape):
        inner = "[" + ",".join([inner] * size) + "]"
    return inner


def _elements(
    cursor: Cursor, inner: str, at: int, type: TensorType, number: int
) -> NDArray[Any]:
    """The elements in a row; one alone is a scalar."""
    parts = inner.translate(_NUMBERS).split(",")
    element = type.element
    assert len(parts) == number * (2 if element in COMPLEX else 1)
    try:
        if not inner.isascii():
            raise ValueError
        values = _convert(parts, element)
    except (ValueError, OverflowError):
        raise _blame(cursor, inner, at, element) from None
    return values.reshape(()) if number == 1 else values


def _convert(parts: list[str], element: str) -> NDArray[Any]:
    """Numbers as an array. Raises ValueError or OverflowError for what is none of the type."""
    if element in COMPLEX:
        flat = _convert(parts, element[8:-1])
        return flat.view(STORAGE[element])
    if element in FLOATS:
        return _floats(parts, element)
    if element == "i1":
        truth = [_TRUTH[p] if p in _TRUTH else _integer(p) for p in map(str.strip, parts)]
        if not all(-1 <= t <= 1 for t in truth):
            raise OverflowError
        return np.array(truth, dtype=bool)
    return from_ints(list(map(_integer, parts)), element)


def _integer(part: str) -> int:
    if "_" in part:
        raise ValueError
    return int(part, 16) if "x" in part else int(part)


def _floats(parts: list[str], element: str) -> NDArray[Any]:
    joined = "".join(parts)
    if not any(c in joined for c in "xXnNiI_"):
        return from_floats(list(map(float, parts)), element)
    digits = _HEX[element]
    values: list[float] = []
    bits: dict[int, int] = {}
    for n, part in enumerate(map(str.strip, parts)):
        if re.fullmatch(r"0[xX][0-9a-fA-F]+", part):
            bits[n] = int(part, 16)
            if bits[n] >> 4 * digits:
                raise OverflowError
            values.append(0.0)
        elif re.fullmatch(r"[-+]?[0-9]+\.?[0-9]*(?:[eE][-+]?[0-9]+)?", part):
            values.append(float(part))
        else:
            raise ValueError
    array = from_floats(values, element)
    raw = array.view(f"uint{4 * digits}")
    for n, pattern in bits.items():
        raw[n] = pattern
    return array


def _blame(cursor: Cursor, inner: str, at: int, element: str) -> Exception:
    """The exception that names the first element which is wrong."""
    offset = 0
    for part in inner.translate(_NUMBERS).split(","):
        try:
            if not part.isascii():
                raise ValueError
            _convert([part] * (2 if element in COMPLEX else 1), element)
        except (ValueError, OverflowError):
            place = at + offset + len(part) - len(part.lstrip())
            came = part.strip()[:40]
            return cursor.error(f"expected an element of {element}, got {came!r}", place)
        offset += len(part) + 1
    return cursor.error(f"expected elements of {element}, all in decimal or with 0x", at)
