"""Loop functions built by hand, compiled, run, and compared with NumPy."""

from __future__ import annotations

import mmap
from itertools import pairwise

import numpy as np
import pytest

from ferrule.base.dtype import boolean, f32, i32, i64
from ferrule.base.errors import FAULTS, VerifyError, status_of
from ferrule.codegen.llvm.compile import assembly
from ferrule.codegen.llvm.emit import emit_module, scratch_layout
from ferrule.ir.expr import (
    ONE,
    ZERO,
    Buf,
    Space,
    add,
    arg,
    axis,
    both,
    bounded,
    call,
    cast,
    ceildiv,
    checked,
    const,
    dim,
    eq,
    le,
    lt,
    select,
)
from ferrule.ir.kernel import Kind
from ferrule.ir.loop import Alloc, For, Function, If, Prefetch, Store
from ferrule.ir.system import Access, Monoid
from ferrule.lower.math.expand import lower_math
from ferrule.target.cpu import named
from ferrule.target.machine import CPU

SERIAL, UNROLL, LANES = Kind.SERIAL, Kind.UNROLL, Kind.LANES
rng = np.random.default_rng(0)


def sum_of(dtype=f32):
    return Monoid("sum", (const(0, dtype),), (add(arg(0, dtype), arg(1, dtype)),))


def max_of(dtype=f32):
    return Monoid("max", (const(dtype.min, dtype),), (call("max", arg(0, dtype), arg(1, dtype)),))


def argmax():
    """The greatest value, and of equal ones the least index."""
    v, i, w, j = arg(0, f32), arg(1, i64), arg(2, f32), arg(3, i64)
    later = call("or", lt(v, w), both(eq(v, w), lt(j, i)))
    return Monoid(
        "argmax",
        (const(float("-inf"), f32), const(1 << 40)),
        (select(later, w, v), select(later, j, i)),
    )


def loop(a, kind, *body, lo=ZERO, hi=None):
    return For(a, lo, a.extent if hi is None else hi, kind, body)


def f32s(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def test_pointwise_with_a_tail_under_a_mask(run_on):
    n = dim("n")
    x, y = Buf("x", (n,), f32), Buf("y", (n,), f32)
    io, l = axis("io", ceildiv(n, 8)), axis("l", 8)
    i = io * 8 + l
    body = If(lt(i, n), (Store((Access(y, (i,)),), (x[i] * 2.0 + 1.0,)),))
    f = Function("pointwise", (y, x), 1, (n,), (io,), (loop(l, LANES, body),))
    for size in (0, 1, 7, 8, 9, 31):
        xs, ys = f32s(size), np.full(size + 8, 7, np.float32)
        run_on(f, ys, xs, dims=(size,))
        np.testing.assert_array_equal(ys[:size], xs * 2 + 1)
        assert (ys[size:] == 7).all()


def guarded_page(values: np.ndarray) -> tuple[mmap.mmap, np.ndarray]:
    """A copy of `values` that ends where the mapped memory ends, between two unmapped pages."""
    import ctypes

    page = mmap.PAGESIZE
    size = -(-values.nbytes // page) * page
    memory = mmap.mmap(-1, size + 2 * page)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None).mprotect
    protect(ctypes.c_void_p(base), page, 0)
    protect(ctypes.c_void_p(base + page + size), page, 0)
    start = page + size - values.nbytes
    out = np.frombuffer(memory, values.dtype, values.size, start).reshape(values.shape)
    out[...] = values
    return memory, out


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.float64, np.int16])
def test_masked_lanes_touch_no_memory_beyond_the_end(run_on, dtype):
    from ferrule.base.dtype import from_numpy

    d, n = from_numpy(dtype), dim("n")
    x, y = Buf("x", (n,), d), Buf("y", (n,), d)
    io, l = axis("io", ceildiv(n, 8)), axis("l", 8)
    i = io * 8 + l
    body = If(lt(i, n), (Store((Access(y, (i,)),), (x[i] + x[n - 1 - i],)),))
    f = Function("ends", (y, x), 1, (n,), (io,), (loop(l, LANES, body),))
    xs = rng.integers(-50, 50, 13).astype(dtype)
    keep, safe = guarded_page(xs)
    out_keep, out = guarded_page(np.zeros(13, dtype))
    run_on(f, out, safe, dims=(13,))
    np.testing.assert_array_equal(out, xs + xs[::-1])
    assert keep is not out_keep


