"""Blocking: what a contraction's schedule leaves open, as a value, and the model that chooses it.

    for blocks of `block_rows` rows of A, groups of `panels` panels of B:
        for parts of the sum, `depth` terms each:
            for each panel of `vectors` vectors and each tile of `rows` rows: one register block

The register block follows Goto and van de Geijn, "Anatomy of High-Performance Matrix
Multiplication" (2008), as BLIS names it: as many accumulators as registers allow beside one vector
of B a column and one broadcast of A. The other sizes keep a panel of B close to L1 and a block of A
in L2.
"""

from __future__ import annotations

from dataclasses import dataclass

from ferrule.base.target import Target
from ferrule.ir.expr import Expr
from ferrule.ir.size import estimate

DEPTH = 768  # a panel of B this deep stays close to L1
BLOCK_ROWS = 128
BLOCK_BYTES = 1 << 18  # of A stay in L2
BLOCK_PANELS = 4  # share a part of a block of A that is larger than that


@dataclass(frozen=True)
class Blocking:
    """The sizes of a contraction's blocks.

    One register block is `rows` of A by `vectors` vectors of columns of B; `depth` terms of the sum
    are taken at once; `block_rows` rows of A, at least one register block, pass by a panel of B;
    `panels` of B pass by a part of A before the next part does.
    """

    rows: int
    vectors: int
    depth: int = DEPTH
    block_rows: int = BLOCK_ROWS
    panels: int = 1


def default_blocking(m: Expr, n: Expr, k: Expr, size: int, target: Target) -> Blocking:
    """The blocking of an m x n x k contraction of elements of `size` bytes."""
    rows, vectors = register_block(m, n, target.lanes(size), target)
    block = max(1, BLOCK_ROWS // rows) * rows
    held = estimate(k) * min(block, estimate(m)) * size
    return Blocking(rows, vectors, panels=BLOCK_PANELS if held > BLOCK_BYTES else 1)


def register_block(m: Expr, n: Expr, width: int, target: Target) -> tuple[int, int]:
    """Rows and vectors of `width` lanes: the block that fits the registers with the least work at
    the edges of an m x n result.
    """
    rows, columns = estimate(m), estimate(n)
    choices = register_blocks(target)
    if not n.is_const:  # sizes that are not known are mostly even in vectors
        choices = tuple(c for c in choices if c[1] & (c[1] - 1) == 0)

    def work(c: tuple[int, int]) -> float:
        r, v = c
        down = -(-rows // r) if m.is_const else rows / r  # an estimate has no edge to fit
        across = -(-columns // (v * width)) if n.is_const else columns / (v * width)
        return down * across * (r * v + 0.15 * (r + v * 2) + 1.5)

    down, across = min(choices, key=work)
    return down, min(across, -(-n.attr // width)) if n.is_const else across


def register_blocks(target: Target) -> tuple[tuple[int, int], ...]:
    """The register blocks (rows, vectors) worth trying, the best for large products first."""
    if target.registers >= 32:
        return ((14, 2), (8, 3), (6, 4), (4, 6), (2, 8), (1, 8))
    if target.has_fma:
        return ((4, 3), (6, 2), (3, 4), (2, 5), (1, 8))
    return ((4, 2), (3, 3), (2, 4), (1, 8))
