"""Reads TensorFlow Lite files: FlatBuffers whose tables `schema.py` lists.

Whatever a file says of places and sizes is checked against what it has before it is followed, so a
damaged file costs no more than its size.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ferrule.base.errors import InputError, ParseError
from ferrule.base.flatbuffer import Table, root
from ferrule.frontend.tflite.model import (
    TYPES,
    Array,
    Entry,
    Lite,
    Operator,
    Quant,
    SubGraph,
    Tensor,
)
from ferrule.frontend.tflite.schema import ENUMS, TABLES

IDENTIFIER = b"TFL3"
_RANK = 16  # most dimensions of a tensor
_MASKED = "PLACEHOLDER_FOR_GREATER_OP_CODES"


def is_lite(source: Any) -> bool:
    """Whether this is a TensorFlow Lite file: one with the suffix `.tflite`, or one, or bytes, with
    the identifier of such files.
    """
    if isinstance(source, bytes):
        return source[4:8] == IDENTIFIER
    if not isinstance(source, str | os.PathLike):
        return False
    try:
        with Path(source).open("rb") as file:
            found = file.read(8)
    except OSError:
        return False
    return found[4:8] == IDENTIFIER or Path(source).suffix == ".tflite"


def read_lite(source: str | bytes | os.PathLike[str]) -> Lite:
    """What a file, or its bytes, holds; the data of tensors stay where they lie. Raises ParseError
    with the byte for a file that is damaged, and InputError where there is none.
    """
    if isinstance(source, bytes):
        return _File(source, "the model").lite()
    try:
        with Path(source).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    except OSError as error:
        raise InputError(f"cannot read {source}: {error}") from error
    return _File(data, str(source)).lite()


class _Record:
    """A table with the names that the schema gives its fields."""

    def __init__(self, file: _File, kind: str, table: Table) -> None:
        self._file, self._table = file, table
        self._fields = TABLES[kind]

    @property
    def at(self) -> int:
        """The byte at which it lies."""
        return self._table.at

    def __getitem__(self, name: str) -> Any:
        number, kind, default = self._fields[name]
        if kind == "text":
            return self._table.text(number)
        if not kind.startswith("["):
            if kind in TABLES:
                inner = self._table.table(number)
                return None if inner is None else _Record(self._file, kind, inner)
            return None if kind == "union" else self._table.value(number, kind, default)
        inside = kind[1:-1]
        if inside in TABLES:
            self._file.spend(self._table, number)
            return [_Record(self._file, inside, t) for t in self._table.tables(number)]
        if inside == "text":
            return self._table.texts(number)
        return self._table.array(number, inside)

    def union(self, name: str, kinds: str) -> Mapping[str, Any]:
        """The numbers and texts of the table that a union has."""
        number, _, _ = self._fields[name]
        kind = ENUMS[kinds].get(int(self[f"{name}_type"]), "NONE")
        inner = self._table.table(number)
        if inner is None or kind not in TABLES:
            return {}
        held = _Record(self._file, kind, inner)
        plain = (n for n, (_, k, _) in TABLES[kind].items() if k.strip("[]") not in TABLES)
        return {n: held[n] for n in plain}


class _File:
    """A file while it is read."""

    def __init__(self, data: Any, name: str) -> None:
        self.data, self.name = data, name
        self._left = len(data)

    def spend(self, table: Table, field: int) -> None:
        """Count a vector of tables. Vectors that do not overlap are no longer than the file."""
        self._left -= 4 * table.length(field)
        if self._left < 0:
            raise ParseError(f"{self.name}: byte {table.at}: vectors of tables that overlap")

    def wrong(self, at: int, what: str) -> ParseError:
        return ParseError(f"{self.name}: byte {at}: {what}")

    def lite(self) -> Lite:
        """All of the file."""
        if self.data[4:8] != IDENTIFIER:
            raise self.wrong(4, f"no TensorFlow Lite file: it does not say {IDENTIFIER.decode()}")
        model = _Record(self, "Model", root(self.data, self.name))
        if model["version"] != 3:
            raise self.wrong(model.at, f"version {model['version']} of the schema, not 3")
        codes = [self.code(c) for c in model["operator_codes"]]
        buffers = model["buffers"]
        held: dict[int, Array] = {}
        graphs = tuple(self.subgraph(g, codes, buffers, held) for g in model["subgraphs"])
        if not graphs:
            raise self.wrong(model.at, "a model without a subgraph")
        entries = {}
        for s in model["signature_defs"]:
            own = Entry(s["subgraph_index"], *map(_named, (s["inputs"], s["outputs"])))
            if own.subgraph >= len(graphs):
                raise self.wrong(s.at, f"a signature of subgraph {own.subgraph} of {len(graphs)}")
            entries[s["signature_key"]] = own
        return Lite(graphs, entries)

    def code(self, c: _Record) -> str:
        """The name of an operator; of a custom one behind a dot."""
        number = max(c["deprecated_builtin_code"], c["builtin_code"])
        name = ENUMS["BuiltinOperator"].get(number)
        if name is None or name == _MASKED:
            raise self.wrong(c.at, f"there is no operator {number}")
        return f"CUSTOM.{c['custom_code']}" if name == "CUSTOM" else name

    def subgraph(
        self, g: _Record, codes: list[str], buffers: list[_Record], held: dict[int, Array]
    ) -> SubGraph:
        tensors = tuple(self.tensor(t, buffers, held) for t in g["tensors"])
        operators = tuple(self.operator(o, codes, len(tensors)) for o in g["operators"])
        ends = [self.places(g, n, len(tensors), 0) for n in ("inputs", "outputs")]
        return SubGraph(g["name"], tensors, ends[0], ends[1], operators)

    def places(self, r: _Record, name: str, count: int, least: int) -> tuple[int, ...]:
        """The places of tensors, each checked."""
        found = tuple(map(int, r[name]))
        for n in found:
            if not least <= n < count:
                raise self.wrong(r.at, f"{name} has tensor {n} of {count}")
        return found

    def operator(self, o: _Record, codes: list[str], count: int) -> Operator:
        index = o["opcode_index"]
        if index >= len(codes):
            raise self.wrong(o.at, f"operator code {index} of {len(codes)}")
        inputs, outputs = (self.places(o, n, count, -1) for n in ("inputs", "outputs"))
        options = {
            **o.union("builtin_options", "BuiltinOptions"),
            **o.union("builtin_options2", "BuiltinOptions2"),
        }
        return Operator(codes[index], inputs, outputs, options)

    # ---- tensors ---------------------------------------------------------------------------------

    def tensor(self, t: _Record, buffers: list[_Record], held: dict[int, Array]) -> Tensor:
        shape, told = (tuple(map(int, t[n])) for n in ("shape", "shape_signature"))
        number, name = t["type"], t["name"]
        kind = ENUMS["TensorType"].get(number)
        if kind is None:
            raise self.wrong(t.at, f"{name!r} is of type {number}, which is none")
        if len(shape) > _RANK or any(n < 0 for n in shape) or any(n < -1 for n in told):
            raise self.wrong(t.at, f"{name!r} is of shape {list(shape)}")
        place = t["buffer"]
        if place >= len(buffers):
            raise self.wrong(t.at, f"{name!r} has buffer {place} of {len(buffers)}")
        if place not in held:
            held[place] = self.buffer(buffers[place])
        data = held[place]
        quant = self.quant(t, shape)
        if not data.size:
            known = np.zeros(shape, TYPES[kind][1]) if 0 in shape and TYPES.get(kind) else None
            whole = told if len(told) == len(shape) else shape
            return Tensor(name, kind, whole, known, quant, t["is_variable"])
        return Tensor(name, kind, shape, self.array(t, kind, shape, data), quant)

    def buffer(self, b: _Record) -> Array:
        """The bytes of a buffer: in the table, or behind it in a large file."""
        first, size = b["offset"], b["size"]
        if first > 1:
            if first + size > len(self.data):
                raise self.wrong(b.at, f"a buffer of {size} bytes at byte {first}")
            return np.frombuffer(self.data, np.uint8, size, first)
        found: Array = b["data"]
        return found

    def array(self, t: _Record, kind: str, shape: tuple[int, ...], data: Array) -> Array | None:
        """The data of a tensor; None of a type that ferrule lacks, or that are not dense."""
        _, form = TYPES.get(kind, (0, ""))
        if not form or t["sparsity"] is not None:
            return None
        count = prod(shape)
        size = (count + 1) // 2 if kind == "INT4" else count * np.dtype(form).itemsize
        if len(data) != size:
            raise self.wrong(t.at, f"{t['name']!r} of shape {list(shape)} has {len(data)} bytes")
        if kind == "INT4":
            pairs = np.stack([data << 4, data & 0xF0], -1).view(np.int8) >> 4
            return pairs.reshape(-1)[:count].reshape(shape)
        aligned = data if data.ctypes.data % np.dtype(form).itemsize == 0 else data.copy()
        return aligned.view(form).reshape(shape)

    def quant(self, t: _Record, shape: tuple[int, ...]) -> Quant | None:
        """The scales of a tensor, None where it has none."""
        q = t["quantization"]
        if q is None or not len(q["scale"]):
            return None
        scale, zero, axis = q["scale"], q["zero_point"], q["quantized_dimension"]
        if not len(zero):
            zero = np.zeros(len(scale), np.int64)
        several = len(scale) > 1
        fits = len(zero) in (1, len(scale)) and (
            not several or (0 <= axis < len(shape) and shape[axis] == len(scale))
        )
        if not fits or not np.isfinite(scale).all() or (np.abs(zero) > 1 << 31).any():
            raise self.wrong(q.at, f"scales that do not fit {t['name']!r} of shape {list(shape)}")
        return Quant(scale, np.broadcast_to(zero, scale.shape), axis if several else 0)


def _named(maps: list[_Record]) -> dict[int, str]:
    return {m["tensor_index"]: m["name"] for m in maps}
