"""Random Loop functions: what is compiled does what the interpreter does.

Integers, so that results agree exactly. Indices are in range by `%`, by a branch or mask, or by a
lazy select; scratch and registers are filled before they are read.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

from ferrule.base.dtype import i32, i64
from ferrule.ir.expr import (
    ZERO,
    Buf,
    Expr,
    Space,
    add,
    arg,
    axis,
    both,
    bounded,
    call,
    cast,
    const,
    dim,
    le,
    lt,
    select,
)
from ferrule.ir.interp.loop import run_function
from ferrule.ir.kernel import Kind
from ferrule.ir.loop import Alloc, For, Function, If, Stmt, Store
from ferrule.ir.system import Access, Monoid
from ferrule.target.cpu import host, named

SUM = Monoid("sum", (const(0, i32),), (add(arg(0, i32), arg(1, i32)),))
MAX = Monoid("max", (const(i32.min, i32),), (call("max", arg(0, i32), arg(1, i32)),))
N = dim("n", 1)
X = Buf("x", (N, const(8)), i32)
Z = Buf("z", (const(16),), i32)
AT = Buf("at", (const(16),), i64)
GRID = (axis("g", 3), axis("h", 2))
Y = Buf("y", (const(3), const(2), const(24)), i32)
T = Buf("t", (N,), i32, Space.SCRATCH)
R = Buf("r", (const(4), const(8)), i32, Space.REG)


class Maker:
    """Draws the statements of one function."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.count = 0

    def pick(self, *choices):
        return self.random.choice(choices)

    def axis(self, extent) -> Expr:
        self.count += 1
        return axis(f"a{self.count}", extent)

    def index(self, axes: list[Expr], extent: Expr) -> Expr:
        """An index in range for sure."""
        total = const(self.random.randrange(5))
        for a in self.random.sample(axes, self.random.randrange(min(3, len(axes)) + 1)):
            total = total + a * self.pick(1, 1, 1, 2, -1)
        return total % extent

    def near(self, axes: list[Expr]) -> Expr:
        """An index that may be out of range on either side."""
        return self.pick(*axes) * self.pick(1, 1, 2) + self.random.randrange(-3, 4)

    def load(self, axes: list[Expr]) -> Expr:
        kind = self.random.randrange(6)
        if kind == 0:
            return X[self.index(axes, N), self.index(axes, const(8))]
        if kind == 1:
            return Z[bounded(AT[self.index(axes, const(16))], 16)]
        if kind == 2:
            return T[self.index(axes, N)]
        if kind == 3:
            at = self.near(axes)
            other = self.pick(const(0, i32), const(7, i32), self.load(axes))
            return select(both(le(ZERO, at), lt(at, N)), X[at, self.index(axes, const(8))], other)
        if kind == 4:
            at = self.near(axes)
            return select(both(le(ZERO, at), lt(at, const(16))), Z[at], const(0, i32))
        return Y[(*GRID, self.index(axes, const(24)))]

    def value(self, axes: list[Expr], depth: int = 2) -> Expr:
        if depth == 0:
            return self.pick(self.load(axes), cast(self.pick(*axes), i32), const(3, i32))
        kind = self.random.randrange(5)
        a, b = self.value(axes, depth - 1), self.value(axes, depth - 1)
        if kind == 0:
            return select(self.condition(axes), a, b)
        op = self.pick("add", "sub", "mul", "max", "xor", "floordiv", "mod")
        return call(op, a, call("or", b, const(1, i32)) if op in ("floordiv", "mod") else b)

    def condition(self, axes: list[Expr]) -> Expr:
        if self.random.random() < 0.5:
            return lt(self.near(axes), self.pick(N, const(6), const(3)))
        return lt(self.load(axes), const(50, i32))

    def store(self, axes: list[Expr]) -> Stmt:
        monoid = self.pick(None, None, SUM, MAX)
        place = self.random.randrange(3)
        if place == 0:
            target = (T, (self.index(axes, N),))
        else:
            target = (Y, (*GRID, self.index(axes, const(24))))
        return Store((target,), (self.value(axes),), monoid)

    def register_block(self, axes: list[Expr], lanes: bool) -> list[Stmt]:
        """Registers filled, updated in a loop and written back."""
        if lanes:
            return []
        k = self.axis(self.pick(const(5), N))
        parts = []
        for step in range(3):
            u, l = self.axis(4), self.axis(8)
            here = [*axes, u, l]
            if step == 0:
                body: Stmt = Store((Access(R, (u, l)),), (self.value(here, 1),))
            elif step == 1:
                body = Store(
                    (Access(R, (u, l)),), (self.value([*here, k], 1),), self.pick(SUM, MAX, None)
                )
                if self.random.random() < 0.5:
                    body = If(self.condition([*here, k]), (body,))
            else:
                at = (*GRID, self.pick(l + u * 2, const(5), u))
                body = Store(((Y, at),), (R[u, l],), self.pick(SUM, MAX))
            nest: Stmt = For(
                u, ZERO, u.extent, Kind.UNROLL, (For(l, ZERO, l.extent, Kind.LANES, (body,)),)
            )
            if step == 1:
                nest = For(k, ZERO, k.extent, Kind.SERIAL, (nest,))
            parts.append(nest)
        return [Alloc(R), *parts]

    def block(self, axes: list[Expr], lanes: bool, depth: int) -> tuple[Stmt, ...]:
        out: list[Stmt] = []
        for _ in range(self.random.randrange(1, 4)):
            kind = self.random.randrange(6) if depth else 0
            if kind == 1:
                out.append(If(self.condition(axes), self.block(axes, lanes, depth - 1),
                              self.pick((), self.block(axes, lanes, depth - 1))))  # fmt: skip
            elif kind in (2, 3):
                a = self.axis(self.pick(const(3), N, const(1)))
                lo = self.pick(ZERO, ZERO, const(1))
                inner = self.block([*axes, a], lanes, depth - 1)
                out.append(For(a, lo, a.extent, Kind.SERIAL, inner))
            elif kind == 4:
                a = self.axis(3)
                inner = self.block([*axes, a], lanes, depth - 1)
                out.append(For(a, ZERO, const(3), Kind.UNROLL, inner))
            elif kind == 5 and not lanes:
                width = self.pick(4, 8, 3)
                a = self.axis(self.pick(width, 8))
                inner = self.block([*axes, a], True, depth - 1)
                out.append(
                    For(a, ZERO, const(width if width <= a.extent.value else 4), Kind.LANES, inner)
                )
            else:
                out.append(self.store(axes))
        if self.random.random() < 0.3:
            out += self.register_block(axes, lanes)
        return tuple(out)

    def function(self) -> Function:
        first, second = self.axis(N), self.axis(24)
        body = (
            Alloc(T),
            For(first, ZERO, N, Kind.SERIAL, (Store((Access(T, (first,)),), (cast(first, i32),)),)),
            For(second, ZERO, const(24), Kind.SERIAL, (
                Store((Access(Y, (*GRID, second)),), (const(1, i32),)),)),
            *self.block(list(GRID), False, 3),
        )  # fmt: skip
        return Function("random", (Y, X, Z, AT), 1, (N,), GRID, body)


@pytest.mark.parametrize("seed", range(24))
def test_compiled_and_interpreted_agree(seed, runner):
    function = Maker(seed).function()
    compiled = runner(function, named("generic") if seed % 2 else host())
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 12))
    x = rng.integers(-90, 90, (n, 8)).astype(np.int32)
    z = rng.integers(-90, 90, 16).astype(np.int32)
    at = rng.integers(0, 16, 16)
    want, got = np.zeros((2, 3, 2, 24), np.int32)
    run_function(function, [want, x, z, at], {"n": n})
    for span in ((0, 2), (2, 3), (3, 6)):
        assert compiled(got, x, z, at, dims=(n,), span=span) == 0
    np.testing.assert_array_equal(got, want)