def test_lazy_select_reads_nothing_where_its_condition_is_false(run_on):
    x, y = Buf("x", (const(12),), f32), Buf("y", (const(20),), f32)
    i, l = axis("i", 5), axis("l", 4)
    at = i * 4 + l
    inside = both(le(const(4), at), lt(at, const(16)))
    vector = Store((Access(y, (at,)),), (select(inside, x[at - 4] * 3.0, const(-1.0, f32)),))
    f = Function("pad", (y, x), 1, (), (i,), (loop(l, LANES, vector),))
    j = axis("j", 20)
    inside = both(le(const(4), j), lt(j, const(16)))
    scalar = Store((Access(y, (j,)),), (select(inside, x[j - 4] * 3.0, const(-1.0, f32)),))
    g = Function("pad_scalar", (y, x), 1, (), (j,), (scalar,))
    values = f32s(12)
    keep, xs = guarded_page(values)
    want = np.full(20, -1, np.float32)
    want[4:16] = values * 3
    for function in (f, g):
        ys = np.zeros(20, np.float32)
        run_on(function, ys, xs)
        np.testing.assert_array_equal(ys, want)
    assert len(keep)


@pytest.mark.parametrize("c", [const(32), dim("c", 1)])
def test_padding_inside_an_inner_loop_selects_the_pointer_outside_it(run_on, c):
    taps, size, depth = 3, 7, 32
    x, w = Buf("x", (const(size), c), f32), Buf("w", (const(taps), c), f32)
    y = Buf("y", (const(size),), f32)
    o, t, k = axis("o", size), axis("t", taps), axis("k", c)
    at = o + t - 1
    inside = both(le(ZERO, at), lt(at, const(size)))
    term = select(inside, x[at, k], const(0.0, f32)) * w[t, k]
    update = Store((Access(y, (o,)),), (term,), sum_of())
    body = (
        Store((Access(y, (o,)),), (const(0.0, f32),)),
        loop(t, UNROLL, loop(k, SERIAL, update)),
    )
    dims = () if c.is_const else (c,)
    f = Function("conv", (y, x, w), 1, dims, (o,), body)
    values, ws, ys = f32s(size, depth), f32s(taps, depth), np.zeros(size, np.float32)
    keep, xs = guarded_page(values)
    run_on(f, ys, xs, ws, dims=(depth,) * len(dims))
    padded = np.pad(values, ((1, 1), (0, 0)))
    want = [(padded[i : i + taps] * ws).sum() for i in range(size)]
    np.testing.assert_allclose(ys, want, rtol=1e-4, atol=1e-5)
    assert len(keep)
    text = emit_module([f], named("avx2"))
    loops = [part.split("br i1")[0] for part in text.split("phi i64")[2:]]
    assert len(loops) == taps
    assert not any("select" in part for part in loops)


