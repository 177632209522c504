"""What StableHLO's operations mean, as graphs and compiled, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule.api.programs import ProgramSession
from ferrule.base.errors import CompileError, FerruleError, ParseError, UnsupportedError
from ferrule.frontend.stablehlo.convert import convert
from ferrule.frontend.stablehlo.text import read_text

Array = np.ndarray[Any, Any]
rng = np.random.default_rng(0)


def program(body: str, takes: str, gives: str, more: str = "") -> str:
    """A module whose @main has this body, and further functions."""
    return f"module {{ func.func @main({takes}) -> ({gives}) {{\n{body}\n}}\n{more} }}"


def call(text: str, *arrays: Any) -> Any:
    return ProgramSession(read_text(text))(*arrays)


def floats(*shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


UNARY: list[tuple[str, str, Callable[[Array], Array]]] = [
    ("abs", "f32", np.abs), ("cbrt", "f32", np.cbrt), ("cosine", "f64", np.cos),
    ("exponential_minus_one", "f32", np.expm1), ("log_plus_one", "f32", np.log1p),
    ("negate", "i32", np.negative), ("not", "i8", np.invert), ("sign", "f32", np.sign),
    ("tanh", "f32", np.tanh), ("floor", "f32", np.floor),
    ("round_nearest_even", "f32", np.round),
    ("popcnt", "ui8", np.bitwise_count),
    ("logistic", "f64", lambda x: 1 / (1 + np.exp(-x))),
]  # fmt: skip


def given(element: str, n: int = 40) -> Array:
    dtype = np.dtype({"f32": "f4", "f64": "f8", "ui8": "u1", "i8": "i1", "i32": "i4"}[element])
    values = rng.integers(0, 100, n) if dtype.kind in "iu" else rng.uniform(0.1, 3, n)
    return values.astype(dtype)


@pytest.mark.parametrize(("name", "element", "meaning"), UNARY, ids=[u[0] for u in UNARY])
def test_elements(name: str, element: str, meaning: Callable[[Array], Array]) -> None:
    t = f"tensor<40x{element}>"
    x = given(element)
    found = call(program(f"%0 = stablehlo.{name} %x : {t}\nreturn %0 : {t}", f"%x: {t}", t), x)
    np.testing.assert_allclose(found, meaning(x).astype(x.dtype), rtol=1e-6)


def test_integers_divide_without_an_error() -> None:
    t = "tensor<5xi32>"
    body = f"""%0 = stablehlo.divide %x, %y : {t}
    %1 = stablehlo.remainder %x, %y : {t}
    %2 = stablehlo.shift_left %x, %y : {t}
    return %0, %1, %2 : {t}, {t}, {t}"""
    x = np.array([7, -7, 5, -(2**31), 1], np.int32)
    y = np.array([2, 2, 0, -1, 33], np.int32)
    quotient, rest, moved = call(program(body, f"%x: {t}, %y: {t}", f"{t}, {t}, {t}"), x, y)
    assert quotient.tolist() == [3, -3, -1, -(2**31), 0]
    assert rest.tolist() == [1, -1, 5, 0, 1]
    assert moved.tolist() == [28, -28, 5, 0, 0]


COMPLEX: list[tuple[str, Callable[[Array], Array]]] = [
    ("stablehlo.exponential", np.exp), ("stablehlo.log", np.log), ("stablehlo.sqrt", np.sqrt),
    ("stablehlo.sine", np.sin), ("stablehlo.tanh", np.tanh), ("stablehlo.sign", np.sign),
    ("chlo.asin", np.arcsin), ("chlo.acos", np.arccos), ("chlo.acosh", np.arccosh),
    ("chlo.asinh", np.arcsinh), ("chlo.atan", np.arctan), ("chlo.atanh", np.arctanh),
]  # fmt: skip


@pytest.mark.parametrize(("name", "meaning"), COMPLEX, ids=[c[0] for c in COMPLEX])
def test_complex_elements(name: str, meaning: Callable[[Array], Array]) -> None:
    t = "tensor<64xcomplex<f64>>"
    x = rng.standard_normal(64) * 3 + 3j * rng.standard_normal(64)
    kind = f"{t} -> {t}" if name.startswith("chlo") else t
    text = program(f"%0 = {name} %x : {kind}\nreturn %0 : {t}", f"%x: {t}", t)
    np.testing.assert_allclose(call(text, x), meaning(x), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["add", "multiply", "divide", "power"])
def test_complex_pairs(name: str) -> None:
    t = "tensor<64xcomplex<f64>>"
    x, y = (rng.standard_normal(64) + 1j * rng.standard_normal(64) for _ in range(2))
    text = program(f"%0 = stablehlo.{name} %x, %y : {t}\nreturn %0 : {t}", f"%x: {t}, %y: {t}", t)
    np.testing.assert_allclose(call(text, x, y), getattr(np, name)(x, y), rtol=1e-11)


@pytest.mark.parametrize("n", [1, 2, 12, 64, 97, 130, 384])
def test_fourier_transforms(n: int) -> None:
    c, r, h = f"tensor<3x{n}xcomplex<f64>>", f"tensor<3x{n}xf64>", n // 2 + 1
    half = f"tensor<3x{h}xcomplex<f64>>"
    body = f"""%0 = stablehlo.fft %x, type = FFT, length = [{n}] : ({c}) -> {c}
    %1 = stablehlo.fft %x, type = IFFT, length = [{n}] : ({c}) -> {c}
    %2 = stablehlo.real %x : ({c}) -> {r}
    %3 = stablehlo.fft %2, type = RFFT, length = [{n}] : ({r}) -> {half}
    %4 = stablehlo.fft %3, type = IRFFT, length = [{n}] : ({half}) -> {r}
    return %0, %1, %3, %4 : {c}, {c}, {half}, {r}"""
    x = rng.standard_normal((3, n)) + 1j * rng.standard_normal((3, n))
    found = call(program(body, f"%x: {c}", f"{c}, {c}, {half}, {r}"), x)
    wanted = np.fft.fft(x), np.fft.ifft(x), np.fft.rfft(x.real), x.real
    for y, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(y, want, rtol=1e-10, atol=1e-10)


def test_a_fourier_transform_of_nothing() -> None:
    t = "tensor<3x0xcomplex<f32>>"
    body = f"%0 = stablehlo.fft %x, type = FFT, length = [0] : ({t}) -> {t}\nreturn %0 : {t}"
    assert call(program(body, f"%x: {t}", t), np.zeros((3, 0), np.complex64)).shape == (3, 0)


def test_what_only_keeps_values_alive_gives_nothing() -> None:
    t = "tensor<4xf32>"
    sink = f"stablehlo.custom_call @dce_sink(%x) {{has_side_effect = true}} : ({t}) -> ()"
    x = floats(4)
    np.testing.assert_array_equal(call(program(f"{sink}\nreturn %x : {t}", f"%x: {t}", t), x), x)


SUM = """({ ^bb0(%a: tensor<f32>, %b: tensor<f32>):
      %s = stablehlo.add %a, %b : tensor<f32>
      stablehlo.return %s : tensor<f32> })"""
COLLECTIVES = [
    ("all_reduce", f"{SUM} {{replica_groups = dense<GROUPS> : tensor<1xNxi64>}}"),
    ("reduce_scatter", f"{SUM} {{replica_groups = dense<GROUPS> : tensor<1xNxi64>, "
     "scatter_dimension = 0 : i64}"),
    ("all_gather", "{all_gather_dim = 0 : i64, replica_groups = dense<GROUPS> : tensor<1xNxi64>}"),
    ("all_to_all", "{split_dimension = 0 : i64, concat_dimension = 0 : i64, split_count = 1 : i64, "
     "replica_groups = dense<GROUPS> : tensor<1xNxi64>}"),
    ("collective_permute", "{source_target_pairs = dense<PAIRS> : tensor<1x2xi64>}"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rest"), COLLECTIVES, ids=[c[0] for c in COLLECTIVES])
def test_a_process_that_is_alone_in_its_group(name: str, rest: str) -> None:
    t = "tensor<4xf32>"
    text = program(
        f'%0 = "stablehlo.{name}"(%x) {rest} : ({t}) -> {t}\nreturn %0 : {t}', f"%x: {t}", t
    )
    alone = text.replace("GROUPS", "[[0]]").replace("1xN", "1x1").replace("PAIRS", "[[0, 0]]")
    x = floats(4)
    np.testing.assert_array_equal(call(alone, x), x)
    two = text.replace("GROUPS", "[[0, 1]]").replace("1xN", "1x2").replace("PAIRS", "[[1, 0]]")
    with pytest.raises(UnsupportedError, match=f"{name} at line .* it joins several processes"):
        convert(read_text(two))


@pytest.mark.parametrize("lower", [True, False])
def test_cholesky(lower: bool) -> None:
    t = "tensor<2x6x6xcomplex<f64>>"
    word = str(lower).lower()
    text = program(
        f"%0 = stablehlo.cholesky %x, lower = {word} : {t}\nreturn %0 : {t}", f"%x: {t}", t
    )
    a = rng.standard_normal((2, 6, 6)) + 1j * rng.standard_normal((2, 6, 6))
    a = a @ a.conj().swapaxes(1, 2) + 6 * np.eye(6)
    want = np.linalg.cholesky(a)
    want = want if lower else want.conj().swapaxes(1, 2)
    np.testing.assert_allclose(call(text, a), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("how", ["NO_TRANSPOSE", "TRANSPOSE"])
def test_triangular_systems(left: bool, lower: bool, how: str) -> None:
    t = "tensor<5x5xf64>"
    body = f"""%0 = "stablehlo.triangular_solve"(%a, %y) {{left_side = {str(left).lower()},
      lower = {str(lower).lower()}, unit_diagonal = false,
      transpose_a = #stablehlo<transpose {how}>}} : ({t}, {t}) -> {t}
    return %0 : {t}"""
    a, y = rng.standard_normal((5, 5)) + 4 * np.eye(5), rng.standard_normal((5, 5))
    x = call(program(body, f"%a: {t}, %y: {t}", t), a, y)
    own = np.tril(a) if lower else np.triu(a)
    own = own if how == "NO_TRANSPOSE" else own.T
    np.testing.assert_allclose(own @ x if left else x @ own, y, rtol=1e-9, atol=1e-9)


def test_functions_loops_and_branches() -> None:
    text = """module {
    func.func @main(%n: tensor<i32>, %x: tensor<4xf32>) -> (tensor<4xf32>, tensor<i32>) {
      %zero = stablehlo.constant dense<0> : tensor<i32>
      %0:2 = stablehlo.while(%i = %zero, %v = %x) : tensor<i32>, tensor<4xf32>
      cond {
        %c = stablehlo.compare LT, %i, %n : (tensor<i32>, tensor<i32>) -> tensor<i1>
        stablehlo.return %c : tensor<i1>
      } do {
        %one = stablehlo.constant dense<1> : tensor<i32>
        %j = stablehlo.add %i, %one : tensor<i32>
        %w = func.call @twice(%v) : (tensor<4xf32>) -> tensor<4xf32>
        stablehlo.return %j, %w : tensor<i32>, tensor<4xf32>
      }
      %1 = "stablehlo.case"(%n) ({
        stablehlo.return %0#1 : tensor<4xf32>
      }, {
        %m = stablehlo.negate %0#1 : tensor<4xf32>
        stablehlo.return %m : tensor<4xf32>
      }) : (tensor<i32>) -> tensor<4xf32>
      return %1, %0#0 : tensor<4xf32>, tensor<i32>
    }
    func.func private @twice(%x: tensor<4xf32>) -> tensor<4xf32> {
      %0 = stablehlo.add %x, %x : tensor<4xf32>
      return %0 : tensor<4xf32>
    } }"""
    session = ProgramSession(read_text(text))
    x = floats(4)
    for n in (0, 1, 5):
        y, count = session(np.int32(n), x)
        np.testing.assert_allclose(y, x * 2**n * (1 if n == 0 else -1))
        assert count == n


def test_sorts_gathers_and_scatters() -> None:
    body = """%0:2 = "stablehlo.sort"(%x, %k) <{dimension = 0 : i64, is_stable = true}> ({
      ^bb0(%a: tensor<f32>, %b: tensor<f32>, %c: tensor<i32>, %d: tensor<i32>):
        %g = stablehlo.compare GT, %a, %b : (tensor<f32>, tensor<f32>) -> tensor<i1>
        stablehlo.return %g : tensor<i1>
    }) : (tensor<9xf32>, tensor<9xi32>) -> (tensor<9xf32>, tensor<9xi32>)
    %1 = stablehlo.reshape %k : (tensor<9xi32>) -> tensor<9x1xi32>
    %2 = "stablehlo.scatter"(%x, %1, %x) <{scatter_dimension_numbers = #stablehlo.scatter<
      inserted_window_dims = [0], scatter_dims_to_operand_dims = [0], index_vector_dim = 1>}> ({
      ^bb0(%a: tensor<f32>, %b: tensor<f32>):
        %s = stablehlo.add %a, %b : tensor<f32>
        stablehlo.return %s : tensor<f32>
    }) : (tensor<9xf32>, tensor<9x1xi32>, tensor<9xf32>) -> tensor<9xf32>
    return %0#0, %0#1, %2 : tensor<9xf32>, tensor<9xi32>, tensor<9xf32>"""
    gives = "tensor<9xf32>, tensor<9xi32>, tensor<9xf32>"
    x, k = floats(9), np.array([3, 3, 0, 8, 9, -1, 2, 2, 2], np.int32)
    takes = "%x: tensor<9xf32>, %k: tensor<9xi32>"
    ordered, carried, added = call(program(body, takes, gives), x, k)
    place = np.argsort(-x, kind="stable")
    np.testing.assert_array_equal(ordered, x[place])
    np.testing.assert_array_equal(carried, k[place])
    want = x.copy()
    for i, v in zip(k, x):  # elements outside are left out
        if 0 <= i < 9:
            want[i] += v
    np.testing.assert_allclose(added, want, rtol=1e-6)


def test_convolutions_of_every_kind() -> None:
    """Dilated, strided, padded by less than nothing, reversed, in groups of features."""
    body = """%0 = stablehlo.convolution(%x, %w)
      dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f],
      window = {stride = [1, 2], pad = [[-1, 2], [1, 0]], lhs_dilate = [2, 1],
                rhs_dilate = [1, 2], reverse = [true, false]}
      {batch_group_count = 1 : i64, feature_group_count = 2 : i64}
      : (tensor<2x6x7x4xf32>, tensor<3x2x2x6xf32>) -> tensor<2x10x3x6xf32>
    return %0 : tensor<2x10x3x6xf32>"""
    x, w = floats(2, 6, 7, 4), floats(3, 2, 2, 6)
    found = call(
        program(body, "%x: tensor<2x6x7x4xf32>, %w: tensor<3x2x2x6xf32>", "tensor<2x10x3x6xf32>"),
        x, w,
    )  # fmt: skip
    wide = np.zeros((2, 11, 7, 4), np.float32)
    wide[:, ::2] = x
    padded = np.pad(wide[:, 1:], ((0, 0), (0, 2), (1, 0), (0, 0)))
    turned = w[::-1]
    want = np.zeros((2, 10, 3, 6), np.float32)
    for i in range(10):
        for j in range(3):
            window = padded[:, i : i + 3, 2 * j : 2 * j + 3 : 2]
            for g in range(2):
                part = window[..., 2 * g : 2 * g + 2], turned[..., 3 * g : 3 * g + 3]
                want[:, i, j, 3 * g : 3 * g + 3] = np.einsum("nhwc,hwco->no", *part)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)


def test_batch_normalisation_and_its_gradient() -> None:
    t, c = "tensor<4x3x5xf64>", "tensor<3xf64>"
    body = f"""%0:3 = "stablehlo.batch_norm_training"(%x, %s, %o)
      <{{epsilon = 1.0e-3 : f32, feature_index = 1 : i64}}> : ({t}, {c}, {c}) -> ({t}, {c}, {c})
    %1 = "stablehlo.batch_norm_inference"(%x, %s, %o, %0#1, %0#2)
      <{{epsilon = 1.0e-3 : f32, feature_index = 1 : i64}}> : ({t}, {c}, {c}, {c}, {c}) -> {t}
    %2:3 = "stablehlo.batch_norm_grad"(%x, %s, %0#1, %0#2, %x)
      <{{epsilon = 1.0e-3 : f32, feature_index = 1 : i64}}>
      : ({t}, {c}, {c}, {c}, {t}) -> ({t}, {c}, {c})
    return %0#0, %1, %2#0, %2#1, %2#2 : {t}, {t}, {t}, {c}, {c}"""
    x, s, o = rng.standard_normal((4, 3, 5)), rng.uniform(1, 2, 3), rng.standard_normal(3)
    takes = f"%x: {t}, %s: {c}, %o: {c}"
    found = call(program(body, takes, f"{t}, {t}, {t}, {c}, {c}"), x, s, o)
    mean, var = x.mean((0, 2), keepdims=True), x.var((0, 2), keepdims=True)
    hat = (x - mean) / np.sqrt(var + 1e-3)
    wide = s[:, None]
    np.testing.assert_allclose(found[0], hat * wide + o[:, None], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9, atol=1e-9)
    part = (x * hat).mean((0, 2), keepdims=True)
    dx = wide / np.sqrt(var + 1e-3) * (x - x.mean((0, 2), keepdims=True) - hat * part)
    np.testing.assert_allclose(found[2], dx, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[3], (x * hat).sum((0, 2)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[4], x.sum((0, 2)), rtol=1e-9, atol=1e-9)


def test_open_sizes_are_symbols() -> None:
    text = """func.func @main(%x: tensor<?x3xf32>, %y: tensor<?x3xf32>) -> tensor<?xf32> {
      %0 = stablehlo.add %x, %y : tensor<?x3xf32>
      %1 = stablehlo.get_dimension_size %0, dim = 0 : (tensor<?x3xf32>) -> tensor<i32>
      %2 = stablehlo.constant dense<3> : tensor<i32>
      %3 = stablehlo.multiply %1, %2 : tensor<i32>
      %4 = stablehlo.reshape %3 : (tensor<i32>) -> tensor<1xi32>
      %5 = stablehlo.dynamic_reshape %0, %4 : (tensor<?x3xf32>, tensor<1xi32>) -> tensor<?xf32>
      return %5 : tensor<?xf32>
    }"""
    session = ProgramSession(read_text(text))
    for n in (0, 1, 7):
        x, y = floats(n, 3), floats(n, 3)
        np.testing.assert_array_equal(session(x, y), (x + y).reshape(-1))
    with pytest.raises(FerruleError, match=r"d\d_0"):
        session(floats(2, 3), floats(3, 3))


def test_sizes_given_as_numbers() -> None:
    """A size that is an argument of its own, as an export of JAX has it."""
    text = """func.func @main(%n: tensor<i32>, %x: tensor<?xf32>) -> tensor<?x2xf32> {
      %c = stablehlo.constant dense<2> : tensor<1xi32>
      %0 = stablehlo.reshape %n : (tensor<i32>) -> tensor<1xi32>
      %1 = stablehlo.concatenate %0, %c, dim = 0 : (tensor<1xi32>, tensor<1xi32>) -> tensor<2xi32>
      %2 = stablehlo.dynamic_broadcast_in_dim %x, %1, dims = [0]
        : (tensor<?xf32>, tensor<2xi32>) -> tensor<?x2xf32>
      return %2 : tensor<?x2xf32>
    }"""
    x = floats(5)
    want = np.stack([x, x], 1)
    np.testing.assert_array_equal(call(text, np.int32(5), x), want)


def test_large_constants_are_params() -> None:
    rows = ", ".join(str([float(i * 10 + j) for j in range(10)]) for i in range(10))
    t = "tensor<10x10xf32>"
    text = program(f"%0 = stablehlo.constant dense<[{rows}]> : {t}\nreturn %0 : {t}", "", t)
    found = convert(read_text(text))
    assert [p.shape for p in found.params] == [(10, 10)]
    np.testing.assert_array_equal(call(text), np.arange(100, dtype=np.float32).reshape(10, 10))


WRONG = [
    ("%0 = stablehlo.custom_call @strange(%x) : (tensor<4xf32>) -> tensor<4xf32>",
     UnsupportedError, "custom call @strange"),
    ("%0 = stablehlo.rng %x, %x, %x, distribution = UNIFORM : (tensor<4xf32>, tensor<4xf32>, "
     "tensor<4xf32>) -> tensor<4xf32>", UnsupportedError, "stablehlo.rng at line 2"),
    ("%0 = stablehlo.reverse %x, dims = [3] : tensor<4xf32>", CompileError, "line 2"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "kind", "said"), WRONG, ids=[w[2] for w in WRONG])
def test_what_is_lacking_is_named_with_its_place(line: str, kind: Any, said: str) -> None:
    t = "tensor<4xf32>"
    with pytest.raises(kind, match=said):
        convert(read_text(program(f"{line}\nreturn %0 : {t}", f"%x: {t}", t)))


def test_a_program_without_the_entry() -> None:
    with pytest.raises(UnsupportedError, match="no function @other; it has @main"):
        convert(read_text(program("return", "", "")), "other")
    with pytest.raises(ParseError):
        ProgramSession(b"module { func.func @main( }")


def test_arguments_that_are_fixed_are_constants() -> None:
    t = "tensor<3x40xf32>"
    text = program(f"%0 = stablehlo.add %x, %y : {t}\nreturn %0 : {t}", f"%x: {t}, %y: {t}", t)
    y = floats(3, 40)
    made = convert(read_text(text), fixed={1: y})
    assert len(made.graph.inputs) == len(made.inputs) == 1
    assert [p.tolist() for p in made.params] == [y.tolist()]


def test_sizes_that_are_alike_are_one() -> None:
    t = "tensor<?x4xf32>"
    text = program(f"return %x, %y : {t}, {t}", f"%x: {t}, %y: {t}", f"{t}, {t}")
    one, other = (
        convert(read_text(text), alike=alike).graph.inputs for alike in ({}, {(1, 0): (0, 0)})
    )
    assert one[0].shape != one[1].shape
    assert other[0].shape == other[1].shape


@pytest.mark.parametrize("source", ["f16", "bf16", "f32", "f64"])
@pytest.mark.parametrize("target", ["i8", "i16", "i32", "i64", "ui8", "ui16", "ui32", "ui64"])
def test_floats_outside_of_a_type_become_its_nearest_integer(source: str, target: str) -> None:
    dtype = np.dtype(target.replace("ui", "uint") if "u" in target else target.replace("i", "int"))
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    values = [np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0, -0.75, 1.75, -1.75, 100.5, 255.5, -5.0]
    values += [float(n) for n in (low, low - 1, high, high + 1, high // 2, low // 2)]
    with np.errstate(over="ignore"):
        exact = np.array(values, {"f16": "f2", "f64": "f8"}.get(source, "f4"))
    given = exact
    if source == "bf16":
        given = (exact.view(np.uint32) >> 16).astype(np.uint16)
        exact = (given.astype(np.uint32) << 16).view(np.float32)
    expected = [_nearest(float(x), low, high) for x in exact]
    t, u = f"tensor<{len(values)}x{source}>", f"tensor<{len(values)}x{target}>"
    body = f"%0 = stablehlo.convert %x : ({t}) -> {u}\nreturn %0 : {u}"
    found = call(program(body, f"%x: {t}", u), given)
    np.testing.assert_array_equal(found, np.array(expected, dtype))


def _nearest(x: float, low: int, high: int) -> int:
    if np.isnan(x):
        return 0
    return low if x <= low else high if x >= high else int(x)


@pytest.mark.parametrize("through", ["main", "f"])
def test_a_program_that_calls_itself_is_refused(through: str) -> None:
    t = "tensor<3xf32>"
    again = f"%0 = call @f(%x) : ({t}) -> {t}\nreturn %0 : {t}"
    more = again.replace("@f", f"@{through}")
    whole = program(again, f"%x: {t}", t, f"func.func @f(%x: {t}) -> {t} {{\n{more}\n}}")
    with pytest.raises(UnsupportedError, match=f"@{through} calls itself: main -> f"):
        convert(read_text(whole))


def test_calls_are_as_deep_as_the_limit() -> None:
    t = "tensor<3xf32>"

    def chain(n: int) -> str:
        calls = [f"%0 = call @f{k + 1}(%x) : ({t}) -> {t}\nreturn %0 : {t}" for k in range(n)]
        bodies = [*calls, f"return %x : {t}"]
        functions = (f"func.func @f{k}(%x: {t}) -> {t} {{\n{s}\n}}" for k, s in enumerate(bodies))
        return f"module {{ {' '.join(functions)} }}"

    assert len(convert(read_text(chain(99)), "f0").inputs) == 1
    with pytest.raises(UnsupportedError, match="more than 100 calls deep"):
        convert(read_text(chain(100)), "f0")
