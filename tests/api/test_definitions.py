"""ferrule.define_operator: what is refused, definitions again and the cache, text, elements."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ferrule
from ferrule import elements as el
from ferrule.base import dtype as dt
from ferrule.base.config import override
from ferrule.base.errors import CompileError, InputError, InputTypeError, ParseError
from ferrule.ir.expr import Expr, arg
from ferrule.ir.graph import Graph, Node, Value, definitions, tensor
from ferrule.ir.operators import OPERATORS
from ferrule.ir.text import parse, to_text
from ferrule.ir.verify import verify
from tests.api.own import (
    NAMES,
    compiled_of,
    f32,
    graph_of,
    own_apart,
    own_mixed,
    own_shrink,
    session,
    simple,
)

ROOT = Path(__file__).parents[2]


# ---- definitions that are refused ----------------------------------------------------------------


def one(x: Any) -> Any:
    return x


@pytest.mark.parametrize(
    ("fn", "given", "message"),
    [
        (one, {"meaning": None}, "one has no meaning"),
        (one, {"meaning": 3}, "one has no meaning"),
        (lambda x: x, {}, "'<lambda>' is no name for an operator"),
        (one, {"name": "two words"}, "'two words' is no name"),
        (one, {"name": "add"}, "add is an operator of ferrule itself"),
        (one, {"accepts": "fc"}, "accepts='fc'"),
        (one, {"meaning": lambda x, y: x}, "meaning is called as meaning(x)"),
        (one, {"meaning": lambda: 0}, "meaning is called as meaning(x)"),
        (one, {"onnx": "com.example"}, 'onnx is ("domain", "OpType")'),
        (one, {"onnx": ("", "Relu")}, "the default domain is not for operators of your own"),
        (one, {"onnx": ("ai.onnx.ml", "Scaler")}, "ai.onnx.ml is not for operators of your own"),
        (one, {"onnx": ("com.example", "Shrink")}, "own_shrink has the ONNX node"),
        (lambda x, by=2: x, {"name": "n"}, "by has a default, and operands have none"),
        (lambda *xs: xs[0], {"name": "n"}, "*xs is neither an operand nor an attribute"),
        (lambda *, by=2: by, {"name": "n"}, "n has no operands"),
        (lambda x, *, by: x, {"name": "n"}, "by needs a default that tells its type"),
        (lambda x, *, by=None: x, {"name": "n"}, "by needs a default that tells its type"),
        (lambda x, *, by=(1, 2.0): x, {"name": "n"}, "by needs a default that tells its type"),
        (lambda x: "x", {"name": "n"}, "its value is a str, and should be made of its operands"),
        (lambda x: np.exp(x), {"name": "n"}, "functions of ferrule.elements"),
        (lambda x: el.where(x == 0, 1.0, x), {"name": "n"}, "takes a bool element first"),
        (lambda x: arg(3, x.dtype) + x, {"name": "n"}, "$3 in it, which is none of its operands"),
        (lambda x: el.and_(x, el.sqrt(x)), {"name": "n"}, "has no meaning on f32"),
    ],
)
def test_definitions_that_are_not_understood(fn: Any, given: Any, message: str) -> None:
    attributes = "by=0" if "by" in fn.__code__.co_varnames else ""
    meaning = eval(f"lambda x{', ' + attributes if attributes else ''}: x")
    with pytest.raises(InputError, match=re.escape(message)):
        ferrule.define_operator(fn, **{"meaning": meaning, **given})


def test_calls_that_do_not_fit() -> None:
    x = f32(3)
    for given, named, message in (
        ((x, x), {}, "own_shrink takes the operands x, got 2 by place"),
        ((), {}, "takes the operands x, got 0 by place"),
        ((x,), {"bounds": 1}, "no attribute 'bounds'; its attributes are: bound"),
        ((x,), {"bound": "1"}, "bound: expected a value of type float, got '1'"),
        ((["a"],), {}, "cannot be combined"),
    ):
        with pytest.raises(InputTypeError, match=message):
            own_shrink(*given, **named)
    with pytest.raises(InputTypeError, match="by: expected a value of type int"):
        own_apart(x, x, by=1.5)
    with pytest.raises(InputTypeError, match="factors: expected a tuple of float"):
        own_mixed(x, factors="12")
    with pytest.raises(CompileError, match="do not broadcast"):
        own_apart(f32(3), f32(4))
    flat = ferrule.define_operator(lambda x: x, meaning=lambda x: x.sum(), name=next(NAMES))
    with pytest.raises(InputError, match="its meaning gave an array of shape"):
        flat(x)


# ---- definitions again ---------------------------------------------------------------------------


def test_a_name_of_ones_own_may_be_defined_again() -> None:
    name, x = next(NAMES), f32(4)
    former = simple(2.0, name=name)
    kept = ferrule.jit(lambda x: former(x))
    np.testing.assert_array_equal(kept(x), x * 2)
    new = simple(3.0, name=name, onnx=("com.example", "Again"))
    np.testing.assert_array_equal(ferrule.jit(lambda x: new(x))(x), x * 3)
    np.testing.assert_array_equal(kept(x), x * 2)  # compiled before
    with pytest.raises(InputError, match=f"{name} has been defined again"):
        former(x)
    s = session("Again", "com.example")
    np.testing.assert_array_equal(s.run(None, {"x0": x})[0], (x + x) * -3)
    with pytest.raises(ferrule.UnsupportedError, match=name):
        session(name, "ferrule")  # the node of the former definition


def _ran(op: Any, x: Any) -> tuple[Any, int, int]:
    """The result of a program that has the operator, compilations, programs from the cache."""
    ferrule.reset_counters()
    out = ferrule.jit(lambda x: op(x) + 1)(x)
    counts = ferrule.counters()
    return out, counts["compilations"], counts["cache_hits"]


def test_two_definitions_never_share_a_cached_program(tmp_path: Path) -> None:
    """The graphs are the same: the operator's name and its operand."""
    name, x = next(NAMES), f32(4)
    with override(cache_dir=str(tmp_path)):
        for factor, new in ((2.0, True), (3.0, True), (2.0, False), (3.0, False)):
            out, compiled, cached = _ran(simple(factor, name=name), x)
            np.testing.assert_allclose(out, x * factor + 1, rtol=1e-6)
            assert (compiled, cached) == ((1, 0) if new else (0, 1)), factor
        # what a definition depends on may be anywhere: here in a variable that its code names
        held = {"by": 4.0}
        value = lambda x: x * held["by"]  # noqa: E731
        for by in (4.0, 5.0, 4.0):
            held["by"] = by
            out, _, _ = _ran(ferrule.define_operator(value, meaning=value, name=name), x)
            np.testing.assert_allclose(out, x * by + 1, rtol=1e-6)


