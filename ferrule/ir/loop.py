"""Loop: scheduled loops, the level that machine code is emitted from.

    stmt     = for axis in lo..hi kind { stmt.. }
             | alloc buf                                     SCRATCH or REG, to the block's end
             | store (buf[idx..])[n] = value[n] [by monoid]  evaluated, then written or combined
             | if cond { stmt.. } [else { stmt.. }]
             | while flag { stmt.. }                         as long as `flag` is true
             | prefetch buf[idx..] [write]
    function = name (buf.. dim..) grid axis.. { stmt.. }

Meaning:
- The grid is the product of its axes, the last one fastest; a call runs a contiguous range of its
  points. All other axes are bound by exactly one `for` around their use. `hi` is exclusive; UNROLL
  and LANES loops have constant bounds.
- Under a LANES loop every expression that mentions its axis is a vector with one element a lane; an
  `if` on such a condition is a mask. Lanes run in lockstep: a statement ends for all of them before
  the next one begins, and what is allocated there they share. A store by a monoid under LANES to a
  place that does not depend on the lane folds the lanes (the horizontal reduction). UNROLL
  iterations run in order and are emitted one after another.
- The flag of a `while` is a bool buffer of rank 0, which its statements write; it is read before
  each time they run. A `while` stands in no LANES loop.
- A REG buffer is indexed by constants, UNROLL and LANES axes alone and is kept in registers.
- A buffer read here and written nowhere in the function is constant for the call; no two buffers of
  the argument list overlap in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ferrule.ir.expr import Buf, Expr
from ferrule.ir.kernel import Kind, Prefetch
from ferrule.ir.system import Access, Monoid


@dataclass(frozen=True)
class For:
    """`for axis in lo..hi`."""

    axis: Expr
    lo: Expr
    hi: Expr
    kind: Kind
    body: tuple[Stmt, ...]


@dataclass(frozen=True)
class Alloc:
    """Brings a SCRATCH or REG buffer to life until the end of the enclosing block."""

    buf: Buf


@dataclass(frozen=True)
class Store:
    """Writes `values` to `targets`, or combines them with what is there."""

    targets: tuple[Access, ...]
    values: tuple[Expr, ...]
    monoid: Monoid | None = None


@dataclass(frozen=True)
class If:
    """`body` where `cond` holds, else `orelse`."""

    cond: Expr
    body: tuple[Stmt, ...]
    orelse: tuple[Stmt, ...] = ()


@dataclass(frozen=True)
class While:
    """`body`, as long as the element of `flag` is true before it."""

    flag: Buf
    body: tuple[Stmt, ...]


Stmt = For | Alloc | Store | If | While | Prefetch


@dataclass(frozen=True)
class Function:
    """One kernel as loops. `bufs` are its GLOBAL buffers (the `written` first ones are
    stored to), `dims` its symbolic sizes, in the order in which callers pass them.
    """

    name: str
    bufs: tuple[Buf, ...]
    written: int
    dims: tuple[Expr, ...]
    grid: tuple[Expr, ...]
    body: tuple[Stmt, ...]


def walk_stmts(body: tuple[Stmt, ...]) -> Iterator[Stmt]:
    """Each statement in order, outer ones first."""
    for s in body:
        yield s
        if isinstance(s, For | While):
            yield from walk_stmts(s.body)
        elif isinstance(s, If):
            yield from walk_stmts(s.body)
            yield from walk_stmts(s.orelse)


def map_stmts(
    body: tuple[Stmt, ...],
    fn: Callable[[Expr], Expr],
    of_monoid: Callable[[Monoid], Monoid] = lambda m: m,
) -> tuple[Stmt, ...]:
    """`body` with `fn` applied to each value, index, condition and bound, and `of_monoid` to what
    stores combine by.
    """
    out: list[Stmt] = []
    for s in body:
        if isinstance(s, For):
            inner = map_stmts(s.body, fn, of_monoid)
            out.append(For(s.axis, fn(s.lo), fn(s.hi), s.kind, inner))
        elif isinstance(s, If):
            then, other = (map_stmts(b, fn, of_monoid) for b in (s.body, s.orelse))
            out.append(If(fn(s.cond), then, other))
        elif isinstance(s, While):
            out.append(While(s.flag, map_stmts(s.body, fn, of_monoid)))
        elif isinstance(s, Store):
            targets = tuple(Access(b, tuple(fn(i) for i in idx)) for b, idx in s.targets)
            monoid = s.monoid if s.monoid is None else of_monoid(s.monoid)
            out.append(Store(targets, tuple(fn(v) for v in s.values), monoid))
        elif isinstance(s, Prefetch):
            out.append(s.at(tuple(fn(i) for i in s.idx)))
        else:
            out.append(s)
    return tuple(out)
