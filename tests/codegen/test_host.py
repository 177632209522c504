"""The native entry, run on kernels written by hand in LLVM IR."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import llvmlite.binding as llvm
import numpy as np
import pytest

from ferrule.base.artifact import HOST_BYTES
from ferrule.base.dtype import boolean, f32, i64
from ferrule.base.errors import CompileError
from ferrule.base.shapes import evaluate
from ferrule.codegen.host.entry import emit_host, make_compiled, support
from ferrule.codegen.host.scalar import Scalars
from ferrule.codegen.shape_text import shape_text
from ferrule.ir.expr import (
    TRUE,
    Buf,
    Expr,
    as_index,
    axis,
    both,
    call,
    cast,
    ceildiv,
    const,
    dim,
    eq,
    le,
    lt,
    maximum,
    minimum,
    select,
)
from ferrule.ir.loop import Function
from ferrule.ir.program import Call, Placed, Program, Run, Variants
from ferrule.target.machine import CPU

# ctx: status, scratch, bytes a thread, out, in, n. A grid point is an element.
KERNELS = """
define void @twice(ptr %ctx, i64 %lo, i64 %hi, i64 %tid) {
  call void @each(ptr %ctx, i64 %lo, i64 %hi, float 2.0, float 0.0)
  ret void
}
define void @increment(ptr %ctx, i64 %lo, i64 %hi, i64 %tid) {
  call void @each(ptr %ctx, i64 %lo, i64 %hi, float 1.0, float 1.0)
  ret void
}
define void @each(ptr %ctx, i64 %lo, i64 %hi, float %scale, float %shift) {
entry:
  %p3 = getelementptr ptr, ptr %ctx, i64 3
  %p4 = getelementptr ptr, ptr %ctx, i64 4
  %out = load ptr, ptr %p3
  %in = load ptr, ptr %p4
  br label %next
next:
  %i = phi i64 [ %lo, %entry ], [ %i1, %body ]
  %more = icmp slt i64 %i, %hi
  br i1 %more, label %body, label %end
body:
  %pi = getelementptr float, ptr %in, i64 %i
  %po = getelementptr float, ptr %out, i64 %i
  %x = load float, ptr %pi
  %y = fmul float %x, %scale
  %z = fadd float %y, %shift
  store float %z, ptr %po
  %i1 = add i64 %i, 1
  br label %next
end:
  ret void
}
; Writes what it was called with to out[tid]: lo, hi, scratch, bytes, and the dim n.
define void @report(ptr %ctx, i64 %lo, i64 %hi, i64 %tid) {
  %p1 = getelementptr i64, ptr %ctx, i64 1
  %p2 = getelementptr i64, ptr %ctx, i64 2
  %p3 = getelementptr ptr, ptr %ctx, i64 3
  %p4 = getelementptr i64, ptr %ctx, i64 4
  %scratch = load i64, ptr %p1
  %bytes = load i64, ptr %p2
  %out = load ptr, ptr %p3
  %n = load i64, ptr %p4
  %row = mul i64 %tid, 40
  %o0 = getelementptr i8, ptr %out, i64 %row
  %o1 = getelementptr i64, ptr %o0, i64 1
  %o2 = getelementptr i64, ptr %o0, i64 2
  %o3 = getelementptr i64, ptr %o0, i64 3
  %o4 = getelementptr i64, ptr %o0, i64 4
  store i64 %lo, ptr %o0
  store i64 %hi, ptr %o1
  store i64 %scratch, ptr %o2
  store i64 %bytes, ptr %o3
  store i64 %n, ptr %o4
  ret void
}
define void @fail(ptr %ctx, i64 %lo, i64 %hi, i64 %tid) {
  %status = load ptr, ptr %ctx
  store i32 1, ptr %status
  ret void
}
; The pool, with its threads one after another. @regions counts the calls.
@regions = global i64 0
define void @parallel(ptr %fn, ptr %ctx, i64 %n, i64 %threads, ptr %user) {
entry:
  %count = load i64, ptr @regions
  %count1 = add i64 %count, 1
  store i64 %count1, ptr @regions
  br label %next
next:
  %t = phi i64 [ 0, %entry ], [ %t1, %next ]
  %t1 = add i64 %t, 1
  %lo1 = mul i64 %t, %n
  %hi1 = mul i64 %t1, %n
  %lo = sdiv i64 %lo1, %threads
  %hi = sdiv i64 %hi1, %threads
  call void %fn(ptr %ctx, i64 %lo, i64 %hi, i64 %t)
  %over = icmp eq i64 %t1, %threads
  br i1 %over, label %end, label %next
end:
  ret void
}
"""

TRACE = """
@told = global [32 x i64] zeroinitializer
@count = global i64 0
define void @trace(ptr %host, ptr %kernel, ptr %ctx, i64 %n, i64 %threads, i64 %number,
                   i64 %parts) {
  %i = load i64, ptr @count
  %i1 = add i64 %i, 1
  store i64 %i1, ptr @count
  %at = mul i64 %i, 3
  %p0 = getelementptr i64, ptr @told, i64 %at
  %p1 = getelementptr i64, ptr %p0, i64 1
  %p2 = getelementptr i64, ptr %p0, i64 2
  store i64 %number, ptr %p0
  store i64 %parts, ptr %p1
  store i64 %threads, ptr %p2
  call void %kernel(ptr %ctx, i64 0, i64 %n, i64 0)
  ret void
}
"""

N = dim("n")
SPACING = 128 + 512  # 100 bytes of scratch, aligned, and what keeps threads apart
X, Y, Z = (Buf(name, (N,), f32) for name in "xyz")
IN, OUT = Buf("in", (N,), f32), Buf("out", (N,), f32)
GRID = (axis("i", N),)
FUNCTIONS = (
    Function("twice", (OUT, IN), 1, (N,), GRID, ()),
    Function("increment", (OUT, IN), 1, (N,), GRID, ()),
    Function("report", (Buf("r", (const(320),), i64),), 1, (N,), GRID, ()),
    Function("fail", (OUT,), 1, (), GRID, ()),
)


def program(main, temps=(), **fields) -> Program:
    base = Program(
        name="test", inputs=(X,), params=(), outputs=(Y,), dims=(N,), functions=FUNCTIONS,
        consts=(), const_bytes=const(0), temps=tuple(temps), arena_bytes=const(0),
        scratch_bytes=const(0), prepare=(), main=tuple(main),
    )  # fmt: skip
    return replace(base, **fields)


def run(name: str, *args: Buf, cost: Expr | int = 0) -> Run:
    return Run(name, ((Call(name, args, as_index(cost)),),))


def jit(text: str, *more: str) -> llvm.ExecutionEngine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(text)
    for other in more:
        module.link_in(llvm.parse_assembly(other))
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine


class Machine:
    """A program in memory, and the block of its arguments."""

    def __init__(self, p: Program, scratch: int | None = None, kernels: str = ""):
        self.engine = jit(KERNELS, kernels, emit_host(p, "k", scratch))
        parallel = self.engine.get_function_address("parallel")
        self.host = np.array([HOST_BYTES, parallel, 0, 0], np.int64)
        self.regions = ctypes.c_int64.from_address(self.engine.get_global_value_address("regions"))

    def function(self, name: str, kind: type):
        address = self.engine.get_function_address(f"ferrule_{name}_k")
        return ctypes.CFUNCTYPE(kind, ctypes.c_void_p)(address)

    def arena_bytes(self, *dims: int, threads: int = 1, tensors: int = 2) -> int:
        block = np.array([0, threads, 0, 0, *[0] * tensors, *dims], np.int64)
        return self.function("arena_bytes", ctypes.c_int64)(block.ctypes.data)

    def __call__(self, *arrays, dims=(), threads=1, consts=None, arena=None) -> int:
        if arena is None:
            size = self.arena_bytes(*dims, threads=threads, tensors=len(arrays))
            arena = np.zeros(size, np.uint8)
        pointers = [a.ctypes.data for a in arrays]
        const = 0 if consts is None else consts.ctypes.data
        head = [arena.ctypes.data, threads, const, self.host.ctypes.data]
        block = np.array([*head, *pointers, *dims], np.int64)
        return self.function("entry", ctypes.c_int32)(block.ctypes.data)


def test_calls_in_order_through_the_arena():
    t, u = Buf("t", (N,), f32), Buf("u", (N,), f32)
    temps = (Placed(t, const(0)), Placed(u, (N * 4 + 63) // 64 * 64))
    steps = (run("twice", t, X), run("increment", u, t), run("twice", Y, u))
    m = Machine(program(steps, temps, arena_bytes=(N * 4 + 63) // 64 * 128))
    for n in (0, 1, 5, 100):
        x, y = np.arange(n, dtype=np.float32), np.full(n + 1, -1, np.float32)
        assert m(x, y, dims=(n,)) == 0
        np.testing.assert_array_equal(y, [*(4 * x + 2), -1])


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_cost_decides_the_number_of_threads(threads):
    report = Buf("r", (const(320),), i64)
    main = (run("report", report, cost=N * (CPU.grain_ns // 2)),)
    m = Machine(program(main, outputs=(report,), scratch_bytes=const(100)))
    for n in (1, 4, 5, 1000):
        x, out = np.zeros(n, np.float32), np.full((64, 5), -1, np.int64)
        bytes = m.arena_bytes(n, threads=threads)
        assert bytes == SPACING * threads
        arena = np.zeros(bytes, np.uint8)
        assert m(x, out, dims=(n,), threads=threads, arena=arena) == 0
        used = max(1, min(threads, n // 2))
        assert (out[used:] == -1).all()
        assert out[0, 0] == 0
        assert out[used - 1, 1] == n
        np.testing.assert_array_equal(out[1:used, 0], out[: used - 1, 1])
        assert (out[:used, 2:] == [arena.ctypes.data, SPACING, n]).all()


def test_an_empty_grid_is_not_run():
    m = Machine(program((run("fail", Y),)))
    x = np.zeros(1, np.float32)
    assert m(x, x, dims=(0,)) == 0
    assert m(x, x, dims=(1,)) == 1


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("costs", [(0, 0), (100_000, 1), (30_000, 70_000)])
def test_kernels_of_a_phase_share_one_region(threads, costs):
    z, e = Buf("z", (N,), f32), Buf("e", (const(0),), f32)
    empty = Function("empty", (OUT,), 1, (), (axis("i", N * 0),), ())
    calls = (
        Call("twice", (Y, X), const(costs[0])),
        Call("empty", (e,), const(1000)),
        Call("increment", (z, X), const(costs[1])),
    )
    p = program((Run("both", (calls,)),), outputs=(Y, z, e), functions=(*FUNCTIONS, empty))
    broken = "define void @empty(ptr %c, i64 %a, i64 %b, i64 %t) {\n  unreachable\n}\n"
    m = Machine(p, kernels=broken)
    regions = m.regions
    for n in (0, 1, 2, 7, 1000):
        x = np.arange(n, dtype=np.float32)
        y, out_z, out_e = np.full_like(x, -1), np.full_like(x, -1), np.zeros(1, np.float32)
        before = regions.value
        assert m(x, y, out_z, out_e, dims=(n,), threads=threads) == 0
        np.testing.assert_array_equal(y, 2 * x)
        np.testing.assert_array_equal(out_z, x + 1)
        expected = n > 0 and threads > 1 and sum(costs) > 2 * CPU.grain_ns
        assert regions.value - before == expected


def test_variants_run_the_first_branch_that_holds():
    steps = Variants((
        (lt(N, 3), (run("twice", Y, X),)),
        (eq(N % 5, 0), (run("increment", Y, X), run("increment", Y, Y))),
        (TRUE, ()),
    ))  # fmt: skip
    m = Machine(program((run("increment", Y, X), steps, run("twice", Y, Y))))
    for n, expected in ((1, 4.0), (2, 4.0), (5, 6.0), (10, 6.0), (7, 4.0)):
        x, y = np.ones(n, np.float32), np.zeros(n, np.float32)
        assert m(x, y, dims=(n,)) == 0
        np.testing.assert_array_equal(y, np.full(n, expected))


def test_a_variant_forgets_what_its_branch_stored():
    branch = Variants(((lt(N, 3), (run("twice", Y, Y),)), (TRUE, (run("increment", Y, X),))))
    m = Machine(program((run("increment", Y, X), branch, run("twice", Y, X))))
    for n in (2, 4):
        x, y = np.ones(n, np.float32), np.zeros(n, np.float32)
        assert m(x, y, dims=(n,)) == 0
        np.testing.assert_array_equal(y, 2 * x)


def test_prepare_fills_constants():
    n = const(6)
    w, packed, t = (Buf(name, (n,), f32) for name in ("w", "packed", "t"))
    grid = (axis("i", n),)
    functions = tuple(replace(f, dims=(), grid=grid) for f in FUNCTIONS[:2])
    p = program(
        (run("increment", Y, packed),), (Placed(t, const(64)),), inputs=(), params=(w,), dims=(),
        functions=functions, prepare=(run("twice", t, w), run("twice", packed, t)),
        consts=(Placed(packed, const(128)),), const_bytes=const(192), arena_bytes=const(128),
    )  # fmt: skip
    m = Machine(p)
    x, y, consts = np.arange(6, dtype=np.float32), np.zeros(6, np.float32), np.zeros(48, np.float32)
    arena = np.zeros(m.arena_bytes(tensors=1), np.uint8)
    head = [arena.ctypes.data, 1, consts.ctypes.data, m.host.ctypes.data]
    block = np.array([*head, 0, x.ctypes.data], np.int64)
    assert m.function("prepare", ctypes.c_int32)(block.ctypes.data) == 0
    assert m(y, x, consts=consts) == 0
    np.testing.assert_array_equal(y, 4 * x + 1)
    assert (consts[:32] == 0).all()
    assert make_compiled(p, "k", b"").const_bytes == 192


def test_repeated_launches_stay_small():
    """A call of a kernel with the buffers of the call before is one instruction."""

    def lines(count: int) -> int:
        steps = [run("twice", *((Y, X) if i % 2 else (X, Y))) for i in range(count)]
        same = [run("twice", X, Y)] * count
        return emit_host(program([*steps, *same]), "k").count("\n")

    assert lines(200) - lines(100) == 100 * (2 + 1) + 100


def test_trace_is_called_in_place_of_launches_and_told_their_numbers():
    """It writes down (number, parts, threads) and runs the kernel; where it is null, nothing is."""
    two = Run("two", ((Call("twice", (Y, X), const(0)), Call("increment", (Z, X), const(0))),))
    main = (run("increment", Y, X), two, run("twice", Y, X, cost=const(10**6)))
    m = Machine(program(main, outputs=(Y, Z)), kernels=TRACE)
    x, y, z = np.ones(8, np.float32), np.zeros(8, np.float32), np.zeros(8, np.float32)
    told = (ctypes.c_int64 * 32).from_address(m.engine.get_global_value_address("told"))
    count = ctypes.c_int64.from_address(m.engine.get_global_value_address("count"))
    assert m(x, y, z, dims=(8,), threads=2) == 0
    assert count.value == 0
    m.host[3] = m.engine.get_function_address("trace")
    assert m(x, y, z, dims=(8,), threads=2) == 0
    np.testing.assert_array_equal(y, 2 * x)
    np.testing.assert_array_equal(z, x + 1)
    rows = [tuple(told[3 * i : 3 * i + 3]) for i in range(count.value)]
    assert rows == [(-1, 1, 1), (0, 1, 0), (1, 2, 0), (3, 1, 2)]
    fails = Machine(program((run("fail", Y),)), kernels=TRACE)
    fails.host[3] = fails.engine.get_function_address("trace")
    assert fails(x, y, dims=(8,)) == 1


@pytest.mark.parametrize(("name", "loads"), [("launch", 1), ("enter", 3)])
def test_without_a_trace_the_hook_is_a_load_and_a_branch(name: str, loads: int) -> None:
    """`enter` reads the arena, which it did without the hook, and the host table's address."""
    body = support().partition(f"@ferrule.{name}(")[2]
    before, _, after = body.partition("%untold = icmp eq ptr %trace, null\n")
    assert before.count(" load ") == loads
    assert after.lstrip().startswith("br i1 %untold, label %plain, label %")
    plain = after.partition("\nplain:\n")[2].partition("ret ")[0]
    assert "trace" not in plain


