"""What `jax.export` serialises: a portable artifact in a FlatBuffer that says what it is given.

Trees of arguments and shardings are left out: arguments are a row. `module` takes those of `inputs`
that `kept` names, after the index of the platform if there are several, and after a token for each
ordered effect.

Specification: jax/_src/export/serialization.fbs and serialization.py (jax-ml/jax).
"""

from __future__ import annotations

from dataclasses import dataclass

from ferrule.base.errors import ParseError, UnsupportedError
from ferrule.base.flatbuffer import Table, root
from ferrule.frontend.stablehlo.bytecode import read_bytecode
from ferrule.frontend.stablehlo.module import Module

_NAME, _IN_AVALS, _OUT_AVALS, _PLATFORMS, _EFFECTS, _MODULE = 1, 3, 5, 9, 10, 13
_CONVENTION, _KEPT, _UNIQUE, _IN_NUMBERS, _OUT_NUMBERS = 14, 15, 19, 22, 23
_SHAPE, _DTYPE = 1, 2
_ELEMENTS = (
    "i1", "i8", "i16", "i32", "i64", "ui8", "ui16", "ui32", "ui64", "f16", "f32", "f64",
    "complex<f32>", "complex<f64>", "bf16",
)  # fmt: skip


@dataclass(frozen=True)
class Array:
    """What an argument or result is: sizes, of which those that are not known are expressions of
    symbols ("b", "2*b + 1"), and the type of its elements as in TensorType.
    """

    shape: tuple[int | str, ...]
    element: str


@dataclass(frozen=True, eq=False)
class Exported:
    """A program that was exported from JAX. `effects` are the names of its ordered effects."""

    module: Module
    name: str
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    kept: tuple[int, ...]
    platforms: tuple[str, ...]
    effects: tuple[str, ...]
    convention: int


def read_export(data: bytes, name: str = "<bytes>") -> Exported:
    """What `jax.export.Exported.serialize` gave, whose name errors tell. Raises ParseError where it
    is malformed, and UnsupportedError where it has types or operations that are not read.
    """
    table = root(bytes(data), name)
    module = table.bytes(_MODULE)
    if not module:
        raise ParseError(f"{name}: byte {table.at}: this is no export of JAX: it has no module")
    return Exported(
        read_bytecode(module, f"{name}: module"),
        table.text(_NAME),
        _arrays(table, _IN_AVALS, _IN_NUMBERS),
        _arrays(table, _OUT_AVALS, _OUT_NUMBERS),
        table.numbers(_KEPT, 2),
        tuple(table.texts(_PLATFORMS)),
        tuple(effect.text(0) for effect in table.tables(_EFFECTS)),
        table.number(_CONVENTION, 2),
    )


def _arrays(table: Table, field: int, numbers: int) -> tuple[Array, ...]:
    """Arguments or results: tables in a vector, or since 2026 the numbers of tables in another."""
    chosen = table.numbers(numbers, 4)
    if not chosen:
        return tuple(map(_array, table.tables(field)))
    unique = tuple(map(_array, table.tables(_UNIQUE)))
    if max(chosen) >= len(unique):
        raise ParseError(f"{table.name}: byte {table.at}: an array that is none of {len(unique)}")
    return tuple(unique[n] for n in chosen)


def _array(table: Table) -> Array:
    code = table.number(_DTYPE, 1)
    if code >= len(_ELEMENTS):
        raise UnsupportedError(
            f"{table.name}: byte {table.at}: elements of type {code} are not supported"
        )
    sizes = table.texts(_SHAPE)
    shape = tuple(int(s) if s.isascii() and s.isdigit() and len(s) < 20 else s for s in sizes)
    return Array(shape, _ELEMENTS[code])
