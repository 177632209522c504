"""Each rule of each verifier: well-formed programs pass, and one broken in that way does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ferrule.base.dtype import boolean, f32, i32, i64
from ferrule.base.errors import CompileError, VerifyError
from ferrule.ir.expr import TRUE, ZERO, Buf, arg, axis, const, dim, load, lt, rebuild_as
from ferrule.ir.graph import OPDEFS, Graph, Node, OpDef, TensorType, Value
from ferrule.ir.kernel import Branch, Kind
from ferrule.ir.loop import For
from ferrule.ir.monoids import SUM
from ferrule.ir.program import Placed, Variants
from ferrule.ir.system import Access, Monoid, Reduce
from ferrule.ir.text import parse
from ferrule.ir.verify import verify


def refused(source, message, **changes):
    """That the level written in `source` breaks a rule."""
    level = parse(source)
    if changes:
        level = replace(level, **changes)
    with pytest.raises(VerifyError, match=message):
        verify(level)


# ---- System --------------------------------------------------------------------------------------

SOFTMAX = """
system softmax {
  dim n
  input x: f32[n, 5]
  output y: f32[n, 5]
  buf m: f32[n]
  buf s: f32[n]
  m: [i: n] m[i] = reduce max:f32 [j: 5] (x[i, j])
  s: [i: n] s[i] = reduce sum:f32 [j: 5] (exp(x[i, j] - m[i]))
  y: [i: n, j: 5] y[i, j] = exp(x[i, j] - m[i]) / s[i]
}
"""


def system(stages, declarations="output y: f32[n]"):
    return f"system t {{ dim n input x: f32[n] input k: i64[n] {declarations} {stages} }}"


def test_a_system_that_is_fine():
    verify(parse(SOFTMAX))
    verify(
        parse(
            system("""
              a: [i: n] y[i] = 0.0
              b: [i: n] y[bounded(k[i], n)] = x[i] combine sum:f32 update
              c: [] y[i] = scan sum:f32 [i: n] (x[i]) where i < 3 when i < 2 update
              d: [] y[i] = sorted [i: n] (x[i]) by $1 < $0 when i < 2 update
            """)
        )
    )


def test_the_message_shows_the_equations_around():
    with pytest.raises(VerifyError) as caught:
        verify(parse(SOFTMAX.replace("  m: [i: n]", "  m: [q: n] m[q] = 0.0\n  t: [i: n]")))
    text = str(caught.value)
    assert text.startswith("system softmax: t defines m again\n  rule: a buffer is defined by one")
    assert "\n     m: [q: n] m[q] = 0.0\n  -> t: [i: n] m[i] = reduce max:f32" in text
    assert "y: [i: n, j: 5]" not in text.split("s: [i: n]")[0]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("a: [i: n] y[i] = cast<i32>(x[i])", "y holds f32 and is given i32"),
        ("a: [] y[i] = scan sum:i64 [i: n] (k[i])", "y holds f32 and is given i64"),
        ("a: [i: n] y[i] = reduce sum:f64 [j: n] (cast<f64>(x[j]))", "f32 and is given f64"),
        ("a: [i: n] y[i, i] = x[i]", "target y takes 1 indices, not 2"),
        ("a: [i: n] y[cast<i32>(i)] = x[i]", "index cast<i32>.* is of i32"),
        ("a: [i: n] y[i] = x[i] where i + 1", "condition i . 1 is of i64"),
        ("a: [] y[i] = sorted [i: n] (k[i]) by $0 < $1", "y holds f32 and is given i64"),
        ("a: [] y[i] = sorted [i: n] (x[i]) by $0 + $1", "the order .* is of f32"),
        ("a: [] y[i] = sorted [i: n] (x[i]) by $0 < x[0]", "the order mentions x"),
        ("a: [] y[i] = sorted [i: n] (x[i]) by $0 < $1 where i < 3", "and there is a where"),
        ("a: [] y[i] = sorted [i: n] (x[i], x[i]) by $0 < $2", "1 targets for 2 values"),
        ("a: [i: n] y[i] = reduce sum:i64 [j: n] (x[j])", "sum of i64 is given f32"),
        ("a: [i: n] y[i] = reduce sum:f32 [j: n] (x[j]) init (1)", "init of i64 for sum of f32"),
        ("a: [i: n] y[i] = reduce sum:f32 [j: n] (x[j]) init (1.0, 2.0)", "init has 2 values"),
        ("a: [i: n] y[i] = reduce argmax:f32 [j: n] (x[j])", "folds 2 values, not 1"),
        ("a: [i: n] y[i] = x[i] combine argmax:f32 update", "combines 2 values, not 1"),
        ("a: [i: n] y[i] = x[i] combine sum:f32", "updates y, which nothing before it defines"),
        ("a: [i: n] y[i] = x[i] update", "updates y, which nothing"),
        ("b: [i: n] y[i] = 0.0 a: [i: n] x[i] = x[i]", "writes the input x"),
        ("a: [i: n] y[i] = y[i]", "reads y, which nothing before it defines"),
        ("a: [i: n, i: 3] y[i] = x[i]", "two axes are called i"),
        ("", "output y is defined nowhere"),
        ("a: [i: k[0]] y[i] = 1.0", r"extent k\[0\] of i is no expression over dims"),
        ("a: [i: -1] y[i] = 1.0", "extent of i is -1"),
        ("a: [i: n] y[i] = x[i] & x[i]", "and has no meaning on f32"),
        ("a: [i: n] y[i] = x[cast<i32>(i)]", "indices are i64, not i32"),
        ("a: [i: n] y[i] = bitcast<f32>(k[i])", "bitcast of i64 to f32: widths differ"),
    ],
)
def test_systems_that_are_not(stages, message):
    refused(system(stages), message)


def broken_stage(**changes):
    st = parse(system("a: [i: n] y[i] = x[i]")).stages[0]
    compute = {k: changes.pop(k) for k in ("axes", "values", "fold", "where") if k in changes}
    return (replace(st, compute=replace(st.compute, **compute), **changes),)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("y[i] = y[i - 1] + x[i] where i > 0 update", r"y\[.*\] is read where y\[i\] is written"),
        ("y[i] = y[0] + x[i] update", r"y\[0\] is read where y\[i\] is written"),
        ("y[n - 1 - i] = y[i] update", "is read where"),
        ("y[i] = x[i] where y[n - 1 - i] < x[i] update", "is read where"),
        ("y[i] = reduce sum:f32 [j: n] (y[j]) update", "is read where"),
        ("y[bounded(k[i], n)] = y[i] combine sum:f32 update", "y is combined into and read"),
        ("y[i] = y[i] * 2.0 + x[n - 1 - i] update", None),
        ("y[i + 0] = reduce sum:f32 [j: n] (x[j]) init (y[i]) update", None),
    ],
)
def test_updates_in_place(stage, message):
    """A point may read the element that it writes, and no other one."""
    source = system(f"a: [i: n] y[i] = 0.0 b: [i: n] {stage}")
    if message is None:
        verify(parse(source))
    else:
        refused(source, message)


I, J, N = axis("i", dim("n")), axis("j", 3), dim("n")
X, Y = Buf("x", (N,), f32), Buf("y", (N,), f32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": (load(X, J),)}, "the value mentions j; the axes there are i"),
        ({"where": lt(J, 3)}, "where mentions j"),
        ({"when": lt(J, 3)}, "when mentions j"),
        ({"targets": (Access(Y, (J,)),)}, "the index of y mentions j"),
        ({"fold": Reduce((J,), SUM(f32), (load(X, J),))}, "init mentions j"),
        ({"targets": (Access(Y, (I,)), Access(Y, (I,)))}, "2 targets for 1 values"),
        ({"values": (arg(0, f32),)}, "mentions an operand of a monoid"),
        ({"axes": (I, axis("n", 2))}, "an axis and a dim are called n"),
        ({"axes": (I, axis("m", J))}, "extent j of m is no expression over dims"),
        (
            {"values": (load(X, N - 1 - axis("n", 2)),), "axes": (I, axis("n", 2))},
            "an axis and a dim",
        ),
        ({"values": (rebuild_as("add", (load(X, I), I), None, f32),)}, "add of f32 and i64"),
        ({"values": (rebuild_as("exp", (load(X, I),), None, i32),)}, "exp gives f32, not i32"),
        ({"values": (rebuild_as("exp", (I, I), None, f32),)}, "exp is no operator of 2"),
        ({"values": (rebuild_as("select", (I, load(X, I), load(X, I)), None, f32),)}, "select of"),
        ({"values": (rebuild_as("load", (I, I), X, f32),)}, "x takes 1 indices, not 2"),
        ({"values": (rebuild_as("load", (I,), X, i64),)}, "x holds f32"),
        ({"where": rebuild_as("bounded", (I, load(X, I)), None, boolean)}, "bounded takes i64"),
        ({"values": (rebuild_as("checked", (load(X, I), I), "index", f32),)}, "checked takes"),
        ({"values": (rebuild_as("checked", (load(X, I), TRUE), "x", f32),)}, "x is no fault"),
    ],
)
def test_stages_that_no_text_can_write(changes, message):
    source = system("a: [i: n] y[i] = x[i]")
    refused(source, message, stages=broken_stage(**changes))


@pytest.mark.parametrize(
    ("monoid", "message"),
    [
        (Monoid("m", (const(0, f32),), ()), "1 identities and 0 results"),
        (Monoid("m", (const(0, f32),), (arg(1, f32) + arg(2, f32),)), r"m mentions \$2"),
        (Monoid("m", (const(0, f32),), (lt(arg(0, f32), arg(1, f32)),)), "gives bool for f32"),
        (Monoid("m", (const(0, f32),), (load(X, ZERO),)), r"m mentions x\[0\]"),
        (
            Monoid("m", (const(0, f32),), (rebuild_as("add", (arg(0, f32), I), None, f32),)),
            "add of",
        ),
    ],
)
def test_monoids_that_are_not(monoid, message):
    refused(
        system("a: [i: n] y[i] = x[i]"),
        message,
        stages=broken_stage(fold=Reduce((J,), monoid)),
    )


def test_names_mean_one_thing():
    other = Buf("x", (N,), i32)
    refused(
        system("a: [i: n] y[i] = x[i]"),
        "two buffers are called x",
        params=(other,),
    )
    refused(system("a: [i: n] y[i] = x[i]"), "x is given twice", params=(X,))
    refused(
        system("a: [i: n] y[i] = x[i]"),
        "two dims are called n",
        params=(Buf("w", (dim("n", 1),), f32),),
    )


# ---- Kernel --------------------------------------------------------------------------------------


def kernel(body, head="grid i: n", scratch=""):
    bufs = "buf x: f32[n, 8] buf y: f32[n, 8] buf z: f32[n]"
    return f"kernel k {{ dim n {bufs} {head} {scratch} {body} }}"


FINE = kernel(
    """
    m: [] m[] = reduce max:f32 [j: 8] (x[i, j])
    for o: 2 {
      scratch r: f32[4] @reg
      r: [u: 4] r[u] = x[i, o * 4 + u] - m[]
      y: [u: 4] y[i, o * 4 + u] = r[u]
    }
    z: [] z[0] = m[] when i == 0
    w: [] z[1] = m[] when i < 1
    """,
    "grid i: n kind u: lanes",
    "scratch m: f32[] @scratch",
)


def test_a_kernel_that_is_fine():
    verify(parse(FINE))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (kernel("z: [] z[0] = x[i, 0]"), "z is stored at every point of the grid axis i"),
        (kernel("z: [] z[0] = x[i, 0] when i < 2"), "every point of the grid axis i"),
        (
            kernel("a: [j: 8] y[i, j] = 0.0 b: [j: 8] y[i, j] = y[i, 7 - j] update"),
            "is read where",
        ),
        (kernel("z: [] z[0] = x[i, 0] when i == i"), "every point of the grid axis i"),
        (
            kernel("a: [] z[i] = t[]", scratch="scratch t: f32[] @scratch"),
            "scratch t is read and nothing before has written it",
        ),
        (
            kernel(
                "a: [] t[] = 0.0 combine sum:f32 update", scratch="scratch t: f32[] @scratch"
            ),
            "scratch t is read",
        ),
        (kernel("", scratch="scratch t: f32[]"), "t is declared as scratch and is global"),
        (
            kernel("for i: 2 { }  z: [i: 2] z[i] = 0.0"),
            "two axes are called i",
        ),
        (kernel("a: [u: 8] y[i, u] = x[i, u]", "grid i: n kind u: lanes"), None),
        (
            kernel("a: [u: n] z[u] = 0.0 when i < 1", "grid i: n kind u: lanes"),
            "lanes axis u has no constant extent",
        ),
        (
            kernel("for v: 2 { a: [u: 8] y[i, u] = 1.0 }", "grid i: n kind u: lanes, v: lanes"),
            "u, v are LANES axes at once",
        ),
        (
            kernel("a: [u: 4] r[u] = 1.0", scratch="scratch r: f32[4] @reg"),
            "register buffer r is indexed by u",
        ),
        (
            kernel("a: [u: 4] r[n - 1] = 1.0", scratch="scratch r: f32[4] @reg"),
            "register buffer r is indexed by n",
        ),
        (
            kernel("a: [] r[0] = 1.0", scratch="scratch r: f32[n] @reg"),
            "register buffer r has no constant shape",
        ),
        (
            kernel("prefetch x[k[i + 1], 0] write  a: [] z[i] = 0.0", "buf k: i64[n] grid i: n"),
            "the hint at x reads memory",
        ),
        (kernel("if i < 3 { a: [] z[i] = 0.0 }"), None),
        (kernel("if i { a: [] z[i] = 0.0 }"), "if i: the condition is of i64"),
        (
            kernel("if t[] < 1.0 { }", scratch="scratch t: f32[] @scratch"),
            "if t.* < 1.0: the scratch t is read and nothing before has written it",
        ),
        (
            kernel("if i < 3 { a: [] z[0] = x[i, 0] }"),
            "z is stored at every point of the grid axis i",
        ),
    ],
)  # fmt: skip
def test_kernels_that_are_not(source, message):
    if message is None:
        verify(parse(source))
    else:
        refused(source, message)


def test_a_branch_mentions_what_is_open():
    found = parse(kernel("a: [] z[i] = 0.0"))
    with pytest.raises(VerifyError, match="it mentions o; the axes there are i"):
        verify(replace(found, body=(Branch(lt(axis("o", 2), 1), found.body),)))
    with pytest.raises(VerifyError, match="it mentions an operand of a monoid"):
        verify(replace(found, body=(Branch(lt(arg(0, f32), 1.0), found.body),)))


def test_scratch_ends_with_its_scope():
    found = parse(FINE)
    scope = found.body[1]
    late = scope.body[0]
    moved = replace(late, targets=(Access(found.scratch[0], ()),), compute=replace(
        late.compute, axes=(), values=(load(scope.scratch[0], ZERO),)))  # fmt: skip
    with pytest.raises(VerifyError, match="the scratch r is not alive here"):
        verify(replace(found, body=(*found.body, moved)))
    with pytest.raises(VerifyError, match="two buffers are called m"):
        verify(replace(found, scratch=(*found.scratch, *found.scratch)))


# ---- Function ------------------------------------------------------------------------------------


def function(body, head="takes n grid i: n"):
    bufs = "write y: f32[n] read x: f32[n, 8] read k: i64[n]"
    return f"function f {{ dim n dim m {bufs} {head} {body} }}"


def test_a_function_that_is_fine():
    verify(parse(function("""
        alloc acc: f32[2, 4] @reg
        for u: 2 unroll { for v: 4 lanes { store acc[u, v] = 0.0 } }
        for o: n serial {
          for u: 2 unroll { for v: 4 lanes { store acc[u, v] = x[i, u * 4 + v] by sum:f32 } }
        }
        store y[i] = 0.0
        for u: 2 unroll { for v: 4 lanes { store y[i] = acc[u, v] by sum:f32 } }
        if i < 2 { prefetch x[i + 1, 0] } else { store y[i] = acc[0, 1] }
        alloc go: bool[] @scratch
        store go[] = y[i] < 4.0
        while go { store y[i] = 1.0 by sum:f32 store go[] = y[i] < 4.0 }
    """)))  # fmt: skip


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("store y[i] = k[i]", "y holds f32 and is given i64"),
        ("store y[i, 0] = 1.0", "y takes 1 indices, not 2"),
        ("store x[i, 0] = 1.0", "x is stored to and listed as read only"),
        ("store y[i] = 1.0 by sum:i64", "sum does not fit the values"),
        ("store (k[i], k[0]) = (1, i) by argmax:i64", "argmax combines at different indices"),
        ("store (y[i], y[i]) = (1.0)", "2 targets for 1 values"),
        ("if i { }", "condition i is of i64"),
        ("for j: 4 in 0..k[0] unroll { }", "unroll loop over j has no constant bounds"),
        ("for j: n lanes { }", "lanes loop over j has no constant bounds"),
        ("for j: 4 in 0..5 serial { }", "j runs to 5 and its extent is 4"),
        ("for j: 4 in -1..4 serial { }", "j starts at -1"),
        ("for j: 4 in 0..1.0 serial { }", "bounds of j are of i64 and f32"),
        ("for u: 2 lanes { for v: 4 lanes { } }", "over v stands inside another one"),
        ("for u: 2 serial { for u: 4 serial { } }", "axis u is open already"),
        ("for i: 2 serial { }", "axis i is open already"),
        ("alloc t: f32[2]", "t is allocated and is global"),
        ("alloc t: f32[] @reg alloc t: f32[] @reg", "called t is alive already"),
        ("alloc t: f32[n] @reg store t[0] = 1.0", "register buffer t has no constant shape"),
        ("alloc t: f32[4] @reg store t[i] = 1.0", "register buffer t is indexed by i"),
        ("for v: 4 lanes { store y[i] = x[i, v] }", "every lane stores a value of its own"),
        ("store y[i] = cast<f32>(m)", "it uses m and takes n"),
        ("alloc t: f32[] @reg while t { store t[] = 1.0 }", "flag t of a while is no bool"),
        ("alloc t: bool[2] @scratch while t { store t[0] = false }", "t of a while is no bool"),
        ("alloc t: bool[] @scratch while t { store y[i] = 1.0 }", "never writes its flag t"),
        (
            "alloc t: bool[] @scratch for v: 4 lanes { while t { store t[] = false } }",
            "a while stands inside a LANES loop",
        ),
    ],
)
def test_functions_that_are_not(body, message):
    refused(function(body), message)


def test_functions_that_no_text_can_write():
    f = parse(function("alloc t: f32[] @scratch store t[] = 1.0"))
    loop = For(axis("j", 4), ZERO, const(4), Kind.SERIAL, f.body)
    with pytest.raises(VerifyError, match="t is neither an argument nor alive"):
        verify(replace(f, body=(loop, f.body[1])))
    with pytest.raises(VerifyError, match="i is not bound in x"):
        verify(replace(parse(function("store y[i] = x[i, 0]")), grid=()))
    with pytest.raises(VerifyError, match="the argument t is scratch"):
        verify(replace(f, bufs=(*f.bufs, f.body[0].buf), body=()))
    with pytest.raises(VerifyError, match="two buffers are called y"):
        verify(replace(f, bufs=(*f.bufs, f.bufs[0])))


# ---- Program -------------------------------------------------------------------------------------

PROGRAM = """
program p {
  dim n 1..16
  input x: f32[n]
  param p: f32[16]
  output y: f32[n]
  takes n
  const w: f32[16] at 0
  temp t: f32[n] at 0
  temp u: f32[n] at 64
  const_bytes 64
  arena_bytes 128
  scratch_bytes 0
  function double { dim n 1..16 write o: f32[n] read a: f32[n] takes n grid i: n store o[i] = a[i] }
  function pack { write o: f32[16] read a: f32[16] grid i: 16 store o[i] = a[i] }
  function add {
    dim n 1..16 write o: f32[n] read a: f32[n] read w: f32[16] takes n grid i: n
    store o[i] = a[i] + w[i]
  }
  prepare { run a { phase { call pack(w, p) cost 1 } } }
  main {
    run b { phase { call double(t, x) cost 1 } phase { call add(u, t, w) cost 1 } }
    variants {
      when n < 4 { run c { phase { call double(y, u) cost 1 } } }
      when true { run d { phase { call double(t, u) cost 1 } phase { call double(y, t) cost 1 } } }
    }
  }
}
"""


def test_a_program_that_is_fine():
    verify(parse(PROGRAM))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("call double(t, x)", "call triple(t, x)", "there is no function triple"),
        ("call double(t, x)", "call double(t, x, x)", "double takes 2 buffers, not 3"),
        ("call pack(w, p)", "call pack(w, w)", "given w to write and once more|w is read and"),
        ("call double(t, x)", "call pack(t, x)", r"pack takes o: .* and is given t: f32\[n\]"),
        ("call double(t, x)", "call double(t, u)", "u is read and nothing before has written it"),
        ("call double(t, x)", "call double(x, t)", "main writes x"),
        ("call add(u, t, w)", "call add(u, t, p)", None),
        ("call pack(w, p)", "call double(t, x)", "prepare touches x"),
        ("prepare { run a { phase { call pack(w, p) cost 1 } } }", "", "w is read and nothing"),
        ("call double(y, t)", "call double(t, u)", "nothing writes the output y"),
        ("u: f32[n] at 64", "u: f32[n] at 0", r"t at 0\.\.4 and u at 0\.\.4 overlap"),
        ("u: f32[n] at 64", "u: f32[n] at 32", r"u is placed at 32\.\.36 of 128 bytes for n = 1"),
        ("u: f32[n] at 64", "u: f32[n] at 128", r"u is placed at 128\.\.132 of 128 bytes"),
        ("} phase { call add(", "call add(", "t is written and read in one phase"),
        ("takes n\n", "\n", "sizes depend on n|takes n, which the program has not"),
    ],
)  # fmt: skip
def test_programs_that_are_not(old, new, message):
    assert old in PROGRAM
    source = PROGRAM.replace(old, new, 1)
    if message is None:
        verify(parse(source))
    else:
        refused(source, message)


def test_programs_that_no_text_can_write():
    found = parse(PROGRAM)
    variants = found.main[1]
    with pytest.raises(VerifyError, match="the last of the variants has a guard"):
        verify(replace(found, main=(found.main[0], Variants(variants.branches[:1]))))
    with pytest.raises(VerifyError, match="two functions are called double"):
        verify(replace(found, functions=(*found.functions, found.functions[0])))
    with pytest.raises(VerifyError, match="t is listed twice"):
        verify(replace(found, temps=(*found.temps, found.temps[0])))
    with pytest.raises(VerifyError, match="given u, which has no place"):
        verify(replace(found, temps=found.temps[:1]))
    other = Placed(Buf("v", (const(16),), f32), ZERO)
    with pytest.raises(VerifyError, match=r"w at 0\.\.64 and v at 0\.\.64 overlap"):
        verify(replace(found, consts=(*found.consts, other)))
    broken = replace(found.functions[0], written=0)
    with pytest.raises(VerifyError, match="function double: o is stored to"):
        verify(replace(found, functions=(broken, *found.functions[1:])))


def test_branches_may_share_memory():
    """A temp of one branch may lie where a temp of the other one does."""
    source = PROGRAM.replace("temp u: f32[n] at 64", "temp u: f32[n] at 64 temp v: f32[n] at 0")
    short = "phase { call double(y, u) cost 1 }"
    longer = "phase { call double(v, u) cost 1 } phase { call double(y, v) cost 1 }"
    source = source.replace(short, longer, 1)
    assert longer in source
    verify(parse(source))


# ---- Graph ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def first_op(monkeypatch):
    def infer(types, attrs):
        if attrs.get("bad"):
            raise CompileError("a bad attribute")
        return types[0]

    definition = OpDef("test_first", infer, lambda a, _: a[0], lambda *_: [])
    monkeypatch.setitem(OPDEFS, "test_first", definition)


T = TensorType((N, const(4)), f32)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ("v: f32[n, 4] = test_first(x)", None),
        ("v: f32[4, n] = test_first(x)", r"v is f32\[4, n\] and should be f32\[n, 4\]"),
        ("v: f32[n, 4], w: f32[] = test_first(x)", "it has 1 results, not 2"),
        ("v: f32[n, 4] = test_first(x) {bad = true}", "a bad attribute"),
        ("v: f32[n, 4.0] = test_first(x)", "size 4.0 of v is no i64 over dims"),
        ("x: f32[n, 4] = test_first(x) v: f32[n, 4] = test_first(x)", "two values are called x"),
    ],
)
def test_graphs(nodes, message):
    source = f"graph g {{ dim n input x: f32[n, 4] {nodes} return v }}"
    if message is None:
        verify(parse(source))
    else:
        refused(source, message)


def test_graphs_that_no_text_can_write():
    x, y = Value("x", T), Value("y", T)
    with pytest.raises(VerifyError, match=r"takes y: .* which nothing before defines"):
        verify(Graph("g", (x,), (), (Node("test_first", (y,), (Value("z", T),)),), (x,)))
    with pytest.raises(VerifyError, match="there is no operator test_absent"):
        verify(Graph("g", (x,), (), (Node("test_absent", (x,), (y,)),), (y,)))
    with pytest.raises(VerifyError, match="the output y is defined nowhere"):
        verify(Graph("g", (x,), (), (), (y,)))
