"""The parts of a bundle: sizes as code against sizes as Python, static libraries, and the whole C
API on another architecture.
"""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ferrule.base.config import settings
from ferrule.base.cpu import architecture
from ferrule.base.dtype import bf16, f32, i32
from ferrule.base.errors import CompileError
from ferrule.base.shapes import shape_function
from ferrule.codegen.capi.body import Body, Writer
from ferrule.codegen.capi.levels import LEVELS, ordered
from ferrule.codegen.capi.sizes import division, sizes_function
from ferrule.codegen.link.archive import archive
from ferrule.codegen.llvm.compile import compile_module
from ferrule.ir.expr import const, dim
from ferrule.ir.graph import GraphBuilder, TensorType
from ferrule.ir.source import Given, Made, Source
from ferrule.ops import iota, matmul, mul, neg, relu
from ferrule.pipeline.bundle import bundle
from ferrule.runtime import native, pool
from ferrule.target.cpu import PORTABLE, portable
from tests.api.clibrary import CLibrary, Failed, built, members, outcome, sizes, tensor
from tests.codegen.library import emulator, run_emulated

DIMS = ("n", "m", "k")


def expression(rng: random.Random, depth: int) -> str:
    """A random text of the shape language."""
    if not depth or rng.random() < 0.2:
        return rng.choice([*DIMS, str(rng.randint(-9, 9))])
    a, b = expression(rng, depth - 1), expression(rng, depth - 1)
    kind = rng.randrange(9)
    if kind < 5:
        return f"({a} {rng.choice(['+', '-', '*', '//', '%'])} {b})"
    if kind == 5:
        return f"{rng.choice(['min', 'max'])}({a}, {b}, {rng.choice(DIMS)})"
    if kind == 6:
        return f"({a} if {condition(rng, depth - 1)} else {b})"
    return f"(-{a})"


def condition(rng: random.Random, depth: int) -> str:
    a, b = expression(rng, depth), expression(rng, depth)
    simple = f"({a} {rng.choice(['==', '!=', '<', '<=', '>', '>='])} {b})"
    if not depth or rng.random() < 0.5:
        return simple
    other = condition(rng, depth - 1)
    return rng.choice([f"({simple} and {other})", f"({simple} or {other})", f"(not {other})"])


def expected(text: str, values: Sequence[int], guard: bool) -> int:
    try:
        found = shape_function((text,), DIMS)(values)[0]
    except ZeroDivisionError:
        return 0 if guard else -1
    return int(bool(found)) if guard else int(found)


def test_sizes_as_code_are_those_of_python() -> None:
    rng = random.Random(11)
    extents = [expression(rng, 4) for _ in range(150)]
    guards = [condition(rng, 3) for _ in range(150)]
    m = Writer()
    division(m)
    sizes_function(m, "sizes", extents, guards, DIMS)
    text = m.written().replace("define internal void @sizes", "define void @sizes")
    (address,) = native.addresses(text, ("sizes",), {})
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(address)
    for _ in range(40):
        values = [rng.choice([0, 1, 2, 3, 7, 64, rng.randint(-50, 1000)]) for _ in DIMS]
        out = np.zeros(300, np.int64)
        run(np.array(values, np.int64).ctypes.data, out.ctypes.data)
        for k, t in enumerate(extents):
            assert out[k] == expected(t, values, False), (t, values)
        for k, t in enumerate(guards, 150):
            assert out[k] == expected(t, values, True), (t, values)


@pytest.mark.parametrize("text", ["n.x", "q + 1", "n +", "abs(n)", "n / 2", "[n]"])
def test_other_texts_are_no_sizes(text: str) -> None:
    m = Writer()
    with pytest.raises(CompileError):
        sizes_function(m, "sizes", [text], [], DIMS)


def test_all_targets_have_a_level() -> None:
    assert ordered(list(reversed(PORTABLE))) == tuple(n for n in LEVELS if n in PORTABLE)
    assert set(PORTABLE) == set(LEVELS)
    with pytest.raises(CompileError, match="vax"):
        ordered(["vax"])


# ---- static libraries ----------------------------------------------------------------------------

ONE = "define i64 @one() {\n  ret i64 1\n}\n@data = global i64 7\n"
TWO = "declare i64 @one()\ndefine i64 @two() {\n  %x = call i64 @one()\n  ret i64 %x\n}\n"