def test_size_expressions_agree_with_the_shape_language():
    a, b = dim("a"), dim("b")
    cases = [
        a * 3 - b, a // 7, b // -4, (b - a) // 7, (b - a) % 7, (b - a) % -3, a // b, a % b,
        minimum(a, b), maximum(a - b, const(0)), ceildiv(a * b + 1, 64), -(a + b),
        select(lt(a, b), a, b * 2), select(both(le(a, b), call("ne", a, const(5))), a - b, b),
        select(call("or", eq(a, b), call("not", lt(a, 3))), const(1), const(2)),
    ]  # fmt: skip
    texts = [KERNELS, support()]
    for i, e in enumerate(cases):
        code = Scalars(lambda name: f"%{name}")
        code.do(f"ret i64 {code.value(e)}")
        texts.append(code.function(f"define i64 @case{i}(i64 %a, i64 %b)"))
    engine = jit("\n".join(texts))
    for i, e in enumerate(cases):
        fn = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(
            engine.get_function_address(f"case{i}")
        )
        for va, vb in ((0, 1), (5, 3), (3, 5), (64, 64), (1000, 7), (13, 1)):
            assert fn(va, vb) == evaluate(shape_text(e), {"a": va, "b": vb}), (e, va, vb)
        assert isinstance(fn(5, 0), int)  # division by zero does not trap


