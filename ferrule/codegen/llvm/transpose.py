"""A square of registers read across: its rows as columns, by shuffles.

Interleaving row i with row i + n/2 turns n rows into their columns after log2(n) rounds (the
perfect shuffle; H. S. Stone, "Parallel Processing with the Perfect Shuffle", 1971). It is done
among the elements of small blocks first, where a shuffle is one instruction, and then among the
blocks.
"""

from __future__ import annotations

from ferrule.codegen.llvm.builder import Builder, Val


def columns(b: Builder, rows: list[Val], size: int) -> list[Val]:
    """The columns of a square whose `rows` are vectors of elements of `size` bytes, as many as
    there are rows, a power of two.
    """
    width = len(rows)
    block = min(width, b.target.machine.code.shuffled // size)
    groups = [_rounds(b, rows[i : i + block], 1, block) for i in range(0, width, block)]
    across = [_rounds(b, [g[j] for g in groups], block, width) for j in range(block)]
    return [across[k % block][k // block] for k in range(width)]


def _rounds(b: Builder, rows: list[Val], unit: int, span: int) -> list[Val]:
    """Transpose, in each span of `span` lanes, the square of pieces of `unit` lanes."""
    half = len(rows) // 2
    for _ in range(half.bit_length()):
        rows = [x for i in range(half) for x in _interleave(b, rows[i], rows[i + half], unit, span)]
    return rows


def _interleave(b: Builder, x: Val, y: Val, unit: int, span: int) -> tuple[Val, Val]:
    """In each span, the pieces of x's and y's lower half alternating, and those of the upper."""
    low: list[int] = []
    high: list[int] = []
    for start in range(0, x.width, span):
        for out, first in ((low, start), (high, start + span // 2)):
            for piece in range(first, first + span // 2, unit):
                for base in (0, x.width):
                    out += range(base + piece, base + piece + unit)
    return b.shuffle(x, low, y), b.shuffle(x, high, y)
