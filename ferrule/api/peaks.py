"""What this machine can do: multiply-adds a second, and bytes a second from each level of memory.

    peaks()      measured on one thread and on all that programs use, in about a second; kept in the
                 cache folder with the date, for a day, a CPU, a target and a number of threads

Loops generated for the same target as programs, on the threads that programs run on: as many
independent sums as registers hold, so that neither latency nor memory bounds the one, and plain
loads, so that nothing but memory bounds the other. They are for bounds, so the best of many
rounds counts.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ferrule.base import config, log
from ferrule.codegen.llvm.compile import compile_module
from ferrule.report.data import LEVELS, Peaks
from ferrule.runtime import pool
from ferrule.runtime.cache import cache_of
from ferrule.target.cpu import Target, cache_sizes, named

UNITS = 16  # for each thread, so that a core which others use too takes fewer
STEPS = 32_768  # of the loop of multiply-adds, for each unit
_SECONDS = 0.06  # of each
_UNIT_BYTES = 4 << 20  # that one unit reads, about
_MOST = 256 << 20  # bytes that stand for memory beyond all caches
_AGE = timedelta(days=1)
_FILE = "peaks.json"


def peaks() -> Peaks | None:
    """The peaks for the present target and number of threads, measured where none are kept. None,
    with a warning, where this machine has no room for them.
    """
    settings = config.settings()
    target, threads = named(settings.target), pool.get_num_threads()
    kept = cache_of(settings)
    file = None if kept.off else kept.folder / _FILE
    key = f"{_cpu()}, {target.name}, {threads}"
    known = _read(file)
    found = _of(known.get(key))
    if found is None:
        try:
            found = measured(target, threads)
        except MemoryError as error:
            log.warn(f"the peaks of this machine are not measured: {error}")
            return None
        _keep(file, {**known, key: asdict(found)})
    return found


def measured(target: Target, threads: int) -> Peaks:
    """The peaks of this machine now."""
    sizes = dict(zip(LEVELS[:3], cache_sizes()))
    counts = (1, threads)
    products = [Peak(n, target) for n in counts]
    flops = _growing([p.flops / _least(p) for p in products])
    beyond = min(max(4 * sizes["L3"], 16 * sizes["L2"]), _MOST)
    memory = np.ones(max(beyond, threads * sizes["L2"]) // 8 + 16, np.int64)
    bandwidth: dict[str, tuple[float, float]] = {}
    for level in LEVELS:
        size = beyond if level == "DRAM" else sizes[level] // 2
        if size:
            reads = [_Reads(n, target, memory, size, level in LEVELS[:2]) for n in counts]
            bandwidth[level] = _growing([r.bytes / _least(r) for r in reads])
    bandwidth.setdefault("L3", bandwidth["DRAM"])
    date = datetime.now().astimezone().isoformat(timespec="seconds")
    return Peaks(_cpu(), date, threads, flops, bandwidth, sizes)


def _growing(rates: list[float]) -> tuple[float, float]:
    """Of one thread and of several: where others have the CPUs, several may seem to do less."""
    return rates[0], max(rates)


def _least(call: Callable[[], None]) -> float:
    """Seconds of the fastest of some rounds."""
    best, spent = float("inf"), 0.0
    while spent < _SECONDS:
        started = time.perf_counter()
        call()
        took = time.perf_counter() - started
        best, spent = min(best, took), spent + took
    return best


class Peak:
    """A call that keeps `threads` cores busy with f32 multiply-adds, `flops` operations in all."""

    def __init__(self, threads: int, target: Target | None = None) -> None:
        target = named(config.get("target")) if target is None else target
        self._threads, self._units = threads, threads * UNITS
        self.flops = self._units * STEPS * _sums(target) * 2 * target.lanes(4)
        self._results = (ctypes.c_float * self._units)()
        self._tasks = _tasks(target)

    def __call__(self) -> None:
        _parallel()(
            self._tasks.products, ctypes.addressof(self._results), self._units, self._threads
        )


class _Reads:
    """A call that reads `bytes` bytes: a piece of `size` a thread again and again where it is the
    thread's `own`, else all of `size` once a unit after another.
    """

    def __init__(
        self, threads: int, target: Target, memory: Any, size: int, own: bool
    ) -> None:
        self._threads, units = threads, threads * UNITS
        block = _vectors(target) * target.vector_bytes
        piece = size // block * block if own else size // units // block * block
        repeats = max(_UNIT_BYTES // piece, 1) if own else 1
        self._units = units
        self.bytes = units * piece * repeats
        start = memory.ctypes.data + -memory.ctypes.data % 64
        self._sums = np.zeros(units * 8, np.int64)
        self._ctx = (ctypes.c_int64 * 5)(
            start, piece // block, repeats, own, self._sums.ctypes.data
        )
        self._memory, self._tasks = memory, _tasks(target)

    def __call__(self) -> None:
        _parallel()(self._tasks.reads, ctypes.addressof(self._ctx), self._units, self._threads)


# ---- code ----------------------------------------------------------------------------------------


def _sums(target: Target) -> int:
    return target.registers - 4


def _vectors(target: Target) -> int:
    """How many vectors a step reads."""
    return target.registers // 2


def source(target: Target) -> str:
    """LLVM IR of two tasks of the pool: `products(float *results, first, last, thread)`, a result
    for each unit, and `reads(ctx, first, last, thread)`; units and thread are i64.
    """
    return "\n".join((_products(target), _reading(target)))


def _products(target: Target) -> str:
    lanes, sums = target.lanes(4), range(_sums(target))
    vector, name = f"<{lanes} x float>", f"@llvm.fma.v{lanes}f32"

    def step(i: int) -> list[str]:
        if target.has_fma:
            return [f"  %b{i} = call {vector} {name}({vector} %a{i}, {vector} %v, {vector} %v)"]
        return [f"  %m{i} = fmul {vector} %a{i}, %v", f"  %b{i} = fadd {vector} %m{i}, %v"]

    lines = [
        f"declare {vector} {name}({vector}, {vector}, {vector})",
        "define internal float @unit(float %x) noinline {",
        "entry:",
        f"  %v0 = insertelement {vector} poison, float %x, i32 0",
        f"  %v = shufflevector {vector} %v0, {vector} poison, <{lanes} x i32> zeroinitializer",
        "  br label %loop",
        "loop:",
        "  %i = phi i64 [ 0, %entry ], [ %next, %loop ]",
        *(f"  %a{i} = phi {vector} [ %v, %entry ], [ %b{i}, %loop ]" for i in sums),
        *(line for i in sums for line in step(i)),
        "  %next = add i64 %i, 1",
        f"  %more = icmp slt i64 %next, {STEPS}",
        "  br i1 %more, label %loop, label %end",
        "end:",
        *(f"  %s{i} = fadd {vector} {f'%s{i - 1}' if i > 1 else '%b0'}, %b{i}" for i in sums[1:]),
        f"  %r = extractelement {vector} %s{len(sums) - 1}, i32 0",
        "  ret float %r",
        "}",
    ]
    return "\n".join((*lines, _TASKS))


_TASKS = """
define void @products(ptr %results, i64 %first, i64 %last, i64 %thread) {
entry:
  br label %check
check:
  %i = phi i64 [ %first, %entry ], [ %next, %unit ]
  %more = icmp slt i64 %i, %last
  br i1 %more, label %unit, label %end
unit:
  %at = getelementptr float, ptr %results, i64 %i
  %x = load volatile float, ptr %at
  %y = call float @unit(float %x)
  store float %y, ptr %at
  %next = add i64 %i, 1
  br label %check
end:
  ret void
}
"""


def _reading(target: Target) -> str:
    """ctx: the memory, blocks of a piece, repeats, whether pieces are of threads, a sum a unit."""
    vectors = range(_vectors(target))
    kind = f"<{target.vector_bytes // 8} x i64>"
    block = len(vectors) * target.vector_bytes

    def loads(i: int) -> list[str]:
        return [
            f"  %p{i} = getelementptr i8, ptr %block, i64 {i * target.vector_bytes}",
            f"  %x{i} = load {kind}, ptr %p{i}, align {target.vector_bytes}",
            f"  %b{i} = or {kind} %a{i}, %x{i}",
        ]

    parts = [
        "define void @reads(ptr %ctx, i64 %first, i64 %last, i64 %thread) {",
        "entry:",
        *(f"  %p.{n} = getelementptr i64, ptr %ctx, i64 {i}" for i, n in enumerate(_CTX)),
        *(f"  %{n} = load {k}, ptr %p.{n}" for n, k in _CTX.items()),
        f"  %piece = mul i64 %blocks, {block}",
        "  %is.own = icmp ne i64 %own, 0",
        "  br label %unit",
        "unit:",
        "  %u = phi i64 [ %first, %entry ], [ %u1, %unit.end ]",
        "  %more = icmp slt i64 %u, %last",
        "  br i1 %more, label %begin, label %end",
        "begin:",
        "  %index = select i1 %is.own, i64 %thread, i64 %u",
        "  %offset = mul i64 %index, %piece",
        "  %start = getelementptr i8, ptr %memory, i64 %offset",
        "  br label %again",
        "again:",
        "  %r = phi i64 [ 0, %begin ], [ %r1, %read ]",
        *(f"  %c{i} = phi {kind} [ zeroinitializer, %begin ], [ %b{i}, %read ]" for i in vectors),
        "  br label %loop",
        "loop:",
        "  %k = phi i64 [ 0, %again ], [ %k1, %loop ]",
        *(f"  %a{i} = phi {kind} [ %c{i}, %again ], [ %b{i}, %loop ]" for i in vectors),
        f"  %skip = mul i64 %k, {block}",
        "  %block = getelementptr i8, ptr %start, i64 %skip",
        *(line for i in vectors for line in loads(i)),
        "  %k1 = add i64 %k, 1",
        "  %rest = icmp slt i64 %k1, %blocks",
        "  br i1 %rest, label %loop, label %read",
        "read:",
        '  call void asm sideeffect "", "~{memory}"()',
        "  %r1 = add i64 %r, 1",
        "  %once.more = icmp slt i64 %r1, %repeats",
        "  br i1 %once.more, label %again, label %unit.end",
        "unit.end:",
        *(f"  %o{i} = or {kind} {f'%o{i - 1}' if i > 1 else '%b0'}, %b{i}" for i in vectors[1:]),
        f"  %o = extractelement {kind} %o{len(vectors) - 1}, i32 0",
        "  %sum = getelementptr i64, ptr %sums, i64 %u",
        "  store i64 %o, ptr %sum",
        "  %u1 = add i64 %u, 1",
        "  br label %unit",
        "end:",
        "  ret void",
        "}",
    ]
    return "\n".join(parts)


_CTX = {"memory": "ptr", "blocks": "i64", "repeats": "i64", "own": "i64", "sums": "ptr"}


class _Tasks:
    """The addresses of the tasks, and the engine that keeps their code alive."""

    def __init__(self, target: Target) -> None:
        import llvmlite.binding as llvm

        code = compile_module(source(target), target)
        machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        self.products = self._engine.get_function_address("products")
        self.reads = self._engine.get_function_address("reads")


_tasks = cache(_Tasks)


@cache
def _parallel() -> Any:
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2, ctypes.c_void_p)
    function = kind(pool.install().address)
    return lambda task, ctx, n, threads: function(task, ctx, n, threads, None)


# ---- keeping -------------------------------------------------------------------------------------


@cache
def _cpu() -> str:
    """The CPU's name and how many this process may use."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next(x.partition(":")[2].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} CPUs"


def _read(file: Path | None) -> dict[str, Any]:
    try:
        known = json.loads(file.read_text(encoding="utf-8")) if file is not None else {}
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _of(kept: Any) -> Peaks | None:
    """What was kept, unless it is too old or not what this version writes."""
    try:
        pairs = {level: (float(a), float(b)) for level, (a, b) in kept["bandwidth"].items()}
        one, several = kept["flops"]
        sizes = {level: int(n) for level, n in kept["sizes"].items()}
        found = Peaks(
            kept["cpu"], kept["date"], kept["threads"], (one, several), pairs, sizes
        )
        age = datetime.now().astimezone() - datetime.fromisoformat(found.date)
    except (TypeError, ValueError, KeyError, AttributeError):
        return None
    return found if timedelta(0) <= age < _AGE and set(pairs) == set(LEVELS) else None


def _keep(file: Path | None, known: dict[str, Any]) -> None:
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(known, indent=1), encoding="utf-8")
        part.replace(file)
    except OSError as error:
        log.warn(f"the peaks of this machine are not kept: {error}; see FERRULE_CACHE_DIR")
