"""Blocks of contractions: what the model chooses, and the hints that run ahead of them."""

from __future__ import annotations

from itertools import product

import pytest

from ferrule.base.dtype import f32
from ferrule.ir.expr import Buf, Expr, const, dim, substitute
from ferrule.ir.kernel import Branch, Prefetch, SerialLoop, walk_items
from ferrule.ir.simplify import simplify
from ferrule.pipeline.passes import options_for
from ferrule.pipeline.run import lowered
from ferrule.schedule.contraction.blocking import default_blocking, register_blocks
from tests.cpus import server
from tests.systems import linear


@pytest.mark.parametrize("target", ["avx512", "avx2", "generic"])
@pytest.mark.parametrize("sizes", [*product((1, 5, 32, 1000), repeat=2)], ids=str)
def test_a_register_block_fits_the_registers(target, sizes):
    machine = server(target)
    m, n = (const(s) for s in sizes)
    block = default_blocking((m,), n, const(64), 4, machine)
    assert block.rows * block.vectors + 2 <= machine.registers
    assert (block.vectors - 1) * machine.lanes(4) < sizes[1]


def test_unknown_columns_take_vectors_that_divide_most_sizes():
    machine = server("avx2")
    odd = default_blocking((const(128),), const(24), const(64), 4, machine)
    assert odd.vectors == 3
    assert default_blocking((const(128),), dim("n"), const(64), 4, machine).vectors in (1, 2, 4)
    assert any(vectors == 3 for _, vectors in register_blocks(machine))


@pytest.mark.parametrize("k", [96, 1009, 1024, 1500])
def test_hints_reach_every_line_of_the_next_part(k):
    kernel = lowered(linear(64, 100, k), "scheduled", options_for(server("avx2"))).kernels[-1]
    hints = [(i, path) for i, path in walk_items(kernel.body) if isinstance(i, Prefetch)]
    assert hints
    lines: set[int] = set()
    for hint, path in hints:
        loops = {s.axis.name: s.axis for s in path if isinstance(s, SerialLoop)}
        conditions = [s.cond for s in path if isinstance(s, Branch)]
        terms = path[-1].axis
        first = dict.fromkeys((*kernel.grid, *loops.values()), const(0))
        depth = simplify(substitute(terms.extent, first)).attr
        bytes_ = depth * hint.buf.shape[-1].attr * 4
        for here in _points(first, [loops["mo"]]):
            if all(simplify(substitute(c, here)).attr for c in conditions):
                lines |= _lines(hint, here, terms)
    start = min(lines)
    assert lines >= set(range(start, start + bytes_ // 64 - 1))
    assert start * 64 >= bytes_ - 64


@pytest.mark.parametrize("k", [96, 100, 128])
def test_hints_of_a_single_panel_reach_the_rows_of_the_next_tile(k):
    kernel = lowered(linear(64, 24, k), "scheduled", options_for(server("avx2"))).kernels[-1]
    hints = [(i, path) for i, path in walk_items(kernel.body) if isinstance(i, Prefetch)]
    assert hints
    rows = default_blocking((const(64),), const(24), const(k), 4, server("avx2")).rows
    lines: set[int] = set()
    for hint, path in hints:
        first = dict.fromkeys((*kernel.grid, *_axes(path)), const(0))
        assert hint.buf.shape == (const(64), const(k))
        lines |= _lines(hint, first, path[-1].axis)
    assert lines >= set(range(-(-rows * k * 4 // 64), 2 * rows * k * 4 // 64))
    assert min(lines) * 64 >= (rows * k * 4) // 64 * 64
    assert max(lines) * 64 < 2 * rows * k * 4 + 64


def test_hints_of_an_only_tile_run_ahead_in_its_panel():
    target = server("avx512")
    machine = target.machine
    kernel = lowered(linear(16, 64, 768), "scheduled", options_for(target)).kernels[-1]
    hints = [(i, path) for i, path in walk_items(kernel.body) if isinstance(i, Prefetch)]
    lines: set[int] = set()
    for hint, path in hints:
        first = dict.fromkeys((*kernel.grid, *_axes(path)), const(0))
        lines |= _lines(hint, first, path[-1].axis)
    ahead = machine.products.ahead // machine.line
    assert lines == set(range(ahead, ahead + 768))


@pytest.mark.parametrize(("rows", "block"), [(16, (16, 1)), (49, (17, 1)), (192, (6, 4))])
def test_few_rows_go_by_one_vector(rows, block):
    chosen = default_blocking((const(rows),), const(256), const(512), 4, server("avx512"), 2048)
    assert (min(rows, chosen.rows), chosen.vectors) == block


def test_no_rows_have_a_block():
    assert default_blocking((const(0),), const(256), const(64), 4, server("avx512")).rows >= 1


def test_rows_that_share_a_set_of_cache_are_few():
    machine = server("avx512")
    for apart, most in ((4096, machine.l1 // 4096), (8192, machine.l1 // 4096), (4160, 32)):
        block = default_blocking((const(49),), const(512), const(1024), 4, machine, apart)
        assert block.rows < most
    assert block.rows > machine.l1 // 4096


def _axes(path: tuple[SerialLoop | Branch, ...]) -> list[Expr]:
    """The axes of the loops around an item."""
    return [s.axis for s in path if isinstance(s, SerialLoop)]


def _points(first: dict, axes: list) -> list[dict]:
    """The points of loops one inside the other, elsewhere at the first point."""
    if not axes:
        return [first]
    extent = simplify(substitute(axes[0].extent, first)).attr
    return [p for i in range(extent) for p in _points(first | {axes[0]: const(i)}, axes[1:])]


def _lines(hint: Prefetch, first: dict, terms: Expr) -> set[int]:
    """The cache lines that a hint names over the loop of `terms`."""
    return {
        _address(hint.buf, [simplify(substitute(i, here)).attr for i in hint.idx]) // 64
        for here in _points(first, [terms])
    }


def _address(buf: Buf, idx: list[int]) -> int:
    at = 0
    for i, size in zip(idx, buf.shape, strict=True):
        at = at * size.attr + i
    return at * f32.size
