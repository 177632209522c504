"""The table of a machine: entries of it are asked, so that another value makes other code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ferrule import ops
from ferrule.base.dtype import f32
from ferrule.ir.expr import dim
from ferrule.ir.graph import GraphBuilder, tensor
from ferrule.pipeline.passes import options_for
from ferrule.pipeline.run import lowered, text_of
from ferrule.target.cpu import Target
from ferrule.target.machine import CPU, Machine
from tests.cpus import server
from tests.systems import linear, product


def convolution(stride: int = 1) -> Any:
    """3 x 3 with padding, of channels that are no whole vectors."""
    b = GraphBuilder("convolution")
    x, w = b.input(tensor((1, 12, 20, 20), f32)), b.param(tensor((20, 12, 3, 3), f32))
    return b.build((ops.conv(b, x, w, stride=stride, padding=1),))


def rows(count: int, length: int) -> Any:
    """A softmax."""
    b = GraphBuilder("rows")
    return b.build((ops.softmax(b, b.input(tensor((count, length), f32)), axis=1),))


def joined() -> Any:
    """One row behind the other."""
    b = GraphBuilder("joined")
    x, y = (b.input(tensor((6, 40), f32)) for _ in range(2))
    return b.build((ops.concat(b, [x, y], axis=1),))


def turned() -> Any:
    """A transposition."""
    b = GraphBuilder("turned")
    x = b.input(tensor((64, 96), f32))
    return b.build((ops.transpose(b, x, (1, 0)),))


ENTRIES = [
    ("line", 32, rows(4096, 1024), "scheduled"),
    ("line", 128, linear(16, 64, 768), "scheduled"),
    ("line", 128, linear(16, 64, 768), "llvm"),
    ("products.own_work", 100.0, linear(1000, 512, 512), "scheduled"),
    ("products.unroll", 2, linear(64, 64, 96), "scheduled"),
    ("products.short_loop", 2, convolution(stride=3), "scheduled"),
    ("products.short_run", 1000, linear(16, 64, 768), "scheduled"),
    ("products.many_panels", 1000, linear(dim("n", 1, 40), 2048, 64), "scheduled"),
    ("products.far_rows", 1 << 20, product(512, 512, 64), "scheduled"),
    ("products.copied_rows", 1000, product(512, 512, 64), "scheduled"),
    ("products.packed_rows", 16, product(512, 512, 64), "scheduled"),
    ("products.hints", 1, linear(16, 64, 768), "scheduled"),
    ("products.ahead", 8 << 10, linear(16, 64, 768), "scheduled"),
    ("rows.pieces", 1, joined(), "scheduled"),
    ("code.stack", 64, linear(16, 64, 768), "llvm"),
    ("code.apart", 1024, rows(16, 16384), "llvm"),
    ("code.own_loads", 0, linear(49, 512, 512), "llvm"),
    ("code.zeros", 0, convolution(), "llvm"),
    ("code.near_zeros", -1, convolution(), "llvm"),
    ("code.shuffled", 4, turned(), "llvm"),
]


def changed(machine: Machine, entry: str, value: Any) -> Machine:
    """The table with another value for one entry, `name` or `part.name`."""
    part, _, name = entry.rpartition(".")
    if not part:
        return replace(machine, **{name: value})
    return replace(machine, **{part: replace(getattr(machine, part), **{name: value})})


def name(entry: Any) -> str:
    return entry if isinstance(entry, str) else ""


def text(source: Any, level: str, target: Target) -> str:
    return text_of(lowered(source, level, options_for(target)))


@pytest.mark.parametrize(("entry", "value", "source", "level"), ENTRIES, ids=name)
def test_an_entry_decides_something(entry: str, value: Any, source: Any, level: str) -> None:
    plain = server("avx512")
    other = replace(plain, machine=changed(CPU, entry, value))
    assert text(source, level, plain) != text(source, level, other)
    assert plain.key != other.key