def test_tools_read_a_static_library(tmp_path: Path) -> None:
    target = portable("x86-64")
    objects = {"a.o": compile_module(ONE, target), "longer-name.o": compile_module(TWO, target)}
    (tmp_path / "lib.a").write_bytes(archive(objects))
    if shutil.which("ar") is None:
        pytest.skip("needs ar")
    listed = subprocess.run(["ar", "t", "lib.a"], cwd=tmp_path, capture_output=True, text=True)
    assert listed.stdout.split() == list(objects)
    subprocess.run(["ar", "x", "lib.a"], cwd=tmp_path, check=True)
    for name, code in objects.items():
        assert (tmp_path / name).read_bytes() == code
    index = subprocess.run(["nm", "-s", "lib.a"], cwd=tmp_path, capture_output=True, text=True)
    for name in ("one in a.o", "data in a.o", "two in longer-name.o"):
        assert name in index.stdout


@pytest.mark.parametrize("name", ["", "a/b", "sixteen-letters.o"])
def test_names_that_do_not_fit_are_refused(name: str) -> None:
    with pytest.raises(CompileError, match="no name for a member"):
        archive({name: compile_module(ONE, portable("x86-64"))})


# ---- another architecture ------------------------------------------------------------------------


def c_library(m: Writer) -> None:
    """As much of a C library as the API calls when its weights lie in memory."""
    m.globals += [
        "@heap = internal global [4194304 x i8] zeroinitializer, align 64",
        "@used = internal global i64 0",
        "@slot = internal global ptr null",
    ]

    def taken(f: Body, size: object) -> None:
        used = f.value("ptr", "@used")
        at = f.load("i64", used)
        f.store((at + size + 63) & -64, used)  # type: ignore[operator]
        f.give(f.value("ptr", "@heap") + at)

    two = {"a": "i64", "b": "i64"}
    f = m.define("ptr", "malloc", {"a": "i64"}, True)
    taken(f, f["a"])
    f = m.define("ptr", "calloc", two, True)
    taken(f, f["a"] * f["b"])
    f = m.define("ptr", "aligned_alloc", two, True)
    taken(f, f["b"])
    f = m.define("ptr", "memcpy", {"to": "ptr", "from": "ptr", "n": "i64"}, True)
    with f.each(f["n"]) as i:
        f.store(f.load("i8", f["from"] + i), f["to"] + i)
    f.give(f["to"])
    f = m.define("ptr", "__errno_location", {}, True)
    f.give(f.value("ptr", "@used"))
    f = m.define("i32", "pthread_once", {"once": "ptr", "make": "ptr"}, True)
    with f.when(f.load("i32", f["once"]).equals(0)):
        f.store(f.value("i32", 1), f["once"])
        f.call("void", f["make"])
    f.give(0)
    f = m.define("ptr", "pthread_getspecific", {"key": "i32"}, True)
    f.give(f.load("ptr", f.value("ptr", "@slot")))
    f = m.define("i32", "pthread_setspecific", {"key": "i32", "value": "ptr"}, True)
    f.store(f["value"], f.value("ptr", "@slot"))
    f.give(0)
    m.define("void", "free", {"p": "ptr"}, True).give()
    nothing = {
        "open": ("ptr", "i32", "..."), "close": ("i32",), "lseek": ("i32", "i64", "i32"),
        "munmap": ("ptr", "i64"), "sched_getaffinity": ("i32", "i64", "ptr"),
        "pthread_key_create": ("ptr", "ptr"), "pthread_mutex_init": ("ptr", "ptr"),
        "pthread_mutex_lock": ("ptr",), "pthread_mutex_unlock": ("ptr",),
        "pthread_mutex_destroy": ("ptr",), "mmap": ("ptr", "i64", "i32", "i32", "i32", "i64"),
    }  # fmt: skip
    for name, kinds in nothing.items():
        kind = {"lseek": "i64", "mmap": "ptr"}.get(name, "i32")
        zero = "null" if kind == "ptr" else "0"
        m.globals.append(f"define {kind} @{name}({', '.join(kinds)}) {{ ret {kind} {zero} }}")


