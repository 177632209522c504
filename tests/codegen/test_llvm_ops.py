"""Every operator and conversion on every dtype, as vectors and as scalars, against NumPy."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable

import numpy as np
import pytest

from ferrule.base import dtype as dt
from ferrule.base.dtype import DType, bf16, boolean, f16, f32, f64, i32, i64, u8
from ferrule.base.errors import UnsupportedError
from ferrule.codegen.llvm.compile import assembly
from ferrule.codegen.llvm.emit import emit_module
from ferrule.ir.expr import Buf, Expr, axis, bitcast, call, cast, const, select
from ferrule.ir.interp.scalar import apply, convert
from ferrule.ir.kernel import Kind
from ferrule.ir.loop import For, Function, Store
from ferrule.ir.system import Access
from ferrule.target.cpu import named

N = 96
rng = np.random.default_rng(1)
WAYS = pytest.mark.parametrize("width", [0, 8])


def evaluate(run_on: Callable[..., int], width: int, inputs, exprs) -> list[np.ndarray]:
    """Each expression of `exprs(x, y, ..)` at all points, as stored. Inputs: (dtype, array)."""
    n = len(inputs[0][1])
    io = axis("io", n // max(width, 1))
    lane = axis("l", max(width, 1))
    at = io * width + lane if width else io
    bufs = [Buf(f"x{k}", (const(n),), d) for k, (d, _) in enumerate(inputs)]
    values = exprs(*(b[at] for b in bufs))
    outs = [Buf(f"y{k}", (const(n),), v.dtype) for k, v in enumerate(values)]
    body = tuple(Store((Access(b, (at,)),), (v,)) for b, v in zip(outs, values, strict=True))
    if width:
        body = (For(lane, const(0), const(width), Kind.LANES, body),)
    f = Function("ops", (*outs, *bufs), len(outs), (), (io,), body)
    results = [np.zeros(n, b.dtype.numpy) for b in outs]
    run_on(f, *results, *(a for _, a in inputs))
    return results


def floats(d: DType) -> tuple[np.ndarray, np.ndarray]:
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -2.5, 3.5, 1e30, -1e-30]
    x = (rng.standard_normal(N) * 10).astype(d.numpy)
    y = (rng.standard_normal(N) * 10).astype(d.numpy)
    x[:60], y[:60] = np.repeat(special, 5), np.resize(special, 60)
    x[60:70] = np.arange(10) - 4.5
    x[70:76] = [2**23 - 0.5, 2**23 + 1, -(2**22) - 0.5, 2**52 + 1, -(2**51) - 0.5, 0.49999997]
    return x, y


def same(got: np.ndarray, want: np.ndarray, name: str = "") -> None:
    """Equal bits up to the sign of zero and the payload of NaN."""
    np.testing.assert_array_equal(got, want.astype(got.dtype), err_msg=name)


@WAYS
def test_dot_products_of_bytes(run_on, width):
    """Alone, as an addend on either side, and of bytes that are put together before."""
    x, y = (rng.integers(-(1 << 31), 1 << 31, N).astype(np.int32) for _ in range(2))
    z, parts = rng.integers(-99, 99, N).astype(np.int32), rng.integers(0, 256, (4, N), np.uint8)
    got = evaluate(
        run_on, width, [(i32, x), (i32, y), (i32, z), *((u8, p) for p in parts)],
        lambda a, b, c, *p: [
            call("dot4", a, b), c + call("dot4", a, b), call("dot4", a, b) + c, call("word", *p),
            call("dot4", call("word", *p), b),
        ],
    )  # fmt: skip

    def dot(unsigned: np.ndarray, signed: np.ndarray) -> np.ndarray:
        left, right = unsigned.view(np.uint8), signed.view(np.int8)
        return (left.astype(np.int32) * right).reshape(N, 4).sum(1, dtype=np.int32)

    joined = np.ascontiguousarray(parts.T).view(np.int32)[:, 0]
    for g, w in zip(got, [dot(x, y), z + dot(x, y), z + dot(x, y), joined, dot(joined, y)]):
        same(g, w)


@WAYS
@pytest.mark.parametrize("d", [f32, f64])
def test_float_operators(run_on, width, d):
    x, y = floats(d)
    binary: dict[str, Callable[..., np.ndarray]] = {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
        "min": np.minimum, "max": np.maximum, "copysign": np.copysign,
        "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
        "rem": np.fmod, "mod": np.mod,
    }  # fmt: skip
    unary = {
        "neg": np.negative, "abs": np.abs, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc,
        "round": np.rint, "sqrt": np.sqrt, "isnan": np.isnan, "isinf": np.isinf, "sign": np.sign,
        "rsqrt": lambda v: 1 / np.sqrt(v),
    }  # fmt: skip
    got = evaluate(
        run_on, width, [(d, x), (d, y)],
        lambda a, b: [call(op, a, b) for op in binary] + [call(op, a) for op in unary],
    )  # fmt: skip
    with np.errstate(all="ignore"):
        want = [fn(x, y) for fn in binary.values()] + [fn(x) for fn in unary.values()]
    for name, g, w in zip((*binary, *unary), got, want, strict=True):
        if name == "mod":
            finite = np.isfinite(x) & np.isfinite(y)
            g, w = g[finite], w[finite]
        same(g, w, name)
        if name in ("floor", "ceil", "trunc", "round", "copysign", "neg"):
            same(np.signbit(g), np.signbit(w), f"sign of {name}")


@WAYS
def test_extrema_with_constants_propagate_nan(run_on, width):
    x, _ = floats(f32)
    zero, nan = const(0.0, f32), const(math.nan, f32)
    got = evaluate(
        run_on, width, [(f32, x)],
        lambda a: [call("max", a, zero), call("max", zero, a), call("min", a, zero),
                   call("max", a, nan), call("min", nan, a)],
    )  # fmt: skip
    relu = np.maximum(x, np.float32(0))
    for g, w in zip(
        got, (relu, relu, np.minimum(x, np.float32(0)), x * np.nan, x * np.nan), strict=True
    ):
        same(g, w)


@WAYS
@pytest.mark.parametrize("d", dt.INTEGERS)
def test_integer_operators(run_on, width, d):
    info = np.iinfo(d.numpy)
    edge = np.array([info.min, info.max, 0, 1, 2, 7], d.numpy)
    edge = np.concatenate([edge, [d.numpy.type(-1 & info.max if d.kind == "u" else -1)] * 2])
    x = rng.integers(info.min, info.max, N, d.numpy, endpoint=True)
    y = rng.integers(1, 12, N).astype(d.numpy)
    x[:64], y[:64] = np.repeat(edge, 8), np.resize(edge, 64)
    if d.kind == "i":
        y[80:] = -y[80:]
    shift = (rng.integers(0, d.bits + 3, N)).astype(d.numpy)
    seven, eight = const(7, d), const(8, d)
    exprs = {
        "add": lambda a, b, s: a + b, "sub": lambda a, b, s: a - b, "mul": lambda a, b, s: a * b,
        "min": lambda a, b, s: call("min", a, b), "max": lambda a, b, s: call("max", a, b),
        "and": lambda a, b, s: call("and", a, b), "or": lambda a, b, s: call("or", a, b),
        "xor": lambda a, b, s: call("xor", a, b), "not": lambda a, b, s: call("not", a),
        "neg": lambda a, b, s: call("neg", a), "abs": lambda a, b, s: call("abs", a),
        "sign": lambda a, b, s: call("sign", a),
        "lt": lambda a, b, s: call("lt", a, b), "eq": lambda a, b, s: call("eq", a, b),
        "floordiv": lambda a, b, s: call("floordiv", a, b),
        "mod": lambda a, b, s: call("mod", a, b),
        "truncdiv": lambda a, b, s: call("truncdiv", a, b),
        "rem": lambda a, b, s: call("rem", a, b),
        "by7": lambda a, b, s: call("floordiv", a, seven),
        "mod7": lambda a, b, s: call("mod", a, seven),
        "by8": lambda a, b, s: call("floordiv", a, eight),
        "mod8": lambda a, b, s: call("mod", a, eight),
        "shl": lambda a, b, s: call("shl", a, s), "shr": lambda a, b, s: call("shr", a, s),
        "shr3": lambda a, b, s: call("shr", a, const(3, d)),
        "pow3": lambda a, b, s: call("pow", a, const(3, d)),
        "pow": lambda a, b, s: call("pow", a, call("and", s, const(15, d))),
    }  # fmt: skip
    got = dict(zip(exprs, evaluate(
        run_on, width, [(d, x), (d, y), (d, shift)],
        lambda a, b, s: [fn(a, b, s) for fn in exprs.values()],
    ), strict=True))  # fmt: skip
    want = integer_meaning(d, x, y, shift)
    assert set(want) == set(got)
    for name, w in want.items():
        same(got[name], np.where(y == 0, 0, w) if name in DIVISIONS else w, name)
        if name in DIVISIONS:
            np.testing.assert_array_equal(got[name], apply(name, d, [x, y]), err_msg=name)


DIVISIONS = ("floordiv", "mod", "truncdiv", "rem")


def integer_meaning(d: DType, x, y, shift) -> dict[str, np.ndarray]:
    """The same in Python's integers, wrapped to the dtype."""

    def wrap(v: int) -> int:
        v &= (1 << d.bits) - 1
        return v - (1 << d.bits) if d.kind == "i" and v >> (d.bits - 1) else v

    def each(fn: Callable[[int, int, int], int]) -> np.ndarray:
        rows = zip(x.tolist(), y.tolist(), shift.tolist(), strict=True)
        return np.array([wrap(int(fn(*row))) for row in rows], d.numpy)

    def truncdiv(a: int, b: int) -> int:
        q = abs(a) // abs(b or 1)
        return -q if (a < 0) != (b < 0) else q

    return {
        "add": each(lambda a, b, s: a + b), "sub": each(lambda a, b, s: a - b),
        "mul": each(lambda a, b, s: a * b),
        "min": each(lambda a, b, s: min(a, b)), "max": each(lambda a, b, s: max(a, b)),
        "and": each(lambda a, b, s: a & b), "or": each(lambda a, b, s: a | b),
        "xor": each(lambda a, b, s: a ^ b), "not": each(lambda a, b, s: ~a),
        "neg": each(lambda a, b, s: -a), "abs": each(lambda a, b, s: abs(a)),
        "sign": each(lambda a, b, s: (a > 0) - (a < 0)),
        "lt": x < y, "eq": x == y,
        "floordiv": each(lambda a, b, s: a // (b or 1)), "mod": each(lambda a, b, s: a % (b or 1)),
        "truncdiv": each(lambda a, b, s: truncdiv(a, b)),
        "rem": each(lambda a, b, s: a - truncdiv(a, b) * (b or 1)),
        "by7": each(lambda a, b, s: a // 7), "mod7": each(lambda a, b, s: a % 7),
        "by8": each(lambda a, b, s: a // 8), "mod8": each(lambda a, b, s: a % 8),
        "shl": each(lambda a, b, s: a << s if s < d.bits else 0),
        "shr": each(lambda a, b, s: a >> s), "shr3": each(lambda a, b, s: a >> 3),
        "pow3": each(lambda a, b, s: a**3), "pow": each(lambda a, b, s: a ** (s & 15)),
    }  # fmt: skip


@WAYS
def test_bool_operators(run_on, width):
    x, y = rng.integers(0, 2, N).astype(bool), rng.integers(0, 2, N).astype(bool)
    ops = {
        "and": x & y, "or": x | y, "xor": x ^ y, "eq": x == y, "ne": x != y, "lt": x < y,
        "le": x <= y, "min": x & y, "max": x | y, "mul": x & y, "add": x | y,
    }  # fmt: skip
    got = evaluate(
        run_on, width, [(boolean, x), (boolean, y)],
        lambda a, b: [*(call(op, a, b) for op in ops), call("not", a),
                      select(a, b, call("not", b))],
    )  # fmt: skip
    for g, w in zip(got, [*ops.values(), ~x, np.where(x, y, ~y)], strict=True):
        np.testing.assert_array_equal(g, w)


@WAYS
@pytest.mark.parametrize("source", dt.ALL)
def test_casts(run_on, width, source):
    if source.is_float:
        real = np.concatenate([rng.uniform(-100, 100, N - 4), [0, -0.0, 0.25, 100]])
        stored = dt.to_storage(real, source)
        real = dt.from_storage(stored, source)
    elif source.is_bool:
        stored = real = rng.integers(0, 2, N).astype(bool)
    else:
        info = np.iinfo(source.numpy)
        stored = real = rng.integers(info.min, info.max, N, source.numpy, endpoint=True)
    targets = [d for d in dt.ALL if not (d.kind == "u" and source.is_float)]
    got = evaluate(run_on, width, [(source, stored)], lambda a: [cast(a, d) for d in targets])
    with np.errstate(all="ignore"):
        for d, g in zip(targets, got, strict=True):
            w = dt.to_storage(real.astype(np.float32) if d == bf16 else real, d)
            if d == f16 and source.bits == 64 and not source.is_float:
                continue  # NumPy rounds once, this rounds to f32 first
            same(g, w, d.name)


@WAYS
def test_casts_from_floats_to_unsigned_integers(run_on, width):
    x = rng.uniform(0, 120, N).astype(np.float32)
    unsigned = (dt.u8, dt.u16, dt.u32, dt.u64)
    got = evaluate(run_on, width, [(f32, x)], lambda a: [cast(a, d) for d in unsigned])
    for g, d in zip(got, unsigned, strict=True):
        np.testing.assert_array_equal(g, x.astype(d.numpy))


BEYOND = [
    *(1.9, -1.9, -0.5, 127.5, 128, 200, 255.9, 256, 300, -129, -200, -300, 32768, 40000, 65535.5),
    *(70000, -40000, 2.0**31 - 1, 2.0**31, 3e9, 2.0**32 - 1, 2.0**32, 5e9, -(2.0**31), -3e9, -1e10),
    *(-(2.0**31) - 1, 9.3e18, 1.9e19, -9.3e18, 1e20, -1e20, 1e38, np.inf, -np.inf, np.nan),
]


@WAYS
@pytest.mark.parametrize("source", [f32, f64])
def test_floats_beyond_an_integer_type_become_one_number(run_on, width, source):
    """The same as vectors and as scalars, by the interpreter, and where x86 is NumPy's machine."""
    x = np.resize(np.array(BEYOND, source.numpy), N)
    got = evaluate(run_on, width, [(source, x)], lambda a: [cast(a, d) for d in dt.INTEGERS])
    for g, d in zip(got, dt.INTEGERS, strict=True):
        np.testing.assert_array_equal(g, convert(x, source, d), err_msg=d.name)
        if platform.machine() in ("x86_64", "AMD64"):
            with np.errstate(all="ignore"):
                np.testing.assert_array_equal(g, x.astype(d.numpy), err_msg=d.name)


@WAYS
@pytest.mark.parametrize("d", [u8, dt.i8, i32, dt.u32, i64])
def test_constants_beyond_an_integer_type(run_on, width, d):
    numbers = [300.0, -1.0, 1e10, np.nan]
    got = evaluate(run_on, width, [(f32, np.zeros(N, np.float32))], lambda a: [
        cast(select(call("isnan", a), a, const(v, f32)), d) for v in numbers])  # fmt: skip
    for g, v in zip(got, numbers, strict=True):
        assert (g == convert(np.float32(v), f32, d)).all(), v


@WAYS
@pytest.mark.parametrize("d", [f16, bf16])
def test_half_formats_round_trip_and_round_to_even(run_on, width, d):
    bits = rng.integers(0, 1 << 16, N).astype(np.uint16)
    bits[:8] = [0, 0x8000, 1, 0x8001, 0x7C00, 0xFC00, 0x03FF, 0x0400]
    stored = bits.view(d.numpy)
    (wide,) = evaluate(run_on, width, [(d, stored)], lambda a: [cast(a, f32)])
    same(wide, dt.from_storage(stored, d).astype(np.float32))
    exponents = rng.integers(-30, 20, N)
    x = (rng.standard_normal(N) * 2.0**exponents).astype(np.float32)
    ties = [65519, 65520, 65504, 2.0**-24, 2.0**-25, 1.5 * 2.0**-24, 1 + 2.0**-11, np.inf, np.nan]
    x[: len(ties)] = ties
    with np.errstate(over="ignore"):
        want = dt.from_storage(dt.to_storage(x, d), d)
    back, summed = evaluate(run_on, width, [(f32, x)], lambda a: [
        cast(a, d), call("add", cast(a, d), cast(a, d))])  # fmt: skip
    same(dt.from_storage(back, d), want)
    with np.errstate(over="ignore"):
        doubled = dt.to_storage(want.astype(np.float32) * 2, d)
    same(dt.from_storage(summed, d), dt.from_storage(doubled, d))


@WAYS
def test_every_half_and_what_lies_between_two(run_on, width):
    """Signs too, and infinities and NaN as such."""
    bits = np.arange(1 << 16).astype(np.uint16)
    (wide,) = evaluate(run_on, width, [(f16, bits.view(f16.numpy))], lambda a: [cast(a, f32)])
    want = bits.view(np.float16).astype(np.float32)
    same(wide, want)
    same(np.signbit(wide), np.signbit(want))
    finite = np.sort(want[np.isfinite(want)])
    middle = (finite[1:] + finite[:-1]) / 2
    x = [np.nextafter(middle, np.float32(s)) for s in (-np.inf, np.inf)]
    x += [middle, np.array([65519.996, 65520, 65536, 1e30, np.inf, np.nan, 1e-45], np.float32)]
    x = np.concatenate(x)
    x = np.concatenate([x, -x])
    x = np.concatenate([x, x[: -len(x) % 8]])
    (back,) = evaluate(run_on, width, [(f32, x)], lambda a: [cast(a, f16)])
    with np.errstate(over="ignore"):
        rounded = x.astype(np.float16)
    same(back, rounded)
    same(np.signbit(back.view(np.float16)), np.signbit(rounded))


@WAYS
def test_f64_to_f16_rounds_once(run_on, width):
    x = np.full(N, 1 + 2.0**-11 + 2.0**-40)
    x[1::2] = 1 + 2.0**-11 - 2.0**-40
    x[2::3] *= -1
    (got,) = evaluate(run_on, width, [(f64, x)], lambda a: [cast(a, f16)])
    same(got, x.astype(np.float16))


def test_what_was_not_lowered_is_refused():
    y, i = Buf("y", (const(4),), f32), axis("i", 4)
    f = Function("f", (y,), 1, (), (i,), (Store((Access(y, (i,)),), (call("digamma", y[i]),)),))
    with pytest.raises(UnsupportedError, match="digamma"):
        emit_module([f], named("generic"))


@WAYS
def test_bit_patterns_and_fused_multiplication(run_on, width):
    x, y = floats(f32)
    got = evaluate(
        run_on, width, [(f32, x), (f32, y)],
        lambda a, b: [
            bitcast(a, dt.i32),
            bitcast(call("xor", bitcast(a, dt.u32), const(1 << 31, dt.u32)), f32),
            call("fma", a, b, const(1.0, f32)),
        ],
    )  # fmt: skip
    np.testing.assert_array_equal(got[0], x.view(np.int32))
    same(got[1], -x)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(got[2], x * y + 1, rtol=1e-6, atol=1e-6)


@WAYS
def test_index_conversions(run_on, width):
    x = np.arange(N, dtype=np.int64)
    wide = axis("wide", 1 << 40)

    def exprs(a: Expr) -> list[Expr]:
        return [cast(a, f32), cast(a * 3 - 5, f64), cast(a, dt.i8)]

    got = evaluate(run_on, width, [(i64, x)], exprs)
    for g, w in zip(got, (x.astype("f"), x * 3.0 - 5, x.astype("b")), strict=True):
        np.testing.assert_array_equal(g, w)
    y, l = Buf("y", (const(1 << 40),), f64), axis("l", 8)
    store = Store((Access(y, (l,)),), (cast(wide + l, f64),))
    body = For(l, const(0), const(8), Kind.LANES, (store,))
    out = np.zeros(8)
    big = (1 << 39) + 3
    run_on(Function("big", (y,), 1, (), (wide,), (body,)), out, span=(big, big + 1))
    np.testing.assert_array_equal(out, big + np.arange(8.0))


def test_generic_code_calls_no_library_for_rounding_or_halves():
    x, h = Buf("x", (const(8),), f32), Buf("h", (const(8),), f16)
    y = Buf("y", (const(8),), f32)
    l = axis("l", 8)
    values = [call(op, x[l]) for op in ("floor", "ceil", "trunc", "round")]
    total = values[0] + values[1] + values[2] + values[3] + cast(h[l], f32)
    stores = (
        Store((Access(y, (l,)),), (call("fma", total, total, total),)),
        Store((Access(h, (l,)),), (cast(total, f16),)),
    )
    body = For(l, const(0), const(8), Kind.LANES, stores)
    target = named("generic")
    text = assembly(emit_module([Function("f", (y, h, x), 2, (), (), (body,))], target), target)
    calls = [line.split()[1] for line in text.splitlines() if line.strip().startswith("call")]
    assert calls == ["f.body"]


def test_a_chain_of_a_thousand_operations(run_on):
    x = rng.integers(-9, 9, N)

    def chain(a: Expr) -> list[Expr]:
        out = cast(a, dt.i32)
        for k in range(1000):
            out = call("xor", out, const(k, dt.i32)) + cast(a, dt.i32)
        return [out]

    want = x.astype(np.int32)
    for k in range(1000):
        want = (want ^ k) + x.astype(np.int32)
    (got,) = evaluate(run_on, 8, [(i64, x)], chain)
    np.testing.assert_array_equal(got, want)
