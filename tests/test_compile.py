"""What compile_graph does besides compiling: timings, dumps, checks."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ferrule
from ferrule import ops
from ferrule.base import config
from ferrule.base.dtype import DType, bf16, f32, i64, to_storage
from ferrule.base.errors import CompileError, GuardError, VerifyError
from ferrule.ir.analysis.size import estimate
from ferrule.ir.expr import Expr, as_index, dim
from ferrule.ir.graph import Graph, GraphBuilder, opdef, tensor
from ferrule.ir.system import Stage
from ferrule.ir.text import parse_all
from ferrule.pipeline.compile import CompiledGraph, compile_graph
from ferrule.pipeline.passes import LEVELS, Options, options_for, passes, steps
from ferrule.pipeline.run import run
from ferrule.runtime.arrays import NumpyCallable
from ferrule.target.cpu import host, named
from tests.cpus import current

Size = Expr | int


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in config.SETTINGS:
        monkeypatch.delenv(setting.env, raising=False)
    monkeypatch.setenv("FERRULE_CACHE_DIR", str(tmp_path / "cache"))
    ferrule.reset_counters()


def linear(rows: Expr | int = 4, dtype: DType = f32, name: str = "linear") -> Graph:
    """exp(x @ w.T), and the sum of its rows."""
    b = GraphBuilder(name)
    x, w = b.input(tensor((rows, 8), dtype)), b.param(tensor((5, 8), dtype))
    y = ops.exp(b, ops.linear(b, x, w))
    return b.build([y, ops.reduce_sum(b, y, axes=1)])


def called(compiled: CompiledGraph, rows: int = 4, dtype: DType = f32) -> tuple[Any, ...]:
    """The results for one set of arrays."""
    rng = np.random.default_rng(0)
    x, w = (to_storage(rng.standard_normal(s, np.float32), dtype) for s in ((rows, 8), (5, 8)))
    compiled.executable.bind([(w.ctypes.data, w)])
    return NumpyCallable(compiled.executable)(x)


def test_passes_lead_from_level_to_level_without_a_gap() -> None:
    every = passes(Options(host()))
    for before, after in pairwise(every):
        assert before.result == after.source
    assert (every[0].source, every[-1].result) == (LEVELS[0], LEVELS[-1])
    assert len({p.name for p in every}) == len(every)


def test_steps_are_those_between_two_levels() -> None:
    names = [p.name for p in steps("system", "kernels", Options(host()))]
    fusing = ["in_place", "layout", "inline", "merge_products", "split_reductions"]
    assert names == [*fusing, "group", "overlap", "choose"]


def test_every_pass_is_timed() -> None:
    compiled = compile_graph(linear())
    assert list(compiled.passes) == [p.name for p in passes(Options(host()))]
    assert 0 < sum(compiled.passes.values()) <= compiled.seconds + 1e-4
    assert all(t >= 0 for t in compiled.passes.values())


def test_seconds_add_up_cached_or_not() -> None:
    first, again = compile_graph(linear()), compile_graph(linear())
    counts = ferrule.counters()
    assert (counts["compilations"], counts["cache_hits"]) == (1, 1)
    assert counts["compile_seconds"] == pytest.approx(first.seconds + again.seconds)
    assert again.passes == first.passes


def test_a_range_of_sizes_is_part_of_the_key() -> None:
    wide, narrow = (compile_graph(linear(dim("n", 1, hi))).compiled for hi in (None, 8))
    assert wide.key != narrow.key
    assert [d.hi for c in (wide, narrow) for d in c.dims] == [None, 8]
    cut = [_sliced(dim("k", 0, hi)) for hi in (3, 4)]
    assert cut[0].compiled.key != cut[1].compiled.key


def _sliced(stop: Expr) -> CompiledGraph:
    """The rows below an integer input."""
    b = GraphBuilder("sliced")
    x = b.input(tensor((8,), f32))
    b.input(tensor((), i64), stop.name)
    return compile_graph(b.build([ops.reduce_sum(b, ops.slice_axis(b, x, 0, 0, stop))]))


@pytest.mark.parametrize(
    ("start", "stop", "step"),
    [
        (0, 5, 1),
        (2, dim("n") - 2, 1),
        (dim("n") - 6, dim("n") - 1, 2),
        (dim("k"), dim("k") + 3, 1),
        (dim("k"), dim("n"), 3),
        (dim("k") - 2, dim("n") - dim("k"), 2),
        (dim("n") // 2, dim("k") * 2, 1),
    ],
)
def test_a_slice_is_numpys_or_is_refused(start: Size, stop: Size, step: int) -> None:
    b = GraphBuilder("sliced")
    x = b.input(tensor((dim("n"),), f32))
    b.input(tensor((), i64), "k")
    call = NumpyCallable(
        compile_graph(b.build([ops.neg(b, ops.slice_axis(b, x, 0, start, stop, step))])).executable
    )
    outcomes = set()
    for n, k in itertools.product(range(9), range(9)):
        array = np.arange(float(n), dtype=np.float32)
        low, high = (estimate(as_index(e), {dim("n"): n, dim("k"): k}) for e in (start, stop))
        places = range(low, high, step)
        fits = high + step > low and all(0 <= i < n for i in places)
        outcomes.add(fits)
        if fits:
            np.testing.assert_array_equal(call(array, k)[0], -array[list(places)])
        else:
            with pytest.raises(GuardError, match="slice needs it"):
                call(array, k)
    assert outcomes == {True, False}


def test_a_reshape_of_another_number_of_elements_is_refused() -> None:
    b = GraphBuilder("reshaped")
    n, k = dim("n"), dim("k")
    x = b.input(tensor((n,), f32))
    b.input(tensor((), i64), "k")
    call = NumpyCallable(
        compile_graph(b.build([ops.neg(b, ops.reshape(b, x, (k, n // k)))])).executable
    )
    array = np.arange(12.0, dtype=np.float32)
    np.testing.assert_array_equal(call(array, 3)[0], -array.reshape(3, 4))
    for k_ in (5, 0):
        with pytest.raises(GuardError, match="reshape needs it"):
            call(array, k_)


def test_logs_tell_timings_decisions_programs_and_code(capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for logs in (0, 1, 2, 4):
        with config.override(logs=logs):
            compile_graph(linear(), config.settings(cache=False))
        texts.append(capsys.readouterr().err)
    assert texts[0] == ""
    assert "linear: counted_loops " in texts[1]
    assert "linear: 2 kernels, ready in" in texts[1]
    assert "decisions:" not in texts[1]
    assert "decisions:" in texts[2]
    assert "ferrule[3] linear after group:\nkernels linear {" in texts[3]
    assert "ferrule[4] linear after emit:\n" in texts[3]


COPIED = """
import sys
import numpy as np
import ferrule
assert ferrule.__file__.startswith(sys.argv[1]), ferrule.__file__
f = ferrule.jit(lambda x: np.exp(x) @ x.T)
f(np.ones((3, 4), np.float32))
print(ferrule.counters()["compilations"], ferrule.counters()["cache_hits"])
"""


def test_a_copy_of_the_package_finds_what_another_compiled(tmp_path: Path) -> None:
    package, found = Path(ferrule.__file__).parent, []
    for folder in (tmp_path / "one", tmp_path / "two"):
        shutil.copytree(package, folder / "ferrule", ignore=shutil.ignore_patterns("__pycache__"))
        for file in folder.rglob("*.py"):
            os.utime(file, (len(found), len(found)))
        env = os.environ | {"PYTHONPATH": str(folder)}
        command = [sys.executable, "-c", COPIED, str(folder)]
        done = subprocess.run(
            command, cwd=folder, env=env, check=True, text=True, stdout=subprocess.PIPE
        )
        found.append(done.stdout.split())
    assert found == [["1", "0"], ["0", "1"]]


def test_the_key_of_a_target_is_the_same_on_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    key = current().key
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    named.cache_clear()
    host.cache_clear()
    assert current().key == key


def test_a_dump_has_a_file_for_each_level(tmp_path: Path) -> None:
    graph = linear(dim("n"), name="my model/1")
    compile_graph(graph)
    compiled = compile_graph(graph, config.settings(dump_dir=tmp_path / "dump"))
    assert ferrule.counters()["compilations"] == 2  # what comes from the cache has no levels
    stem = f"my_model_1.{compiled.compiled.key}"
    texts = {f.name: f.read_text() for f in (tmp_path / "dump").iterdir()}
    levels = [level for level in LEVELS if level not in ("segments", "llvm", "object")]
    assert set(texts) == {f"{stem}.{level}.txt" for level in levels} | {f"{stem}.ll"}
    for level in levels:
        assert parse_all(texts[f"{stem}.{level}.txt"])
    assert compiled.compiled.entry in texts[f"{stem}.ll"]


def test_a_dump_that_cannot_be_written_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    compile_graph(linear(), config.settings(dump_dir=tmp_path / "file"))
    assert "programs are not dumped" in capsys.readouterr().err


def test_verify_names_the_pass_that_broke_a_rule() -> None:
    options = options_for(current())
    (equations,) = (p for p in passes(options) if p.name == "equations")

    def spoil(graph: Any) -> Any:
        system, decisions = equations.run(graph)
        return replace(system, stages=system.stages[1:]), decisions

    broken = replace(equations, run=spoil)
    with pytest.raises(VerifyError, match="after the pass equations"):
        run(linear(), (broken,), replace(options, verify=True))
    run(linear(), (broken,), options)


@pytest.mark.parametrize("dtype", [f32, bf16])
def test_verified_results_are_those_of_the_definition(dtype: DType) -> None:
    plain = called(compile_graph(linear(dim("n"), dtype)), 6, dtype)
    checked = called(compile_graph(linear(dim("n"), dtype), config.settings(verify=True)), 6, dtype)
    for x, y in zip(plain, checked, strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_wrong_result_is_a_compile_error(monkeypatch: pytest.MonkeyPatch) -> None:
    right = opdef("reduce_sum")

    def twice(ctx: Any, inputs: Any, outputs: Any, attrs: Any) -> list[Stage]:
        *rest, last = right.compute(ctx, inputs, outputs, attrs)
        doubled = tuple(v * 2.0 for v in last.compute.values)
        return [*rest, replace(last, compute=replace(last.compute, values=doubled))]

    monkeypatch.setitem(ops.op.OPDEFS, "reduce_sum", replace(right, compute=twice))
    graph = linear(dim("n"))
    compiled = compile_graph(graph, config.settings(verify=True, cache=False))
    for _ in range(2):
        with pytest.raises(CompileError, match=r"linear: output 1 \(v2: f32\[n\]\) is not what"):
            called(compiled, 3)
    called(compile_graph(graph, config.settings(cache=False)), 3)


def test_only_the_first_run_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("ferrule.pipeline.check.run_graph", _counting(asked))
    compiled = compile_graph(linear(), config.settings(verify=True))
    for _ in range(3):
        called(compiled)
    assert len(asked) == 1


def _counting(asked: list[Any]) -> Any:
    from ferrule.ir.interp import run_graph

    def counted(*args: Any) -> Any:
        asked.append(args)
        return run_graph(*args)

    return counted


def test_jitted_functions_are_checked_too() -> None:
    @ferrule.jit
    def centred(x: Any) -> Any:
        return x - x.mean(-1, keepdims=True)

    x = np.random.default_rng(0).standard_normal((5, 30)).astype(np.float32)
    with config.override(verify=True):
        np.testing.assert_allclose(centred(x), x - x.mean(-1, keepdims=True), atol=1e-6)


def test_decisions_are_values_that_the_cache_keeps() -> None:
    b = GraphBuilder("product")
    graph = b.build([ops.linear(b, b.input(tensor((64, 48), f32)), b.param(tensor((64, 48), f32)))])
    fresh = compile_graph(graph).decisions
    chosen = {d.subject: d.chosen for d in fresh if d.kind == "schedule"}
    assert "contraction" in chosen.values()
    assert any("register blocks of" in d.reason for d in fresh)
    again = compile_graph(graph)
    assert ferrule.counters()["cache_hits"] == 1
    assert again.decisions == fresh
    told = [d for d in fresh if d.reason and d.kind != "pack"]
    assert all(f"    {d}" in again.explain().splitlines() for d in told)