def process(weights: bytes, x: np.ndarray, columns: int) -> str:
    """A program that runs the model `m` on x, and then on a tensor of a wrong size, and writes the
    result and the message.
    """
    m = Writer()
    c_library(m)
    m.globals += [
        "declare i32 @m_create_from(ptr, i64, ptr, ptr)", "declare i32 @m_run(ptr, ptr, ptr)",
        "declare void @m_destroy(ptr)", "declare ptr @m_message()",
        "declare i64 @transfer(i64, i64, ptr, i64)",
    ]  # fmt: skip
    for name, data in (("weights", weights), ("x", x.tobytes())):
        shown = "".join(f"\\{b:02X}" for b in data)
        m.globals.append(f'@{name} = internal constant [{len(data)} x i8] c"{shown}", align 64')
    rows = x.shape[0]
    size = 4 * rows * columns
    m.globals.append(f"@y = internal global [{size} x i8] zeroinitializer, align 64")
    for name, data, shape in (
        ("input", "@x", x.shape), ("output", "@y", (rows, columns)), ("wrong", "@x", (rows, 1)),
    ):  # fmt: skip
        m.table(f"{name}.shape", shape)
        packed = 2 | 2 << 32 | 32 << 40 | 1 << 48
        m.table(name, [data, 1, packed, f"@{name}.shape", "null", 0])
    f = m.define("i32", "main", {}, True)
    held, null, g = f.room(8), f.value("ptr", "null"), lambda n: f.value("ptr", f"@{n}")
    code = f.call("i32", "@m_create_from", g("weights"), f.value("i64", len(weights)), null, held)
    with f.when(code.differs(0)):
        f.give(code)
    model = f.load("ptr", held)
    code = f.call("i32", "@m_run", model, g("input"), g("output"))
    with f.when(code.differs(0)):
        f.give(code)
    out = f.value("i64", 64), f.value("i64", 1)
    f.call("i64", "@transfer", *out, g("y"), f.value("i64", size))
    code = f.call("i32", "@m_run", model, g("wrong"), g("output"))
    message = f.call("ptr", "@m_message")
    with f.when(code.equals(5)):
        f.call("i64", "@transfer", *out, message, f.value("i64", 40))
    f.call("void", "@m_destroy", model)
    f.give(0)
    return m.written()


@pytest.mark.skipif(emulator("aarch64") is None, reason="needs qemu-aarch64")
def test_the_api_runs_on_aarch64(tmp_path: Path) -> None:
    rng, b, n = np.random.default_rng(8), GraphBuilder("net"), dim("n", lo=1)
    x = b.input(TensorType((n, const(24)), f32), "x")
    w = b.param(TensorType((const(24), const(10)), f32), "w")
    graph = b.build([relu(b, matmul(b, x, w))])
    array = rng.standard_normal((24, 10)).astype("f4")
    source = Source("main", graph, ("x",), (Given(0),), (Made("y", 0),), (("w", array),))
    bundle("m", [source], ["aarch64"], tmp_path, settings())
    objects = members(tmp_path / "libm.a")
    del objects["pool.o"]
    target, given = portable("aarch64"), rng.standard_normal((7, 24)).astype("f4")
    main = process((tmp_path / "m.safetensors").read_bytes(), given, 10)
    serial = pool.ir_text("aarch64-unknown-none")
    codes = [*objects.values(), compile_module(main, target), compile_module(serial, target)]
    written = run_emulated(codes, target, tmp_path)
    y = np.frombuffer(written[:280], "f4").reshape(7, 10)
    np.testing.assert_allclose(y, np.maximum(given @ array, 0), rtol=1e-5, atol=1e-5)
    assert written[280:] == b"input x of main: axis 1 must be 24, not "


def test_a_size_may_be_an_integer_argument(tmp_path: Path) -> None:
    """Its value is read from the tensor, and must be one that the code takes."""
    b, n = GraphBuilder("count"), dim("n", lo=1, hi=50, multiple=2)
    b.input(TensorType((), i32), "n")
    x = b.input(TensorType((const(1),), f32), "x")
    graph = b.build([mul(b, x, iota(b, (n,), 0, f32))])
    given = (Given(0), Given(1))
    source = Source("main", graph, ("n", "x"), given, (Made("y", 0),), ())
    here = next(t for t, (m, _) in PORTABLE.items() if m == architecture())
    bundle("count", [source], [here], tmp_path / "count", settings())
    library = CLibrary(tmp_path / "count")
    model = library.create(None)
    x2 = np.full(1, 2, "f4")
    (y,) = library.run(model, [np.array(6, "i4"), x2])
    assert y.tolist() == [0, 2, 4, 6, 8, 10]
    for wrong in (0, -2, 7, 52):
        with pytest.raises(Failed, match="RANGE") as failed:
            library.run(model, [np.array(wrong, "i4"), x2])
        text = f"input n of main must be 1 to 50 and a multiple of 2, got {wrong};"
        assert text in failed.value.message
    null = tensor(np.array(6, "i4"))
    null.data = None
    with pytest.raises(Failed, match="NULL: input n of main has no data"):
        library.shapes([null, tensor(x2)])
    library.destroy(model)
    if shutil.which("gcc"):
        main = built(tmp_path / "count", "count", True)
        assert "y [8]" in outcome([main], tmp_path).stdout


