"""Blocking: what a contraction's schedule leaves open, as a value, and the model that chooses it.

    for blocks of `block_rows` rows of A, groups of `panels` panels of B:
        for parts of the sum, `depth` terms each:
            for each panel of `vectors` vectors and each tile of `rows` rows: one register block

The register block follows Goto and van de Geijn, "Anatomy of High-Performance Matrix
Multiplication" (2008), as BLIS names it: as many accumulators as registers allow beside one vector
of B a column and one broadcast of A. The other sizes keep a part of a panel of B and a block of A
in L2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ferrule.ir.analysis.size import estimate
from ferrule.ir.expr import Expr, const, product
from ferrule.ir.simplify import simplify
from ferrule.target.cpu import Target
from ferrule.target.machine import CPU


@dataclass(frozen=True)
class Walk:
    """How register blocks go through their factors: so many `terms` of a sum, rows of A that lie
    `apart` bytes from one another (0: nothing is known), at `even` distances and without guards.
    """

    terms: int
    target: Target
    apart: int = 0
    even: bool = True


@dataclass(frozen=True)
class Blocking:
    """The sizes of a contraction's blocks.

    One register block is `rows` of A by `vectors` vectors of columns of B; `depth` terms of the sum
    are taken at once; `block_rows` rows of A, at least one register block, pass by a panel of B;
    `panels` of B pass by a part of A before the next part does; a step of the loop over terms takes
    `unroll` of them. The rows of a `straight` register block run along the innermost of several m
    axes (a convolution's columns) and end where it does, so that they are at equal distances; else
    they run on across all of them. What is left out has the sizes of CPUs.
    """

    rows: int
    vectors: int
    depth: int = CPU.products.depths[-1]
    block_rows: int = CPU.products.block_rows
    panels: int = 1
    unroll: int = CPU.products.unroll
    straight: bool = False


def default_blocking(
    m: tuple[Expr, ...], n: Expr, k: Expr, size: int, target: Target, apart: int = 0
) -> Blocking:
    """The blocking of a contraction of elements of `size` bytes: `m` are the extents of its m axes,
    `n` and `k` the numbers of columns and of terms; rows of A lie `apart` bytes from one another.
    """
    costs = target.machine.products
    width, whole, terms = target.lanes(size), simplify(product(list(m))), max(1, estimate(k))
    uneven = 1 + costs.row_work / terms
    walk = Walk(terms, target, apart, even=len(m) == 1)
    rows, vectors, work = register_block(whole, n, width, walk)
    straight = False
    if len(m) > 1:
        several = max(1, estimate(product(list(m[:-1]))))
        last = const(max(1, estimate(m[-1])))
        short = register_block(last, n, width, walk)
        if several * short[2] <= work * uneven:
            rows, vectors, straight = short[0], short[1], True
    block = max(1, costs.block_rows // rows) * rows
    held = terms * min(block, estimate(whole)) * size
    panels = costs.block_panels if held > target.l2 * 3 // 4 else 1
    depth, most = default_depth(target), costs.block_rows
    return Blocking(rows, vectors, depth, most, panels, costs.unroll, straight)


def tiles_to_share(
    tiles: int, others: int, work: int, terms: int, block: Blocking, target: Target
) -> int:
    """The most of `tiles` register blocks that a block may have, so that a product of `work`
    multiplications that is worth it has blocks for threads to share, `others` of which stand side
    by side: one where each reads its panel of B, of so many `terms`, from L2 anyway, else a few
    that have it in L1.
    """
    costs = target.machine.products
    if work < costs.shared_work:
        return tiles
    panel = min(block.depth, terms) * block.vectors * target.vector_bytes
    least = costs.near_tiles if panel <= target.l1 // 2 else 1
    return max(least, tiles // max(1, -(-costs.shares // max(1, others))))


def depthwise_blocking(n: Expr, size: int, dense: bool, target: Target) -> Blocking:
    """The blocking of a depthwise convolution of `n` channels of elements of `size` bytes. The rows
    of a tile share inputs where their windows are `dense`, one step apart: then many rows of one
    vector load least. Half of the registers are accumulators, the others hold weights and inputs.
    """
    width = target.lanes(size)
    vectors = 1 if dense or (n.is_const and n.attr <= width) else 2
    rows = max(1, target.registers // 2 // vectors)
    costs = target.machine.products
    depth, unroll = costs.depths[-1], costs.unroll
    return Blocking(rows, vectors, depth, costs.block_rows, unroll=unroll, straight=True)


def register_block(m: Expr, n: Expr, width: int, walk: Walk) -> tuple[int, int, float]:
    """Rows, vectors of `width` lanes and the time for each term of an m x n result, in products of
    vectors: the block that fits the registers with the least time.
    """
    rows, columns, costs = estimate(m), estimate(n), walk.target.machine.products
    choices = register_blocks(walk.target)
    if not n.is_const:  # sizes that are not known are mostly even in vectors
        choices = tuple(c for c in choices if c[1] & (c[1] - 1) == 0)
    blocks = max(1, -(-rows // costs.stream_rows))
    if m.is_const and blocks <= costs.few_blocks and _in_products(1, walk):
        choices += ((max(1, -(-rows // blocks)), 1),)

    def work(c: tuple[int, int]) -> float:
        down = rows_time(rows, *c, walk)
        if not m.is_const:  # an estimate has no edge to fit
            down = rows / c[0] * block_time(*c, walk)
        return down * (-(-columns // (c[1] * width)) if n.is_const else columns / (c[1] * width))

    best = min(choices, key=work)
    across = max(1, min(best[1], -(-n.attr // width))) if n.is_const else best[1]
    return best[0], across, work(best)


def rows_time(rows: int, r: int, v: int, walk: Walk) -> float:
    """The time for each term of `rows` rows: blocks of `r`, and what is left."""
    whole, left = divmod(rows, r)
    edge = block_time(left, v, walk) if left else 0.0
    return whole * block_time(r, v, walk) + edge


def block_time(r: int, v: int, walk: Walk) -> float:
    """The time for each term of an r x v register block, in products of vectors: no fewer than hide
    the latency of a sum, and a share of the loads beside them. A panel of B that does not stay in
    L1 comes from L2, and few rows wait for it. So do rows of A that drive each other out of L1.
    """
    target, costs = walk.target, walk.target.machine.products
    near = min(walk.terms, default_depth(target)) * v * target.vector_bytes <= target.l1 // 2
    least = costs.latency if near else max(costs.latency, costs.arrival * v)
    row = costs.near_load if target.has_fma else costs.spread_load
    if r > _uncrowded(walk.apart, target):
        row = costs.crowded_load
    elif _in_products(v, walk):
        row = costs.part_load if r <= costs.stream_rows else costs.many_part_load
    column = costs.near_load if near else costs.far_load
    return max(r * v, least) + row * r + column * v + costs.own_work


def _in_products(v: int, walk: Walk) -> bool:
    """Whether elements of A are loaded by the products themselves (codegen/llvm/accumulate.py) and
    that pays: for one vector there is one product for each.
    """
    return v == 1 and walk.even and walk.target.has_embedded_broadcast


def _uncrowded(apart: int, target: Target) -> int:
    """Of how many rows, `apart` bytes from one another, L1 holds a line each."""
    if not apart:
        return target.registers
    costs = target.machine.products
    sets = costs.way // math.gcd(apart, costs.way)
    return sets * (target.l1 // costs.way - costs.other_ways)


def default_depth(target: Target) -> int:
    """How many terms of a sum a panel of B holds at once."""
    costs = target.machine.products
    most = target.l2 // (costs.depth_vectors * target.vector_bytes)
    return max((d for d in costs.depths if d <= most), default=costs.depths[0])


def register_blocks(target: Target) -> tuple[tuple[int, int], ...]:
    """The register blocks (rows, vectors) worth trying; `block_time` tells them apart."""
    if target.registers >= 32:
        return ((14, 2), (8, 3), (6, 4), (24, 1), (4, 6), (2, 8), (1, 8))
    if target.registers < 16:
        return ((4, 1), (2, 2), (1, 4))
    if target.has_fma:
        return ((4, 3), (6, 2), (12, 1), (3, 4), (2, 5), (4, 2), (1, 8))
    return ((2, 4), (4, 2), (1, 8))
