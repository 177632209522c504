"""Blocks of contractions: what the model chooses, and the hints that run ahead of them."""

from __future__ import annotations

from itertools import product
from math import prod

import pytest

from ferrule.base.dtype import f32
from ferrule.base.target import named
from ferrule.ir.expr import Buf, const, dim, substitute
from ferrule.ir.kernel import Kernel, Prefetch, walk_items
from ferrule.ir.simplify import simplify
from ferrule.pipeline import begin, run, steps
from ferrule.schedule.blocking import default_blocking, register_blocks
from tests.systems import linear


@pytest.mark.parametrize("target", ["avx512", "avx2", "generic"])
@pytest.mark.parametrize("sizes", [*product((1, 5, 32, 1000), repeat=2)], ids=str)
def test_a_register_block_fits_the_registers(target, sizes):
    machine = named(target)
    m, n = (const(s) for s in sizes)
    block = default_blocking((m,), n, const(64), 4, machine)
    assert block.rows * block.vectors + 2 <= machine.registers
    assert (block.vectors - 1) * machine.lanes(4) < sizes[1]


def test_unknown_columns_take_vectors_that_divide_most_sizes():
    machine = named("avx2")
    odd = default_blocking((const(128),), const(24), const(64), 4, machine)
    assert odd.vectors == 3
    assert default_blocking((const(128),), dim("n"), const(64), 4, machine).vectors in (1, 2, 4)
    assert any(vectors == 3 for _, vectors in register_blocks(machine))


@pytest.mark.parametrize("k", [96, 1009, 1024, 1500])
def test_hints_reach_every_line_of_the_next_part(k):
    scheduled, _ = run(begin(linear(64, 100, k), named("avx2")), steps("system", "scheduled"))
    kernel = next(p.kernel for u in scheduled.units for p in u.parts if p.packs is None)
    hints = [(i, path) for i, path in walk_items(kernel.body) if isinstance(i, Prefetch)]
    assert hints
    for hint, path in hints:
        first = dict.fromkeys((*kernel.grid, *(s.axis for s in path)), const(0))
        depth = simplify(substitute(path[-1].axis.extent, first)).attr
        lines = _lines(kernel, hint, first, [path[-1].axis, path[-2].axis])
        width = prod(s.attr for s in hint.buf.shape[-1:])
        start = min(lines)
        assert lines >= set(range(start, start + depth * width * 4 // 64 - 1))
        assert start * 64 >= depth * width * 4 - 64


def _lines(kernel: Kernel, hint: Prefetch, first: dict, axes: list) -> set[int]:
    """The cache lines that the hints at all points of `axes` name, elsewhere at the first point."""
    found = set()
    sizes = [simplify(substitute(a.extent, first)).attr for a in axes]
    for point in product(*(range(s) for s in sizes)):
        here = first | {a: const(p) for a, p in zip(axes, point, strict=True)}
        found.add(_address(hint.buf, [simplify(substitute(i, here)).attr for i in hint.idx]) // 64)
    return found


def _address(buf: Buf, idx: list[int]) -> int:
    at = 0
    for i, size in zip(idx, buf.shape, strict=True):
        at = at * size.attr + i
    return at * f32.size
