"""The meaning of systems, kernels, launches, functions, programs and graphs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrule.base.dtype import bf16, f32, i32, i64, to_storage
from ferrule.base.errors import GuardError, InputError, InputTypeError, RunIndexError, VerifyError
from ferrule.ir.expr import (
    FALSE,
    TRUE,
    ZERO,
    Buf,
    Space,
    arg,
    axis,
    both,
    bounded,
    call,
    cast,
    const,
    dim,
    le,
    load,
    lt,
)
from ferrule.ir.graph import OPDEFS, GraphBuilder, OpDef, tensor
from ferrule.ir.interp import (
    infer_dims,
    run_function,
    run_graph,
    run_kernel,
    run_program,
    run_system,
)
from ferrule.ir.interp import system as system_module
from ferrule.ir.kernel import Kernel, Kind, SerialLoop
from ferrule.ir.loop import Alloc, For, Function, If, Store
from ferrule.ir.monoids import ARGMAX, LAST, MAX, SUM
from ferrule.ir.program import Call, Placed, Program, Run, Variants
from ferrule.ir.system import Access, Compute, Monoid, Reduce, Scan, Stage, System

N = dim("n")
RNG = np.random.default_rng(7)


def stage(out, idx, axes, *values, **rest):
    fold, where = rest.pop("fold", None), rest.pop("where", None)
    return Stage(out.name, (Access(out, idx),), Compute(axes, values, fold, where), **rest)


def softmax_stages(x, m, e, s, y, rows, i, j):
    """Softmax of the last axis; `rows` are the leading axes of each stage."""
    k = (i,) if m.shape else ()
    return (
        stage(m, k, rows, load(x, i, j), fold=Reduce((j,), MAX(f32))),
        stage(e, (*k, j), (*rows, j), call("exp", load(x, i, j) - load(m, *k))),
        stage(s, k, rows, load(e, *k, j), fold=Reduce((j,), SUM(f32))),
        stage(y, (i, j), (*rows, j), load(e, *k, j) / load(s, *k)),
    )


def softmax_system():
    x, y = Buf("x", (N, const(5)), f32), Buf("y", (N, const(5)), f32)
    m, e, s = Buf("m", (N,), f32), Buf("e", (N, const(5)), f32), Buf("s", (N,), f32)
    i, j = axis("i", N), axis("j", 5)
    stages = softmax_stages(x, m, e, s, y, (i,), i, j)
    return System("softmax", (x,), (), stages, (y,))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_softmax_system():
    x = RNG.standard_normal((4, 5)).astype(np.float32)
    (y,) = run_system(softmax_system(), [x])
    np.testing.assert_allclose(y, softmax(x), rtol=1e-6)
    assert run_system(softmax_system(), {"x": x[:0]})[0].shape == (0, 5)


def test_blocks_do_not_change_the_result(monkeypatch):
    x = RNG.standard_normal((9, 5)).astype(np.float32)
    (whole,) = run_system(softmax_system(), [x])
    monkeypatch.setattr(system_module, "_BLOCK", 3)
    (pieces,) = run_system(softmax_system(), [x])
    np.testing.assert_allclose(pieces, whole, rtol=1e-6)


def test_convolution_guard_skips_points():
    x, w, y = Buf("x", (const(6),), f32), Buf("w", (const(3),), f32), Buf("y", (const(6),), f32)
    o, k = axis("o", 6), axis("k", 3)
    at = o + k - 1
    body = stage(
        y, (o,), (o,), load(x, at) * load(w, k),
        fold=Reduce((k,), SUM(f32)), where=both(le(ZERO, at), lt(at, 6)),
    )  # fmt: skip
    xs, ws = RNG.standard_normal(6).astype(np.float32), np.array([1, 2, 3], np.float32)
    (ys,) = run_system(System("conv", (x,), (w,), (body,), (y,)), [xs, ws])
    np.testing.assert_allclose(ys, np.convolve(xs, ws[::-1], "same"), rtol=1e-5)


def test_where_in_a_fold_masks_contributions_but_not_the_result():
    x, y, i, k = Buf("x", (const(4),), f32), Buf("y", (const(4),), f32), axis("i", 4), axis("k", 4)
    body = stage(y, (i,), (i,), load(x, k), fold=Reduce((k,), SUM(f32)), where=lt(i, 2))
    (ys,) = run_system(System("s", (x,), (), (body,), (y,)), [np.ones(4, np.float32)])
    np.testing.assert_array_equal(ys, [4, 4, 0, 0])


def test_argmax_gives_the_first_and_nan_wins():
    x, v, p = Buf("x", (N, const(4)), f32), Buf("v", (N,), f32), Buf("p", (N,), i64)
    i, j = axis("i", N), axis("j", 4)
    body = Stage(
        "argmax", ((v, (i,)), (p, (i,))),
        Compute((i,), (load(x, i, j), j), Reduce((j,), ARGMAX(f32))),
    )  # fmt: skip
    xs = np.array([[1, 3, 3, 2], [1, np.nan, 9, np.nan], [-np.inf] * 4], np.float32)
    values, places = run_system(System("s", (x,), (), (body,), (v, p)), [xs])
    np.testing.assert_array_equal(values, [3, np.nan, -np.inf])
    np.testing.assert_array_equal(places, [1, 1, 0])


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_scan(exclusive, reverse):
    x, y = Buf("x", (const(2), N), f32), Buf("y", (const(2), N), f32)
    i, t = axis("i", 2), axis("t", N)
    fold = Scan(t, SUM(f32), (const(10, f32),), exclusive, reverse)
    body = stage(y, (i, t), (i,), load(x, i, t), fold=fold, where=call("ne", t, const(1)))
    xs = np.arange(1, 9, dtype=np.float32).reshape(2, 4)
    (ys,) = run_system(System("s", (x,), (), (body,), (y,)), [xs])
    expected = np.zeros((2, 4))
    for r in range(2):
        total = 10.0
        for k in reversed(range(4)) if reverse else range(4):
            before, total = total, total + (xs[r, k] if k != 1 else 0)
            expected[r, k] = before if exclusive else total
    np.testing.assert_array_equal(ys, expected)


def test_a_reduction_keeps_the_order_of_a_monoid_that_does_not_commute():
    x, y, i = Buf("x", (N,), f32), Buf("y", (), f32), axis("i", N)
    body = stage(y, (), (), load(x, i), fold=Reduce((i,), LAST(f32)))
    for n in range(1, 9):
        (out,) = run_system(System("s", (x,), (), (body,), (y,)), [np.arange(n, dtype=np.float32)])
        assert out == n - 1


def welford():
    """(count, mean, sum of squared differences)."""
    n, mean, m2 = (arg(k, f32) for k in range(3))
    n2, mean2, m22 = (arg(k, f32) for k in range(3, 6))
    total = n + n2
    safe = call("max", total, const(1, f32))
    delta = mean2 - mean
    zero = const(0, f32)
    combine = (total, mean + delta * n2 / safe, m2 + m22 + delta * delta * n * n2 / safe)
    return Monoid("welford", (zero, zero, zero), combine)


def test_a_monoid_over_a_tuple():
    x, i = Buf("x", (N,), f32), axis("i", N)
    outs = tuple(Buf(name, (), f32) for name in ("count", "mean", "m2"))
    body = Stage(
        "w", tuple((b, ()) for b in outs),
        Compute((), (const(1, f32), load(x, i), const(0, f32)), Reduce((i,), welford())),
    )  # fmt: skip
    xs = RNG.standard_normal(100).astype(np.float32)
    n, mean, m2 = run_system(System("s", (x,), (), (body,), outs), [xs])
    np.testing.assert_allclose((n, mean, m2 / n), (100, xs.mean(), xs.var()), rtol=1e-5)


@given(st.lists(st.integers(0, 4), max_size=40))
@settings(max_examples=30)
def test_scatter_folds_or_keeps_the_last(places):
    n = len(places)
    x, at, y = Buf("x", (N,), f32), Buf("at", (N,), i32), Buf("y", (const(5),), f32)
    i, k = axis("i", N), axis("k", 5)
    base = stage(y, (k,), (k,), const(100, f32))
    target = (bounded(cast(load(at, i), i64), 5),)
    xs = RNG.standard_normal(n).astype(np.float32)
    arrays = [xs, np.array(places, np.int32)]
    added = np.full(5, 100, np.float64)
    last = added.copy()
    for p, v in zip(places, xs, strict=True):
        added[p] += v
        last[p] = v
    update = stage(y, target, (i,), load(x, i), combine=SUM(f32), update=True)
    (ys,) = run_system(System("s", (x, at), (), (base, update), (y,)), arrays)
    np.testing.assert_allclose(ys, added, rtol=1e-5)
    update = stage(y, target, (i,), load(x, i), update=True)
    (ys,) = run_system(System("s", (x, at), (), (base, update), (y,)), arrays)
    np.testing.assert_array_equal(ys, last.astype(np.float32))


def test_an_index_out_of_range_is_reported():
    x, at, y = Buf("x", (const(3),), f32), Buf("at", (N,), i64), Buf("y", (N,), f32)
    i = axis("i", N)
    body = stage(y, (i,), (i,), load(x, bounded(load(at, i), 3)))
    system = System("take", (x, at), (), (body,), (y,))
    xs = np.arange(3, dtype=np.float32)
    np.testing.assert_array_equal(run_system(system, [xs, np.array([2, 0])])[0], [2, 0])
    with pytest.raises(RunIndexError, match="index 3"):
        run_system(system, [xs, np.array([0, 3])])


def test_a_stage_reads_before_it_writes():
    x, y, i = Buf("x", (const(4),), f32), Buf("y", (const(4),), f32), axis("i", 4)
    copy = stage(y, (i,), (i,), load(x, i))
    flip = stage(y, (i,), (i,), load(y, 3 - i), update=True)
    (out,) = run_system(System("s", (x,), (), (copy, flip), (y,)), [np.arange(4, dtype=np.float32)])
    np.testing.assert_array_equal(out, [3, 2, 1, 0])


def test_bf16_storage():
    x, y, i = Buf("x", (N,), bf16), Buf("y", (N,), bf16), axis("i", N)
    body = stage(y, (i,), (i,), cast(cast(load(x, i), f32) * 3.0, bf16))
    xs = to_storage(np.array([1, 2.5], np.float32), bf16)
    (out,) = run_system(System("s", (x,), (), (body,), (y,)), [xs])
    np.testing.assert_array_equal(out, to_storage(np.array([3, 7.5], np.float32), bf16))


def test_dims_are_inferred_and_checked():
    m = dim("m", 2, 8, 2)
    a, b = Buf("a", (N, m + N * 2), f32), Buf("b", (m,), f32)
    assert infer_dims((a, b), {"a": np.zeros((3, 10)), "b": np.zeros(4)}) == {"n": 3, "m": 4}
    with pytest.raises(GuardError, match="b has size 6"):
        infer_dims((a, b), {"a": np.zeros((3, 10)), "b": np.zeros(6)})
    with pytest.raises(GuardError, match="multiple of 2"):
        infer_dims((b,), {"b": np.zeros(3)})
    with pytest.raises(GuardError, match=r"outside 2\.\.8"):
        infer_dims((b,), {"b": np.zeros(10)})


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(InputTypeError, match="x holds f32"):
        run_system(softmax_system(), [np.zeros((2, 5))])
    with pytest.raises(InputError, match="2 dimensions"):
        run_system(softmax_system(), [np.zeros(5, np.float32)])
    with pytest.raises(InputError, match="expected 1 arrays"):
        run_system(softmax_system(), [])


# ---- Kernel --------------------------------------------------------------------------------------


def softmax_kernel():
    x, y = Buf("x", (N, const(5)), f32), Buf("y", (N, const(5)), f32)
    m, s = Buf("m", (), f32, Space.SCRATCH), Buf("s", (), f32, Space.SCRATCH)
    e = Buf("e", (const(5),), f32, Space.SCRATCH)
    i, j = axis("i", N), axis("j", 5)
    return Kernel("softmax", (i,), softmax_stages(x, m, e, s, y, (), i, j), (m, e, s))


def test_softmax_kernel():
    x = RNG.standard_normal((6, 5)).astype(np.float32)
    arrays = {"x": x, "y": np.zeros_like(x)}
    run_kernel(softmax_kernel(), arrays, {"n": 6}, np.random.default_rng(1))
    np.testing.assert_allclose(arrays["y"], softmax(x), rtol=1e-6)
    assert set(arrays) == {"x", "y"}


def test_scope_carries_an_accumulator():
    x, y = Buf("x", (N, const(8)), f32), Buf("y", (N,), f32)
    acc = Buf("acc", (), f32, Space.SCRATCH)
    i, o, k = axis("i", N), axis("o", 2), axis("k", 4)
    step = stage(acc, (), (), load(x, i, o * 4 + k), fold=Reduce((k,), SUM(f32), (load(acc),)))
    zero, last = stage(acc, (), (), const(0, f32)), stage(y, (i,), (), load(acc))
    body = (zero, SerialLoop(o, (step,)), last)
    xs = RNG.standard_normal((3, 8)).astype(np.float32)
    arrays = {"x": xs, "y": np.zeros(3, np.float32)}
    run_kernel(Kernel("sum", (i,), body, (acc,)), arrays, {"n": 3})
    np.testing.assert_allclose(arrays["y"], xs.sum(1), rtol=1e-5)


def test_scratch_is_poisoned():
    y, t, i = Buf("y", (N,), f32), Buf("t", (), f32, Space.SCRATCH), axis("i", N)
    body = (stage(y, (i,), (), load(t)), stage(t, (), (), const(1, f32)))
    arrays = {"y": np.zeros(3, np.float32)}
    run_kernel(Kernel("k", (i,), body, (t,)), arrays, {"n": 3})
    assert np.isnan(arrays["y"]).all()


def test_grid_points_must_be_independent():
    x, y, i = Buf("x", (const(4),), f32), Buf("y", (const(4),), f32), axis("i", 4)
    arrays = {"x": np.ones(4, np.float32), "y": np.zeros(4, np.float32)}
    same = Kernel("k", (i,), (stage(y, (ZERO,), (), load(x, i)),))
    with pytest.raises(VerifyError, match="writes an element of y that another"):
        run_kernel(same, arrays)
    shifted = (stage(y, (i,), (), load(x, i)), stage(x, (i,), (), load(y, 3 - i)))
    with pytest.raises(VerifyError, match="reads an element of y that another"):
        run_kernel(Kernel("k", (i,), shifted), arrays)
    pinned = stage(y, (ZERO,), (), load(x, i), when=lt(i, 1))
    run_kernel(Kernel("k", (i,), (pinned,)), arrays)


def test_stores_out_of_bounds_are_reported():
    y, i, o = Buf("y", (N,), f32), axis("i", 4), axis("o", 2)
    body = stage(y, (o * 4 + i,), (i,), const(1, f32))
    with pytest.raises(VerifyError, match="write of y"):
        run_kernel(Kernel("k", (o,), (body,)), {"y": np.zeros(7, np.float32)}, {"n": 7})
    guarded = stage(y, (o * 4 + i,), (i,), const(1, f32), where=lt(o * 4 + i, N))
    arrays = {"y": np.zeros(7, np.float32)}
    run_kernel(Kernel("k", (o,), (guarded,)), arrays, {"n": 7})
    assert arrays["y"].sum() == 7


# ---- Loop ----------------------------------------------------------------------------------------


def row_sum_function(width=4):
    """y[i] = sum x[i, :] for any number of columns, by vector accumulators and a masked tail."""
    x, y = Buf("x", (N, dim("c")), f32), Buf("y", (N,), f32)
    acc = Buf("acc", (const(width),), f32, Space.REG)
    total = Buf("total", (), f32, Space.REG)
    i, o, v, w, z = axis("i", N), axis("o", dim("c")), *(axis(n, width) for n in "vwz")
    at = o * width + v
    body = (
        Alloc(acc),
        Alloc(total),
        For(z, ZERO, const(width), Kind.LANES, (Store((Access(acc, (z,)),), (const(0, f32),)),)),
        For(o, ZERO, (dim("c") + (width - 1)) // width, Kind.SERIAL, (
            For(v, ZERO, const(width), Kind.LANES, (
                If(lt(at, dim("c")), (Store((Access(acc, (v,)),), (load(x, i, at),), SUM(f32)),)),
            )),
        )),
        Store((Access(total, ()),), (const(0, f32),)),
        For(w, ZERO, const(width), Kind.LANES, (
            Store((Access(total, ()),), (load(acc, w),), SUM(f32)),
        )),
        Store((Access(y, (i,)),), (load(total),)),
    )  # fmt: skip
    return Function("rowsum", (y, x), 1, (dim("c"), N), (i,), body)


@pytest.mark.parametrize("columns", [1, 4, 7, 12])
def test_row_sum_function(columns):
    xs = RNG.standard_normal((5, columns)).astype(np.float32)
    ys = np.zeros(5, np.float32)
    run_function(row_sum_function(), [ys, xs], {"n": 5, "c": columns})
    np.testing.assert_allclose(ys, xs.sum(1), rtol=1e-5, atol=1e-6)


def test_masks_reach_both_branches():
    y, v = Buf("y", (const(6),), f32), axis("v", 6)
    inner = If(lt(v, 4), (Store((Access(y, (v,)),), (const(1, f32),)),))
    outer = If(lt(v, 2), (Store((Access(y, (v,)),), (const(2, f32),)),), (inner,))
    body = For(v, ZERO, const(6), Kind.LANES, (outer,))
    ys = np.zeros(6, np.float32)
    run_function(Function("f", (y,), 1, (), (), (body,)), {"y": ys})
    np.testing.assert_array_equal(ys, [2, 2, 1, 1, 0, 0])


def test_unrolled_iterations_run_in_order():
    y, k = Buf("y", (), f32), axis("k", 3)
    body = For(k, ZERO, const(3), Kind.UNROLL, (Store((Access(y, ()),), (cast(k, f32),)),))
    ys = np.zeros((), np.float32)
    run_function(Function("f", (y,), 1, (), (), (body,)), [ys])
    assert ys == 2


# ---- Program -------------------------------------------------------------------------------------


def two_step_program(second_offset, prepared=True):
    """t = 2*x, u = t + w, y = u * t; w is prepared from p. `second_offset` places u."""

    def f(name, out, a, b, value):
        i = axis("i", N)
        bufs = (out, a) if b is None else (out, a, b)
        return Function(name, bufs, 1, (N,), (i,), (Store((Access(out, (i,)),), (value(i),)),))

    x, p, y = (Buf(n, (N,), f32) for n in "xpy")
    a, b, o = (Buf(n, (N,), f32) for n in ("a", "b", "o"))
    t, u, w = Buf("t", (N,), f32), Buf("u", (N,), f32), Buf("w", (const(16),), f32)
    wf = Buf("wf", (const(16),), f32)
    k = axis("k", 16)
    functions = (
        f("double", o, a, None, lambda i: load(a, i) * 2.0),
        f("add", o, a, wf, lambda i: load(a, i) + load(wf, ZERO)),
        f("mul", o, a, b, lambda i: load(a, i) * load(b, i)),
        Function("pack", (wf, a), 1, (N,), (k,), (Store((Access(wf, (k,)),), (load(a, ZERO),)),)),
    )
    run = lambda name, *args: Run(name, ((Call(name, args, const(1)),),))  # noqa: E731
    main = (
        run("double", t, x),
        Variants(((lt(N, 100), (run("add", u, t, w),)), (TRUE, (run("mul", u, t, t),)))),
        run("mul", y, u, t),
    )
    return Program(
        "p", (x,), (p,), (y,), (N,), functions, (Placed(w, ZERO),), const(64),
        (Placed(t, ZERO), Placed(u, second_offset)), second_offset + 128, ZERO,
        (run("pack", w, p),) if prepared else (), main,
    )  # fmt: skip


def test_program_runs_prepare_and_main():
    x, p = RNG.standard_normal(9).astype(np.float32), np.full(9, 3, np.float32)
    (y,) = run_program(two_step_program(const(64)), [x], [p])
    np.testing.assert_allclose(y, (2 * x + 3) * (2 * x), rtol=1e-5)


def test_temps_that_overlap_in_memory_do():
    x, p = np.ones(9, np.float32), np.full(9, 3, np.float32)
    with pytest.raises(VerifyError, match="not aligned"):
        run_program(two_step_program(const(32)), [x], [p])
    (y,) = run_program(two_step_program(ZERO), [x], [p])
    assert not np.allclose(y, (2 * x + 3) * (2 * x))


def test_consts_are_poisoned_until_prepared():
    x, p = np.ones(9, np.float32), np.full(9, 3, np.float32)
    (y,) = run_program(two_step_program(const(64), prepared=False), [x], [p])
    assert np.isnan(y).all()


def test_a_program_without_a_variant_that_holds():
    program = two_step_program(const(64))
    program = replace(program, main=(Variants(((FALSE, ()),)),))
    with pytest.raises(VerifyError, match="no variant"):
        run_program(program, [np.ones(9, np.float32)], [np.ones(9, np.float32)])


# ---- Graph ---------------------------------------------------------------------------------------


@pytest.fixture
def scale_op(monkeypatch):
    definition = OpDef(
        "test_scale",
        lambda types, attrs: types[0],
        lambda arrays, attrs: arrays[0] * attrs["by"],
        lambda ctx, inputs, outputs, attrs: [],
    )
    monkeypatch.setitem(OPDEFS, "test_scale", definition)


@pytest.mark.usefixtures("scale_op")
def test_graph_applies_meanings_with_sizes_as_numbers():
    b = GraphBuilder("g")
    x = b.input(tensor((N,), bf16), "x")
    y = b.emit("test_scale", b.emit("test_scale", x, by=N * 2), by=0.5)
    xs = to_storage(np.array([1, 2, 3], np.float32), bf16)
    (out,) = run_graph(b.build([y]), [xs])
    np.testing.assert_array_equal(out, to_storage(np.array([3, 6, 9], np.float32), bf16))


@pytest.mark.usefixtures("scale_op")
def test_graph_checks_the_shapes_of_results(monkeypatch):
    broken = replace(OPDEFS["test_scale"], meaning=lambda arrays, attrs: arrays[0][:1])
    monkeypatch.setitem(OPDEFS, "test_scale", broken)
    b = GraphBuilder("g")
    graph = b.build([b.emit("test_scale", b.input(tensor((2, 3), f32), "x"), by=1.0)])
    with pytest.raises(VerifyError, match="gave v0 the shape"):
        run_graph(graph, [np.ones((2, 3), np.float32)])
