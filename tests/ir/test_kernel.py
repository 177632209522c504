"""Walking over the items of kernels, and kernels with other names."""

from __future__ import annotations

from ferrule.base.dtype import f32
from ferrule.ir.canonical import renamed
from ferrule.ir.expr import Buf, Space, axis, const, dim, fconst, load, lt
from ferrule.ir.kernel import (
    Branch,
    Kernel,
    Prefetch,
    SerialLoop,
    stages,
    substitute_items,
    walk_items,
)
from ferrule.ir.system import Access, Compute, Stage

N = dim("n")
X, Y, T = Buf("x", (N,), f32), Buf("y", (N,), f32), Buf("t", (), f32, Space.SCRATCH)
I, O = axis("i", N), axis("o", 2)
STORE = Stage("y", (Access(Y, (I,)),), Compute((), (load(T),)))
SET = Stage("t", (Access(T, ()),), Compute((), (fconst(1.0),)))
BRANCH = Branch(lt(load(X, I), load(T)), (STORE, Prefetch(X, (I + 1,))))
KERNEL = Kernel("k", (I,), (SET, SerialLoop(O, (BRANCH,))), (T,))


def test_items_of_branches_are_walked_with_what_is_around_them() -> None:
    assert list(stages(KERNEL.body)) == [SET, STORE]
    (path,) = [path for item, path in walk_items(KERNEL.body) if item is STORE]
    assert path == (KERNEL.body[1], BRANCH)


def test_what_a_condition_reads_is_a_buffer_of_the_kernel() -> None:
    assert KERNEL.globals == (Y, X)
    assert KERNEL.written == (Y,)
    alone = Kernel("k", (), (Branch(lt(dim("m"), 3), ()),))
    assert alone.dims == (dim("m"),)


def test_axes_and_buffers_of_conditions_are_renamed() -> None:
    j = axis("j", N)
    (moved,) = substitute_items((BRANCH,), {I: j})
    assert isinstance(moved, Branch)
    assert moved.cond is lt(load(X, j), load(T))
    other, names = renamed(KERNEL, "_2", (X,))
    scope = other.body[1]
    assert isinstance(scope, SerialLoop)
    (moved,) = scope.body
    assert isinstance(moved, Branch)
    assert moved.cond is lt(load(names[X], axis("i_2", N)), load(names[T]))
    assert names[X].name == "x_2"
    assert moved.body[1] == Prefetch(names[X], (axis("i_2", N) + const(1),))