def row_sum(rows, cols, width, unroll):
    x, y = Buf("x", (rows, cols), f32), Buf("y", (rows,), f32)
    acc = Buf("acc", (const(unroll), const(width)), f32, Space.REG)
    r = axis("r", rows)
    step = width * unroll
    j = axis("j", cols // step)
    u0, l0, u1, l1, u2, l2 = (
        axis(f"{n}{k}", e) for k in range(3) for n, e in (("u", unroll), ("l", width))
    )
    zero = const(0.0, f32)
    at = j * step + u1 * width + l1
    rest = axis("rest", step)
    tail = (cols // step) * step + rest
    body = (
        Alloc(acc),
        loop(u0, UNROLL, loop(l0, LANES, Store((Access(acc, (u0, l0)),), (zero,)))),
        loop(j, SERIAL, loop(u1, UNROLL, loop(l1, LANES, Store(
            (Access(acc, (u1, l1)),), (x[r, at],), sum_of())))),
        Store((Access(y, (r,)),), (zero,)),
        loop(u2, UNROLL, loop(l2, LANES, Store((Access(y, (r,)),), (acc[u2, l2],), sum_of()))),
        loop(rest, SERIAL, Store((Access(y, (r,)),), (x[r, tail],), sum_of()),
             hi=cols - (cols // step) * step),
    )  # fmt: skip
    return Function("row_sum", (y, x), 1, (rows, cols), (r,), body)


@pytest.mark.parametrize(("width", "unroll"), [(8, 2), (4, 1), (6, 2), (16, 1)])
def test_row_sum_with_vector_accumulators(run_on, width, unroll):
    f = row_sum(dim("r"), dim("c"), width, unroll)
    for cols in (1, 16, 67):
        xs, ys = f32s(5, cols), np.zeros(5, np.float32)
        run_on(f, ys, xs, dims=(5, cols))
        np.testing.assert_allclose(ys, xs.sum(1), rtol=1e-4, atol=1e-5)


def test_argmax_under_lanes_with_a_mask(run_on):
    n = dim("n")
    x = Buf("x", (n,), f32)
    v, at = Buf("v", (ONE,), f32), Buf("at", (ONE,), i64)
    j, l = axis("j", ceildiv(n, 4)), axis("l", 4)
    i = j * 4 + l
    m = argmax()
    targets = ((v, (ZERO,)), (at, (ZERO,)))
    body = (
        Store(targets, m.identity),
        loop(j, SERIAL, loop(l, LANES, If(lt(i, n), (Store(targets, (x[i], i), m),)))),
    )
    f = Function("argmax", (v, at, x), 2, (n,), (), body)
    xs = np.array([1, 5, -3, 5, 2, 5, 0], np.float32)
    vs, ats = np.zeros(1, np.float32), np.zeros(1, np.int64)
    run_on(f, vs, ats, xs, dims=(7,), span=(0, 1))
    assert (vs[0], ats[0]) == (5, 1)


def gemm(m, n, k, mr, nv, w):
    """C = A*B with A row-major and B packed in panels of nv*w columns; M and N divide evenly."""
    nr = nv * w
    a = Buf("A", (const(m), k), f32)
    b = Buf("B", (const(n // nr), k, const(nr)), f32)
    c = Buf("C", (const(m), const(n)), f32)
    acc = Buf("acc", (const(mr), const(nv), const(w)), f32, Space.REG)
    io, jo, kk = axis("io", m // mr), axis("jo", n // nr), axis("k", k)

    def block(tag, statement):
        i, j, l = axis(f"i{tag}", mr), axis(f"j{tag}", nv), axis(f"l{tag}", w)
        return loop(i, UNROLL, loop(j, UNROLL, loop(l, LANES, statement(i, j, l))))

    body = (
        Alloc(acc),
        block(0, lambda i, j, l: Store((Access(acc, (i, j, l)),), (const(0.0, f32),))),
        loop(kk, SERIAL, block(1, lambda i, j, l: Store(
            (Access(acc, (i, j, l)),), (a[io * mr + i, kk] * b[jo, kk, j * w + l],), sum_of()))),
        block(2, lambda i, j, l: Store(
            (Access(c, (io * mr + i, jo * nr + j * w + l)),), (acc[i, j, l],))),
    )  # fmt: skip
    return Function("gemm", (c, a, b), 1, (k,) if k.op == "dim" else (), (io, jo), body)


def test_gemm_block(run_on):
    for k in (const(19), dim("k", 1)):
        f = gemm(12, 48, k, 6, 2, 8)
        a, b, c = f32s(12, 19), f32s(19, 48), np.zeros((12, 48), np.float32)
        panels = np.ascontiguousarray(b.reshape(19, 3, 16).transpose(1, 0, 2))
        run_on(f, c, a, panels, dims=(19,) if k.op == "dim" else ())
        np.testing.assert_allclose(c, a @ b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "block", "register"), [("avx2", (6, 2, 8), "ymm"), ("avx512", (14, 2, 16), "zmm")]
)
def test_gemm_block_keeps_its_accumulators_in_registers(name, block, register):
    mr, nv, w = block
    target = named(name)
    text = assembly(emit_module([gemm(mr * 2, nv * w * 2, const(256), *block)], target), target)
    inner = next(p for p in text.split(".LBB") if "vfmadd" in p).split("\tj")[0]
    assert inner.count("vfmadd231ps") == mr * nv
    of_each = inner.count("{1to16}")  # see codegen/llvm/accumulate.py
    assert (inner.count("vbroadcastss"), of_each) == ((0, mr * nv) if w == 16 else (mr, 0))
    assert inner.count("vmovups") == nv
    assert register in inner
    assert "rsp" not in inner


def test_column_sums_over_a_two_dimensional_grid_in_parts(run_on):
    x, y = Buf("x", (const(3), const(9), const(8)), f32), Buf("y", (const(3), const(8)), f32)
    a, b, r = axis("a", 3), axis("b", 2), axis("r", 9)
    l, l2 = axis("l", 4), axis("l2", 4)
    at = b * 4 + l
    body = (
        loop(l, LANES, Store((Access(y, (a, at)),), (const(0.0, f32),))),
        loop(r, SERIAL, loop(l2, LANES, Store(
            (Access(y, (a, b * 4 + l2)),), (x[a, r, b * 4 + l2],), sum_of()))),
    )  # fmt: skip
    f = Function("columns", (y, x), 1, (), (a, b), body)
    xs = f32s(3, 9, 8)
    for cuts in ((0, 6), (0, 1, 4, 6), (0, 3, 6), (0, 1, 2, 3, 4, 5, 6)):
        ys = np.zeros((3, 8), np.float32)
        for span in pairwise(cuts):
            run_on(f, ys, xs, span=span)
        np.testing.assert_allclose(ys, xs.sum(1), rtol=1e-5, atol=1e-5)


def test_partial_ranges_of_a_grid_of_three_symbolic_axes(run_on):
    p, q, r = dim("p"), dim("q"), dim("r")
    y = Buf("y", (p, q, r), i64)
    i, j, k = axis("i", p), axis("j", q), axis("k", r)
    store = Store((Access(y, (i, j, k)),), (i * 100 + j * 10 + k,))
    f = Function("grid", (y,), 1, (p, q, r), (i, j, k), (store,))
    want = sum(g * s for g, s in zip(np.indices((2, 3, 4)), (100, 10, 1), strict=True))
    for lo in range(0, 25, 5):
        for hi in (lo, lo + 1, 13, 24):
            ys = np.full((2, 3, 4), -1, np.int64)
            run_on(f, ys, dims=(2, 3, 4), span=(lo, hi))
            mask = (np.arange(24) >= lo) & (np.arange(24) < hi)
            np.testing.assert_array_equal(ys.ravel(), np.where(mask, want.ravel(), -1))
    empty = np.zeros((0, 3, 4), np.int64)
    assert run_on(f, empty, dims=(0, 3, 4)) == 0


def test_gather_reports_an_index_out_of_bounds_and_clamps_it(run_on):
    n = dim("n", 1)
    table, ids = Buf("table", (n, const(8)), f32), Buf("ids", (const(5),), i32)
    y = Buf("y", (const(5), const(8)), f32)
    i, l = axis("i", 5), axis("l", 8)
    row = bounded(cast(ids[i], i64), n)
    body = loop(l, LANES, Store((Access(y, (i, l)),), (table[row, l],)))
    f = Function("rows", (y, table, ids), 1, (n,), (i,), (body,))
    values, out = f32s(6, 8), np.zeros((5, 8), np.float32)
    good = np.array([5, 0, 3, 3, 1], np.int32)
    assert run_on(f, out, values, good, dims=(6,)) == 0
    np.testing.assert_array_equal(out, values[good])
    bad = np.array([5, -2, 3, 6, 1], np.int32)
    assert run_on(f, out, values, bad, dims=(6,)) == 1
    np.testing.assert_array_equal(out, values[[5, 0, 3, 5, 1]])


@pytest.mark.parametrize("n", [8, 11, 16])
def test_what_is_checked_reports_its_own_fault(run_on, n):
    d = dim("n")
    x, y = Buf("x", (d,), i32), Buf("y", (d,), i32)
    io, l = axis("io", ceildiv(d, 8)), axis("l", 8)
    i = io * 8 + l
    for fault in FAULTS:
        safe = checked(x[i], call("ne", x[i], const(0, i32)), fault)
        lazy = select(lt(const(5, i32), x[i]), safe, const(3, i32))
        body = If(lt(i, d), (Store((Access(y, (i,)),), (call("truncdiv", const(60, i32), safe),)),))
        never = If(lt(i, d), (Store((Access(y, (i,)),), (lazy,)),))
        values, out = np.arange(1, n + 1, dtype=np.int32), np.zeros(n, np.int32)
        f = Function("check", (y, x), 1, (d,), (io,), (loop(l, LANES, body),))
        g = Function("branch", (y, x), 1, (d,), (io,), (loop(l, LANES, never),))
        assert run_on(f, out, values, dims=(n,)) == 0
        np.testing.assert_array_equal(out, 60 // values)
        values[-1] = 0
        assert run_on(f, out, values, dims=(n,)) == status_of(fault)
        np.testing.assert_array_equal(out[:-1], 60 // values[:-1])
        assert run_on(g, out, values, dims=(n,)) == 0


def test_gather_a_lane_at_a_time_under_a_mask(run_on):
    n = dim("n")
    table, ids, y = Buf("table", (const(40),), f32), Buf("ids", (n,), i64), Buf("y", (n,), f32)
    io, l = axis("io", ceildiv(n, 8)), axis("l", 8)
    i = io * 8 + l
    read = table[bounded(ids[i], 40)]
    body = If(lt(i, n), (Store((Access(y, (i,)),), (read,)),))
    f = Function("gather", (y, table, ids), 1, (n,), (io,), (loop(l, LANES, body),))
    values = f32s(40)
    keep, at = guarded_page(rng.integers(0, 40, 11))
    out = np.zeros(11, np.float32)
    assert run_on(f, out, values, at, dims=(11,)) == 0
    np.testing.assert_array_equal(out, values[at])
    assert len(keep)


def test_strided_and_reversed_lanes(run_on):
    x, y = Buf("x", (const(8), const(5)), f32), Buf("y", (const(3), const(8)), f32)
    l = axis("l", 8)
    c = axis("c", 5)
    z = Buf("z", (const(8), const(5)), f32)
    body = (
        loop(l, LANES, Store((Access(y, (ZERO, l)),), (x[l, c],)),
             Store((Access(y, (ONE, l)),), (x[7 - l, c],)),
             Store((Access(y, (const(2), 7 - l)),), (x[l, ZERO],)),
             Store((Access(z, (l, c)),), (x[l, c] * 2.0,))),
    )  # fmt: skip
    f = Function("strides", (y, z, x), 2, (), (c,), body)
    xs, ys, zs = f32s(8, 5), np.zeros((3, 8), np.float32), np.zeros((8, 5), np.float32)
    run_on(f, ys, zs, xs)
    np.testing.assert_array_equal(zs, xs * 2)
    np.testing.assert_array_equal(ys, [xs[:, 4], xs[::-1, 4], xs[::-1, 0]])


def test_reversed_vectors_under_a_mask(run_on):
    n = dim("n")
    x, y = Buf("x", (n,), f32), Buf("y", (n,), f32)
    l = axis("l", 8)
    body = If(lt(l, n), (Store((Access(y, (n - 1 - l,)),), (x[l] + x[n - 1 - l],)),))
    f = Function("mirror", (y, x), 1, (n,), (), (loop(l, LANES, body),))
    keep, xs = guarded_page(f32s(5))
    out_keep, ys = guarded_page(np.zeros(5, np.float32))
    run_on(f, ys, xs, dims=(5,), span=(0, 1))
    np.testing.assert_array_equal(ys, xs + xs[::-1])
    assert keep is not out_keep


def test_scatter_by_a_monoid_with_equal_targets_in_one_vector(run_on):
    bins, ids = Buf("bins", (const(4),), f32), Buf("ids", (const(16),), i64)
    l = axis("l", 16)
    body = loop(l, LANES, Store((Access(bins, (bounded(ids[l], 4),)),), (cast(l, f32),), sum_of()))
    f = Function("histogram", (bins, ids), 1, (), (), (body,))
    at = rng.integers(0, 4, 16)
    out = np.ones(4, np.float32)
    run_on(f, out, at, span=(0, 1))
    np.testing.assert_array_equal(out, 1 + np.bincount(at, np.arange(16), 4))


def test_softmax_row_through_scratch(run_on, target):
    n = dim("n", 1)
    x, y = Buf("x", (const(4), n), f32), Buf("y", (const(4), n), f32)
    e = Buf("e", (n,), f32, Space.SCRATCH)
    m, s = Buf("m", (ONE,), f32, Space.REG), Buf("s", (ONE,), f32, Space.REG)
    r, j, j1, j2 = axis("r", 4), axis("j", n), axis("j1", n), axis("j2", n)
    body = (
        Alloc(m), Alloc(s), Alloc(e),
        Store((Access(m, (ZERO,)),), (const(float("-inf"), f32),)),
        loop(j, SERIAL, Store((Access(m, (ZERO,)),), (x[r, j],), max_of())),
        Store((Access(s, (ZERO,)),), (const(0.0, f32),)),
        loop(j1, SERIAL,
             Store((Access(e, (j1,)),), (lower_math(call("exp", x[r, j1] - m[ZERO]), False),)),
             Store((Access(s, (ZERO,)),), (e[j1],), sum_of())),
        loop(j2, SERIAL, Store((Access(y, (r, j2)),), (e[j2] * (const(1.0, f32) / s[ZERO]),))),
    )  # fmt: skip
    f = Function("softmax", (y, x), 1, (n,), (r,), body)
    offsets, _ = scratch_layout(f, CPU)
    assert list(offsets) == [e]
    xs, ys = f32s(4, 37), np.zeros((4, 37), np.float32)
    run_on(f, ys, xs, dims=(37,), tid=2)
    want = np.exp(xs - xs.max(1, keepdims=True))
    np.testing.assert_allclose(ys, want / want.sum(1, keepdims=True), rtol=1e-5)
    text = assembly(emit_module([f], target), target)
    assert text.count("div") == 1


def test_what_a_loop_writes_is_read_again(run_on):
    t, y = Buf("t", (const(8),), i64, Space.SCRATCH), Buf("y", (const(4),), i64)
    i, j = axis("i", 4), axis("j", 3)
    body = (
        Alloc(t),
        Store((Access(t, (ZERO,)),), (const(1),)),
        loop(i, SERIAL,
             Store((Access(y, (i,)),), (t[ZERO],)),
             loop(j, SERIAL, Store((Access(t, (ZERO,)),), (t[ZERO] * 2,))),
             Store((Access(y, (i,)),), (y[i] * 1000 + t[ZERO],))),
    )  # fmt: skip
    f = Function("again", (y,), 1, (), (), body)
    ys = np.zeros(4, np.int64)
    run_on(f, ys, span=(0, 1))
    assert ys.tolist() == [1008, 8064, 64512, 512000 + 4096]


def test_branches_on_scalar_conditions(run_on):
    n = dim("n")
    x, y = Buf("x", (n,), f32), Buf("y", (const(10),), f32)
    i = axis("i", 10)
    body = If(
        lt(i, n),
        (Store((Access(y, (i,)),), (x[i],)), If(lt(x[i], const(0.0, f32)), (
            Store((Access(y, (i,)),), (const(0.0, f32),)),))),
        (Store((Access(y, (i,)),), (const(-1.0, f32),)),),
    )  # fmt: skip
    f = Function("branches", (y, x), 1, (n,), (i,), (body,))
    keep, xs = guarded_page(f32s(6))
    ys = np.zeros(10, np.float32)
    run_on(f, ys, xs, dims=(6,))
    np.testing.assert_array_equal(ys, [*np.maximum(xs, 0), *[-1] * 4])
    assert len(keep)


def test_masked_if_with_else_and_a_scalar_part(run_on):
    x, y = Buf("x", (const(3), const(8)), f32), Buf("y", (const(3), const(8)), f32)
    r, l = axis("r", 3), axis("l", 8)
    positive, place = lt(const(0.0, f32), x[r, l]), (Access(y, (r, l)),)
    body = loop(
        l, LANES,
        If(positive, (Store(place, (x[r, l],)),), (Store(place, (-x[r, l],)),)),
        If(both(eq(r, ONE), lt(l, 3)), (Store(place, (const(9.0, f32),)),)),
    )  # fmt: skip
    f = Function("masked", (y, x), 1, (), (r,), (body,))
    xs, ys = f32s(3, 8), np.zeros((3, 8), np.float32)
    run_on(f, ys, xs)
    want = np.abs(xs)
    want[1, :3] = 9
    np.testing.assert_array_equal(ys, want)


def test_register_buffers_under_a_mask(run_on):
    x, y = Buf("x", (const(4), const(8)), f32), Buf("y", (const(8),), f32)
    acc = Buf("acc", (const(8),), f32, Space.REG)
    k, l0, l1, l2 = axis("k", 4), axis("l0", 8), axis("l1", 8), axis("l2", 8)
    body = (
        Alloc(acc),
        loop(l0, LANES, Store((Access(acc, (l0,)),), (const(0.0, f32),))),
        loop(k, SERIAL, loop(l1, LANES, If(le(k, l1), (
            Store((Access(acc, (l1,)),), (x[k, l1],), sum_of()),)))),
        loop(l2, LANES, Store((Access(y, (l2,)),), (acc[l2],))),
    )  # fmt: skip
    f = Function("triangle", (y, x), 1, (), (), body)
    xs, ys = f32s(4, 8), np.zeros(8, np.float32)
    run_on(f, ys, xs, span=(0, 1))
    keep = np.arange(4)[:, None] <= np.arange(8)
    np.testing.assert_allclose(ys, (xs * keep).sum(0), rtol=1e-5, atol=1e-6)


def test_one_axis_under_lanes_of_two_widths(run_on):
    x, y = Buf("x", (const(11),), f32), Buf("y", (const(11),), f32)
    l = axis("l", 11)
    store = Store((Access(y, (l,)),), (x[l] + cast(l, f32),))
    body = (
        loop(l, LANES, store, hi=const(8)),
        loop(l, LANES, store, lo=const(8), hi=const(10)),
        loop(l, SERIAL, store, lo=const(10)),
    )
    f = Function("widths", (y, x), 1, (), (), body)
    xs, ys = f32s(11), np.zeros(11, np.float32)
    run_on(f, ys, xs, span=(0, 1))
    np.testing.assert_array_equal(ys, xs + np.arange(11, dtype=np.float32))


def test_index_arithmetic_with_division_over_lanes(run_on):
    x, y = Buf("x", (const(3), const(4)), f32), Buf("y", (const(24),), f32)
    j, l = axis("j", 3), axis("l", 8)
    i = j * 8 + l
    f = Function(
        "repeat", (y, x), 1, (), (j,),
        (loop(l, LANES, Store((Access(y, (i,)),), (x[i // 8, i % 8 // 2] + cast(i % 3, f32),))),),
    )  # fmt: skip
    xs, ys = f32s(3, 4), np.zeros(24, np.float32)
    run_on(f, ys, xs)
    np.testing.assert_array_equal(ys, np.repeat(xs, 2, 1).ravel() + np.arange(24, dtype="f") % 3)


def test_prefetch_and_a_layout(run_on):
    x = Buf("x", (const(4), const(6)), f32, layout=(1, 0))
    y = Buf("y", (const(6), const(4)), f32)
    i, l = axis("i", 6), axis("l", 4)
    body = loop(l, LANES, Prefetch(x, (l, i + 1)), Store((Access(y, (i, l)),), (x[l, i],)))
    f = Function("layout", (y, x), 1, (), (i,), (body,))
    xs, ys = f32s(6, 4), np.zeros((6, 4), np.float32)
    run_on(f, ys, xs)
    np.testing.assert_array_equal(ys, xs)


def test_comparisons_of_indices_over_lanes(run_on):
    n = dim("n")
    y = Buf("y", (const(4), const(8)), boolean)
    l, m = axis("l", 8), axis("m", 3)
    rows = [lt(l, n - 3), le(n, l * 2), eq(l, n - 3), call("ne", 7 - l, n)]
    body = loop(l, LANES, *(Store((Access(y, (const(k), l)),), (c,)) for k, c in enumerate(rows)))
    f = Function("compare", (y,), 1, (n,), (m,), (body,))
    i = np.arange(8)
    for size in (0, 3, 5, 1 << 40):
        out = np.zeros((4, 8), np.bool_)
        run_on(f, out, dims=(size,))
        want = [i < size - 3, size <= i * 2, i == size - 3, 7 - i != size]
        np.testing.assert_array_equal(out, want)


def test_a_lanes_loop_needs_constant_bounds_and_stands_alone():
    n = dim("n")
    y = Buf("y", (n,), f32)
    a, b = axis("a", n), axis("b", 4)
    store = Store((Access(y, (a,)),), (const(0.0, f32),))
    with pytest.raises(VerifyError, match="not constants"):
        emit_module([Function("f", (y,), 1, (n,), (), (loop(a, LANES, store),))], named("generic"))
    c = axis("c", 4)
    nested = loop(b, LANES, loop(c, LANES, Store((Access(y, (b * 4 + c,)),), (const(0.0, f32),))))
    with pytest.raises(VerifyError, match="inside"):
        emit_module([Function("f", (y,), 1, (n,), (), (nested,))], named("generic"))


def test_an_element_that_all_lanes_read_is_zero_in_those_that_leave_it_out(run_on):
    """`select(1 <= i & lane < 5, x[i - 1], 0)`: the load is guarded by whether any lane wants."""
    x, y = Buf("x", (const(4),), f32), Buf("y", (const(5), const(8)), f32)
    i, lane = axis("i", 5), axis("l", 8)
    value = select(both(le(const(1), i), lt(lane, 5)), x[i - 1], const(0.0, f32))
    body = (For(lane, const(0), const(8), Kind.LANES, (Store((Access(y, (i, lane)),), (value,)),)),)
    given, made = np.arange(1, 5, dtype=np.float32), np.full((5, 8), 9, np.float32)
    run_on(Function("f", (y, x), 1, (), (i,), body), made, given)
    want = np.zeros((5, 8), np.float32)
    want[1:, :5] = given[:, None]
    np.testing.assert_array_equal(made, want)