def test_a_value_is_asked_once_so_that_the_key_is_that_of_the_program(tmp_path: Path) -> None:
    name, x, state = next(NAMES), f32(4), {"by": 1.0}

    def value(x: Any) -> Any:
        state["by"] += 1
        return x * state["by"]

    with override(cache_dir=str(tmp_path)):
        for expected in (2.0, 3.0):
            op = ferrule.define_operator(value, meaning=lambda x: x, name=name)
            out, _, _ = _ran(op, x)
            np.testing.assert_allclose(out, x * expected + 1, rtol=1e-6)


def test_a_loop_around_it_has_it_in_its_key() -> None:
    """The operator stands in a graph inside of the graph."""
    name = next(NAMES)
    stamps = []
    for factor in (2.0, 3.0):
        inner = graph_of(simple(factor, name=name), dt.f32, [(3,)])
        y = Value("y", inner.outputs[0].type)
        outer = Graph("g", inner.inputs, (), (Node("loop", (), (y,), (("body", inner),)),), (y,))
        stamps.append(definitions(outer))
    assert name in stamps[0]
    assert stamps[0] != stamps[1]


def test_a_formula_that_shares_parts_has_a_short_stamp() -> None:
    def value(x: Any) -> Any:
        for _ in range(60):
            x = el.max(x * 0.5, x - 1)
        return x

    op = ferrule.define_operator(value, meaning=lambda x: x, name=next(NAMES), accepts="f")
    types = (tensor((3,), dt.f32),)
    assert len(op._own._stamp(types, {})) < 20000