def test_bf16_has_a_kind_of_its_own(tmp_path: Path) -> None:
    b = GraphBuilder("net")
    x = b.input(TensorType((const(5),), bf16), "x")
    source = Source("main", b.build([neg(b, x)]), ("x",), (Given(0),), (Made("y", 0),), ())
    here = next(t for t, (m, _) in PORTABLE.items() if m == architecture())
    bundle("net", [source], [here], tmp_path / "net", settings())
    library, array = CLibrary(tmp_path / "net"), np.arange(5, dtype="u2")
    model = library.create(None)
    assert library.run(model, [array])[0].tolist() == [0x8000 | k for k in range(5)]
    with pytest.raises(Failed, match="DTYPE: input x of main has dtype bfloat16, not uint16"):
        library.run_on(model, [tensor(array)], [tensor(array)])


def test_damaged_tensors_are_refused_or_run(tmp_path: Path) -> None:
    """Fields of a tensor with random values: never a crash, and nothing but what fits is run."""
    b, n, rng = GraphBuilder("net"), dim("n", lo=1, hi=9), random.Random(3)
    x = b.input(TensorType((n, const(4)), f32), "x")
    source = Source("main", b.build([relu(b, x)]), ("x",), (Given(0),), (Made("y", 0),), ())
    here = next(t for t, (m, _) in PORTABLE.items() if m == architecture())
    bundle("net", [source], [here], tmp_path / "net", settings())
    library = CLibrary(tmp_path / "net")
    model, array = library.create(None), np.ones((9, 4), "f4")
    values = {
        "ndim": [0, 1, 3, -1, 1 << 30], "code": [0, 1, 4, 6, 255], "bits": [0, 1, 16, 64, 255],
        "lanes": [0, 2, 65535], "device_type": [0, 2, -1], "byte_offset": [1, 2, 3],
        "data": [None], "strides": [[4, 2], [-4, 1], [0, 0], [1 << 62, 1]],
        "shape": [[0, 4], [10, 4], [-1, 4], [1 << 62, 4], [3, 5], [4, -4], [1 << 63 - 1, 0]],
    }  # fmt: skip
    ran = 0
    for _ in range(3000):
        pair = tensor(array[:3]), tensor(array[:3] * 0)
        held = [array, np.zeros((9, 4), "f4")]
        for t, a in zip(pair, held):
            t.data = a.ctypes.data
        fields = rng.sample(list(values), rng.choice([0, 1, 1, 2, 3]))
        for name in fields:
            value = rng.choice(values[name])
            setattr(rng.choice(pair), name, sizes(value) if isinstance(value, list) else value)
        if fields:
            with pytest.raises(Failed):
                library.run_on(model, *[[t] for t in pair])
        else:
            library.run_on(model, *[[t] for t in pair])
            assert held[1].sum() == 12
            ran += 1
    assert ran > 300


TWO_MODELS = """
#include "a/a.h"
#include "b/b.h"
#include <stdio.h>
int main(void) {
  a_model *a;
  b_model *b;
  float x[4][4] = {{1, -1}}, y[4][4], z[4][4];
  int64_t shape[] = {4, 4};
  DLTensor in = {x, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, NULL, 0}, out = in;
  if (a_create(NULL, NULL, &a) || b_create(NULL, NULL, &b)) return 1;
  out.data = y;
  if (a_run(a, &in, &out)) return 2;
  out.data = z;
  if (b_run(b, &in, &out)) return 3;
  if (b_run(NULL, &in, &out) != b_NULL || *a_message()) return 4;
  printf("%g %g, %g %g\\n", y[0][0], y[0][1], z[0][0], z[0][1]);
  a_destroy(a);
  b_destroy(b);
  return 0;
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("static", [False, True])
def test_two_bundles_are_in_one_program(tmp_path: Path, static: bool, equal: bool) -> None:
    """Also where their programs are the same."""
    here = next(t for t, (m, _) in PORTABLE.items() if m == architecture())
    for name, op in (("a", relu), ("b", relu if equal else neg)):
        b = GraphBuilder("net")
        graph = b.build([op(b, b.input(TensorType((const(4), const(4)), f32), "x"))])
        source = Source("main", graph, ("x",), (Given(0),), (Made("y", 0),), ())
        bundle(name, [source], [here], tmp_path / name, settings())
    (tmp_path / "two.c").write_text(TWO_MODELS)
    libraries = [f"{n}/lib{n}.{'a' if static else 'so'}" for n in "ab"]
    command = ["gcc", "-Wall", "-Werror", "two.c", *libraries, "-Wl,-rpath,$ORIGIN/a:$ORIGIN/b"]
    subprocess.run([*command, "-pthread", "-o", "two"], cwd=tmp_path, check=True)
    done = subprocess.run(["./two"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"1 0, {'1 0' if equal else '-1 1'}\n")
