"""Text of every level reads back as what it was; errors say where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from ferrule.base.dtype import bf16, f32, f64, i8, i64
from ferrule.base.errors import ParseError, UnsupportedError
from ferrule.ir.expr import Buf, Space, axis, call, const, dim, load, lt
from ferrule.ir.graph import Graph, Node, TensorType, Value
from ferrule.ir.interp import run_system
from ferrule.ir.kernel import Branch, Kernel, Kind, SerialLoop
from ferrule.ir.loop import Alloc, For, Function, If, Prefetch, Store
from ferrule.ir.monoids import ARGMAX
from ferrule.ir.notation import show
from ferrule.ir.program import Call, Placed, Program, Run, Variants
from ferrule.ir.system import Access, Compute, Requirement, Stage
from ferrule.ir.text import parse, parse_expr, parse_graph, parse_system, to_text
from tests.ir.strategies import AXES, BUFS, DIMS, exprs, systems

N = dim("n")
SLOW = settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)


@given(exprs())
@settings(max_examples=300, suppress_health_check=list(HealthCheck), deadline=None)
def test_expressions_round_trip(e):
    assert parse_expr(show(e), (*DIMS, *AXES, *BUFS)) is e


@given(systems())
@SLOW
def test_systems_round_trip(system):
    text = to_text(system)
    again = parse(text)
    assert again == system
    assert to_text(again) == text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("i - 1 - n", (AXES[0] - 1) - DIMS[0]),
        ("i - (1 - n)", AXES[0] - (1 - DIMS[0])),
        ("i + n * 2 // 3", AXES[0] + (DIMS[0] * 2) // 3),
        ("i >= n", call("le", DIMS[0], AXES[0])),
        ("i > n & n == i", call("and", lt(DIMS[0], AXES[0]), call("eq", DIMS[0], AXES[0]))),
        ("-i", call("neg", AXES[0])),
        ("-3", const(-3)),
        ("-3:i8", const(-3, i8)),
        ("1e-05", const(1e-5, f32)),
        ("0.1", const(0.1, f32)),
        ("0.1:f64", const(0.1, f64)),
        ("-inf:bf16", const(float("-inf"), bf16)),
    ],
)
def test_expression_syntax(source, expected):
    assert parse_expr(source, (*DIMS, *AXES)) is expected


@pytest.mark.parametrize(
    ("source", "message", "column"),
    [
        ("i + ", "expected an expression, found 'the end'", 4),
        ("i + 1.0", "add of i64 and f32: dtypes must agree", 3),
        ("q + 1", "no axis or dim is called 'q'", 1),
        ("select(i, 1, 2)", "select of i64, i64, i64", 1),
        ("exp(i, i)", "exp is no operator of 2 arguments", 1),
        ("y[0]", "no buffer is called 'y'", 1),
        ("$0", r"\$0 is no operand", 1),
        ("cast<f31>(i)", "no dtype is called 'f31'", 6),
        ("1.5:i8", "1.5 is no i8", 1),
        ("i @ i", "expected the end, found '@'", 3),
        ("i ; i", "';' starts no token", 3),
        ("for", "'for' cannot stand here", 1),
        ("(i", r"expected '\)', found 'the end'", 3),
    ],
)
def test_expression_errors(source, message, column):
    with pytest.raises(ParseError, match=message) as caught:
        parse_expr(source, AXES)
    assert (caught.value.line, caught.value.column) == (1, column)


def test_a_system_written_by_hand_runs():
    system = parse_system("""
        system softmax {
          dim n
          input x: f32[n, 4]
          output y: f32[n, 4]
          buf m: f32[n]   buf s: f32[n]
          m: [i: n] m[i] = reduce max:f32 [j: 4] (x[i, j])
          s: [i: n] s[i] = reduce sum:f32 [j: 4] (exp(x[i, j] - m[i]))
          y: [i: n, j: 4] y[i, j] = exp(x[i, j] - m[i]) / s[i]
        }
    """)
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    e = np.exp(x)
    np.testing.assert_allclose(run_system(system, [x])[0], e / e.sum(1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize(
    ("body", "message", "line"),
    [
        ("y: [i: n] y[i] = x[i]", "no buffer is called 'y'", 4),
        ("x: [i: n] x[j] = x[i]", "no axis or dim is called 'j'", 4),
        ("x: [i: n] x[i] = x[i, i]", "takes 1 indices", 4),
        ("x: [i: n] x[i] = reduce mean:f32 [k: 2] (x[k])", "no monoid is called mean:f32", 4),
        ("x: [i: n] x[i] =\n\n x[i] +", "expected an expression", 7),
        ("x: [i: n] x[i] = scan sum:f32 [k: 2, l: 2] (x[k])", "a scan has one axis", 4),
    ],
)
def test_system_errors_say_where(body, message, line):
    with pytest.raises(ParseError, match=message) as caught:
        parse_system("system s {\ndim n\ninput x: f32[n]\n" + body + "\n}")
    assert caught.value.line == line


def round_trip(level):
    text = to_text(level)
    again = parse(text)
    assert again == level
    assert to_text(again) == text
    return text


def stage(out, idx, axes, value, **rest):
    return Stage(out.name, (Access(out, idx),), Compute(axes, (value,)), **rest)


def kernel(name="k", rows=N):
    x, y = Buf("x", (rows, const(8)), f32), Buf("y", (rows,), f32, layout=(0,))
    part = Buf("part", (rows,), f32)
    t, r = Buf("t", (const(4),), f32, Space.SCRATCH), Buf("for", (), f32, Space.REG)
    i, o, j = axis("i", rows), axis("in", 2), axis("j", 4)
    inner = (stage(r, (), (), load(x, i, o * 4)), stage(t, (j,), (j,), load(r)))
    hint = Prefetch(x, (i, const(64)), write=True)
    body = (hint, SerialLoop(o, inner, (r,)), stage(y, (i,), (), load(t, const(0)), when=lt(i, 3)))
    tail = Branch(lt(load(x, i, o.extent), 3.0), (stage(part, (i,), (), load(y, i)), hint))
    kinds = (("in", Kind.UNROLL), ("j", Kind.LANES))
    return Kernel(name, (i,), (*body, tail), (t,), kinds)


def test_kernels_round_trip():
    text = round_trip(kernel())
    assert 'for "in": 2 {' in text
    assert 'kind "in": unroll, j: lanes' in text
    assert "if x[i, 2] < 3.0 {" in text


def function():
    x, y = Buf("x", (N, const(8)), f32), Buf("y", (N,), i64)
    v, p = Buf("v", (), f32, Space.REG), Buf("p", (), i64, Space.REG)
    i, j, u = axis("i", N), axis("j", 8), axis("u", dim("S", 1, 512, 8))
    update = Store((Access(v, ()), Access(p, ())), (load(x, i, j), j), ARGMAX(f32))
    body = (
        Alloc(v),
        Alloc(p),
        Prefetch(x, (i, const(0))),
        Store((Access(v, ()), Access(p, ())), (const(float("-inf"), f32), const(0))),
        For(j, const(1), const(7), Kind.LANES, (If(lt(j, 5), (update,), (update, update)),)),
        For(u, const(0), u.extent, Kind.SERIAL, (If(lt(u, 5), ()),)),
        Store((Access(y, (i,)),), (load(p),)),
    )
    return Function("arg max", (y, x), 1, (u.extent, N), (i,), body)


def test_functions_round_trip():
    text = round_trip(function())
    assert "store (v[], p[]) = (x[i, j], j) by argmax:f32" in text


def test_programs_round_trip():
    x, y, t, w = Buf("x", (N,), f32), Buf("y", (N,), i64), Buf("t", (N,), f32), Buf("w", (N,), f32)
    call_ = Call("arg max", (y, t), N * 3, 'says "hi"')
    run = Run("r", ((call_, call_), (call_,)))
    variants = Variants(((lt(N, 3), (run,)), (lt(N, N), (run, run))))
    program = Program(
        "p", (x,), (w,), (y, x), (N,), (function(),), (), const(0), (Placed(t, N * 64),),
        N * 128, const(0), (), (run, variants), (Requirement(lt(N, 9), 'concat at "m.py:3"'),),
    )  # fmt: skip
    round_trip(program)
    round_trip(replace(program, prepare=(run,), consts=(Placed(w, const(0)),), params=()))


def graph(**attrs):
    x = Value("input:0", TensorType((N, const(4)), bf16))
    w = Value("w", TensorType((), f32))
    a, b = Value("v0", x.type), Value("v1", TensorType((N * 2,), i64))
    nodes = (
        Node("max_with_index", (x, w), (a, b), tuple(sorted(attrs.items())), 'model.py:12 "f"'),
        Node("neg", (a,), (Value("v2", x.type),)),
    )
    return Graph("g", (x,), (w,), nodes, (b, x, b))


def test_graphs_round_trip():
    attrs = {
        "axis": -1, "eps": 1e-5, "big": 1e20, "whole": 2.0, "flag": True, "none": None,
        "mode": 'a "b"', "dtype": f32, "shape": (N * 2, 3, (1,), ()), "low": float("-inf"),
        "data": b"\0\xff",
    }  # fmt: skip
    g = graph(**attrs)
    text = round_trip(g)
    again = dict(parse_graph(text).nodes[0].attrs)
    assert {k: type(v) for k, v in again.items()} == {k: type(v) for k, v in attrs.items()}
    assert parse_graph(text).nodes[0].location == g.nodes[0].location


def test_an_attribute_that_is_no_value_cannot_be_written():
    with pytest.raises(UnsupportedError, match="attribute of set"):
        to_text(graph(x={1}))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gibberish", "expected one of graph, system"),
        ("", "found 'nothing'"),
        ("graph g { v0: f32[2] = neg(x) return v0 }", "no value is called 'x' so far"),
        ("graph g { input x: f32[2] v0: f32[2] = nag(x) return v0 }", "there is no operator nag"),
        ("graph g { input x: f32[] input x: f32[] return x }", "x is defined twice"),
        ("kernel k { grid i: 4 for j: 2 {", "expected a stage, found 'the end'"),
        ("kernel k { kind i: fast }", "expected a kind"),
        ("function f { takes n }", "no dim is called 'n'"),
        ("function f { 3 }", "expected a statement"),
        ("function f { alloc t: f32[] @heap }", "'heap' is no space"),
        ("system s { } }", "expected the end"),
    ],
)
def test_level_errors(source, message):
    with pytest.raises(ParseError, match=message):
        parse(source)


def test_to_text_refuses_other_things():
    with pytest.raises(TypeError, match="int is no level"):
        to_text(3)