# ---- text ----------------------------------------------------------------------------------------


def test_text_is_read_where_the_operator_is_defined(tmp_path: Path) -> None:
    graph = graph_of(own_shrink, dt.f32, [(4,)], bound=0.25)
    text = to_text(graph)
    again = parse(text)
    assert again == graph
    verify(again)
    short = parse(text.replace(" {bound = 0.25}", ""))  # the default
    verify(short)
    x = f32(4)
    np.testing.assert_array_equal(compiled_of(short)(x)[0], own_shrink(x))
    with pytest.raises(ferrule.VerifyError, match="no attribute 'bount'"):
        verify(parse(text.replace("bound =", "bount =")))

    file = tmp_path / "graph.txt"
    file.write_text(text)
    run = [sys.executable, "-m", "ferrule", "opt", str(file), "--to", "kernels"]
    found = subprocess.run(run, capture_output=True, text=True, cwd=ROOT, check=False)
    assert found.returncode == 1
    assert "there is no operator own_shrink: where it is one of your own" in found.stderr
    with pytest.raises(ParseError, match="there is no operator own_nothing") as caught:
        parse(text.replace("own_shrink", "own_nothing"))
    assert (caught.value.line, caught.value.column) == (3, 16)


# ---- elements, imports, documents ----------------------------------------------------------------


def test_elements_has_every_function_of_the_scalar_language() -> None:
    named = {n.rstrip("_") for n, f in vars(el).items() if callable(f)}
    assert set(OPERATORS) - named == {"word", "dot4", "exp_nonpositive"}
    x, y, z = (arg(i, dt.f32) for i in range(3))
    for name, record in OPERATORS.items():
        f = getattr(el, name, None) or getattr(el, f"{name}_", None)
        if f is not None:
            made = f(*(x, y, z)[: record.arity])
            assert isinstance(made, Expr)
            assert made.op == name


def test_numbers_among_elements() -> None:
    x, n = arg(0, dt.f32), arg(0, dt.i32)
    assert el.max(1, x) is el.max(el.cast(1, "f32"), x)
    assert el.where(el.ge(x, 0), x, 2) is el.where(el.le(0, x), x, 2.0)
    with pytest.raises(InputTypeError, match="one element at least"):
        el.where(el.ge(x, 0), 1, 2)
    with pytest.raises(InputTypeError, match=r"elements\.add takes elements of one dtype"):
        el.add(x, n)
    with pytest.raises(TypeError, match=r"the number 1\.5 is none of i32"):
        n * 1.5


def test_frameworks_are_imported_for_their_own_values_alone() -> None:
    program = """
import sys, numpy as np, ferrule
assert "ferrule.api.operators" not in sys.modules
f = ferrule.define_operator(lambda x: x * 2, meaning=lambda x: x * 2, name="own_double")
assert ferrule.jit(lambda x: f(x))(np.ones(3)).sum() == f(np.ones(3)).sum() == 6
assert not {"torch", "onnx"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


@pytest.mark.slow
def test_the_page_for_users_runs() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    page = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
    program = "".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    lines = run.stdout.splitlines()
    said = re.findall(r"#  ?(\[.*\]|1)$", program, re.MULTILINE)
    assert len(said) == 4
    assert all(line in lines for line in said), run.stdout
    assert sum(line.startswith("kernel ") for line in lines) == 1