def test_sizes_refuse_other_operators():
    code = Scalars(lambda name: f"%{name}")
    with pytest.raises(CompileError, match="i64 or a bool"):
        code.value(cast(N, f32))
    with pytest.raises(CompileError, match="no operation on sizes"):
        code.value(call("shl", N, const(1)))
    with pytest.raises(CompileError, match="no place in a shape"):
        shape_text(call("shl", N, const(1)))
    assert code.value(cast(lt(N, 3), i64)).startswith("%")
    assert boolean == lt(N, 3).dtype


def test_packaging_finds_sources_and_facts_of_dims():
    b, s, k = dim("b"), dim("s", lo=1, hi=512, multiple=8), dim("k")
    inputs = (Buf("x", (b * 2, s), f32), Buf("y", (s, b), f32), Buf("k", (), i64))
    out = Buf("o", (b * s, k + 1, const(3)), f32)
    p = program((), inputs=inputs, outputs=(out,), dims=(b, k, s))
    c = make_compiled(p, "key", b"code", meta={"kernels": 3})
    assert [(d.name, d.input_index, d.axis) for d in c.dims] == [
        ("b", 1, 1), ("k", 2, None), ("s", 0, 1)]  # fmt: skip
    assert [(d.lo, d.hi, d.multiple) for d in c.dims] == [(0, None, 1), (0, None, 1), (1, 512, 8)]
    assert [evaluate(e, {"b": 5, "s": 8, "k": 2}) for e in c.outputs[0].shape] == [40, 3, 3]
    assert c.meta == {"kernels": 3}
    assert c.slots == 4 + 4 + 3


def test_packaging_refuses_a_dim_without_source():
    p = program((), inputs=(Buf("x", (N * 2,), f32),))
    with pytest.raises(CompileError, match="n cannot be read from any input"):
        make_compiled(p, "key", b"")


@pytest.mark.parametrize(
    ("main", "message"),
    [
        ((run("nothing", Y, X),), "no function is called nothing"),
        ((run("twice", Y),), "takes 2 buffers, and is called with 1"),
        ((run("twice", Y, Buf("lost", (N,), f32)),), "buffer lost has no place"),
        ((run("twice", Y, X, cost=dim("m")),), "m is no dim of the program"),
        ((Variants(((lt(N, 3), ()),)),), "last variant"),
    ],
)
def test_malformed_programs_are_refused(main, message):
    with pytest.raises(CompileError, match=message):
        emit_host(program(main), "k")
