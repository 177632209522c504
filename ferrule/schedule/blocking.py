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
from ferrule.ir.expr import Expr, const, product
from ferrule.ir.simplify import simplify
from ferrule.ir.size import estimate

DEPTH = 768  # a panel of B this deep stays close to L1
BLOCK_ROWS = 128
BLOCK_BYTES = 1 << 18  # of A stay in L2
BLOCK_PANELS = 4  # share a part of a block of A that is larger than that
UNROLL = 4  # a loop's own instructions share issue slots, and a core that runs two threads has few
ROW_WORK = 16  # terms of a sum that take as long as finding the place of a row that is not straight


@dataclass(frozen=True)
class Blocking:
    """The sizes of a contraction's blocks.

    One register block is `rows` of A by `vectors` vectors of columns of B; `depth` terms of the sum
    are taken at once; `block_rows` rows of A, at least one register block, pass by a panel of B;
    `panels` of B pass by a part of A before the next part does; a step of the loop over terms takes
    `unroll` of them. The rows of a `straight` register block run along the innermost of several m
    axes (a convolution's columns) and end where it does, so that they are at equal distances; else
    they run on across all of them.
    """

    rows: int
    vectors: int
    depth: int = DEPTH
    block_rows: int = BLOCK_ROWS
    panels: int = 1
    unroll: int = UNROLL
    straight: bool = False


def default_blocking(m: tuple[Expr, ...], n: Expr, k: Expr, size: int, target: Target) -> Blocking:
    """The blocking of a contraction of elements of `size` bytes: `m` are the extents of its m axes,
    `n` and `k` the numbers of columns and of terms.
    """
    width, whole = target.lanes(size), simplify(product(list(m)))
    uneven = 1 + ROW_WORK / max(1, estimate(k))
    rows, vectors, work = register_block(whole, n, width, target)
    straight = False
    if len(m) > 1:
        several = max(1, estimate(product(list(m[:-1]))))
        short = register_block(const(max(1, estimate(m[-1]))), n, width, target, uneven)
        if several * short[2] <= work * uneven:
            rows, vectors, straight = short[0], short[1], True
    block = max(1, BLOCK_ROWS // rows) * rows
    held = estimate(k) * min(block, estimate(whole)) * size
    panels = BLOCK_PANELS if held > BLOCK_BYTES else 1
    return Blocking(rows, vectors, panels=panels, straight=straight)


def depthwise_blocking(n: Expr, size: int, dense: bool, target: Target) -> Blocking:
    """The blocking of a depthwise convolution of `n` channels of elements of `size` bytes. The rows
    of a tile share inputs where their windows are `dense`, one step apart: then many rows of one
    vector load least. Half of the registers are accumulators, the others hold weights and inputs.
    """
    width = target.lanes(size)
    vectors = 1 if dense or (n.is_const and n.attr <= width) else 2
    rows = max(1, target.registers // 2 // vectors)
    return Blocking(rows, vectors, straight=True)


def register_block(
    m: Expr, n: Expr, width: int, target: Target, uneven: float = 1.0
) -> tuple[int, int, float]:
    """Rows, vectors of `width` lanes and the time for each term of an m x n result, in products of
    vectors: the block that fits the registers with the least work at the edges. Rows that do not
    divide m take `uneven` times as long.
    """
    rows, columns = estimate(m), estimate(n)
    choices = register_blocks(target)
    if not n.is_const:  # sizes that are not known are mostly even in vectors
        choices = tuple(c for c in choices if c[1] & (c[1] - 1) == 0)

    def work(c: tuple[int, int]) -> float:
        r, v = c
        down = -(-rows // r) if m.is_const else rows / r  # an estimate has no edge to fit
        across = -(-columns // (v * width)) if n.is_const else columns / (v * width)
        time = down * across * (r * v + 0.15 * (r + v * 1.5) + 1.5)
        return time * uneven if m.is_const and rows % r else time

    best = min(choices, key=work)
    across = min(best[1], -(-n.attr // width)) if n.is_const else best[1]
    return best[0], across, work(best)


def register_blocks(target: Target) -> tuple[tuple[int, int], ...]:
    """The register blocks (rows, vectors) worth trying, the best for large products first."""
    if target.registers >= 32:
        return ((14, 2), (8, 3), (6, 4), (24, 1), (4, 6), (2, 8), (1, 8))
    if target.has_fma:
        return ((4, 3), (6, 2), (12, 1), (3, 4), (2, 5), (4, 2), (1, 8))
    return ((4, 2), (3, 3), (2, 4), (1, 8))
