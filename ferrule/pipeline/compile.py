"""Compiling: a Graph to a loaded program, or to what the cache has of it.

The passes stand in `ferrule.pipeline.passes`; here is what frontends and the tuner call.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ferrule.base import config, log
from ferrule.base.artifact import Compiled
from ferrule.base.compiler import Compiler
from ferrule.base.config import Settings
from ferrule.base.digest import digest
from ferrule.base.dtype import i64
from ferrule.base.version import VERSION
from ferrule.codegen.host.entry import make_compiled
from ferrule.ir.analysis.decision import Decision
from ferrule.ir.calls import Interface, Kernels
from ferrule.ir.expr import Buf, Expr, dims
from ferrule.ir.graph import Graph, definitions
from ferrule.ir.module import Module
from ferrule.ir.program import Program, walk_rows, walk_runs
from ferrule.ir.system import System
from ferrule.pipeline.check import Checked
from ferrule.pipeline.explain import explain
from ferrule.pipeline.launches import launches
from ferrule.pipeline.passes import Options, Pass, level_of, options_for, steps
from ferrule.pipeline.progress import compiling
from ferrule.pipeline.run import lowered, run
from ferrule.runtime import counters, pool
from ferrule.runtime.arrays import NumpyCallable
from ferrule.runtime.cache import Cache, cache_of
from ferrule.runtime.cpu import Executable, load
from ferrule.runtime.signature import Signature
from ferrule.schedule.choose import TuningTask, by_blocks, tasks_of
from ferrule.schedule.contraction.blocking import Blocking
from ferrule.schedule.space import blocking_from
from ferrule.target.cpu import Target, named
from ferrule.tune import database

Fresh = Callable[[Cache, Graph, Options], Compiled]
TUNED_VERSION = f"{VERSION}/1"
"""Of the schedules: blockings that were tuned for another version are not used."""


@dataclass(frozen=True)
class CompiledGraph:
    """A graph as a loaded program: what a frontend wraps. `seconds` is what it took until it could
    run.
    """

    graph: Graph
    compiled: Compiled
    executable: Executable
    signature: Signature
    seconds: float

    def explain(self) -> str:
        """What each kernel holds, its bytes and flops, and why neighbours were not joined."""
        return "\n".join(self.compiled.meta["explain"])

    @property
    def kernels(self) -> int:
        """How many kernels one call runs."""
        return int(self.compiled.meta["kernels"])

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What the passes chose, in the order in which they did."""
        stored = self.compiled.meta["decisions"]
        return tuple(Decision(**{**d, "alternatives": tuple(d["alternatives"])}) for d in stored)

    @property
    def passes(self) -> dict[str, float]:
        """The seconds that each pass took when this program was compiled, perhaps by an earlier
        process that left it in the cache.
        """
        return dict(self.compiled.meta["passes"])


def compile_graph(
    graph: Graph,
    settings: Settings | None = None,
    blockings: Mapping[str, Blocking] | None = None,
    fresh: Fresh | None = None,
) -> CompiledGraph:
    """`graph` compiled as `settings` say (None: as they are now), or taken from the cache, and
    loaded. `fresh` compiles what the cache lacks, and puts it there.

    `blockings` are by tuning key, and those of the tuning database where None. With the setting
    `verify` or `dump_dir` the cache is not asked; with `verify` the first run is compared with the
    graph's meaning in NumPy. Raises CompileError or UnsupportedError.
    """
    started = time.perf_counter()
    settings = config.settings() if settings is None else settings
    compiled = compile_for(graph, named(settings.target), settings, blockings, fresh)
    counters.count("kernels", int(compiled.meta["kernels"]))
    executable = Checked(compiled, graph) if settings.verify else load(compiled)
    seconds = time.perf_counter() - started
    counters.add_seconds(seconds)
    log.log(1, f"{graph.name}: {compiled.meta['kernels']} kernels, ready in {seconds:.2f} s")
    log.log(2, lambda: "\n".join(compiled.meta["explain"]))
    return CompiledGraph(graph, compiled, executable, Signature(compiled), seconds)


def compile_for(
    graph: Graph,
    target: Target,
    settings: Settings,
    blockings: Mapping[str, Blocking] | None = None,
    fresh: Fresh | None = None,
) -> Compiled:
    """`graph` as code for any target, or what the cache has of it."""
    cache = cache_of(settings)
    key = digest(
        VERSION, _source_stamp(), target.key, settings.numerics, repr(graph), _facts(graph),
        definitions(graph),
    )[:24]  # fmt: skip
    chosen = tuned(target, settings) if blockings is None else blockings
    looked_at = settings.verify or settings.dump_dir is not None
    compiled = None if looked_at else _cached(cache, key, chosen)
    if compiled is not None:
        counters.count("cache_hits")
        return compiled
    options = options_for(target, settings, key=key, blockings=chosen)
    made = (fresh or compile_fresh)(cache, graph, options)
    counters.count("compilations")
    return made


def tuned(target: Target, settings: Settings) -> Mapping[str, Blocking]:
    """The blockings of the tuning database for `target` and the present number of threads, by
    tuning key.
    """
    found = database.known(settings, target.key, pool.get_num_threads(), TUNED_VERSION)
    blockings = {key: blocking_from(record.point) for key, record in found.items()}
    return {key: b for key, b in blockings.items() if b is not None}


def _cached(cache: Cache, key: str, blockings: Mapping[str, Blocking]) -> Compiled | None:
    """The program of the cache whose contractions have just these blockings.

    The entry under `key` tells which contractions the program has; where theirs differ, the program
    lies under a key of its own.
    """
    first = cache.get(key)
    if first is None:
        return None
    chosen = {k: _shown(blockings.get(k)) for k in first.meta["blockings"]}
    return first if chosen == first.meta["blockings"] else cache.get(_variant(key, chosen))


def compile_fresh(cache: Cache, graph: Graph, options: Options) -> Compiled:
    """`graph` compiled and put into the cache; its functions' names end in the key there."""
    first = cache.get(options.key)
    if first is not None:
        chosen = {k: _shown(options.blockings.get(k)) for k in first.meta["blockings"]}
        if chosen != first.meta["blockings"]:
            options = replace(options, key=_variant(options.key, chosen))
    with compiling():
        made = _compile(graph, options)
    return cache.put(options.key, made)


def _variant(key: str, chosen: Mapping[str, str]) -> str:
    return digest(key, *(f"{k} {v}" for k, v in sorted(chosen.items())))[:24]


def _shown(blocking: Blocking | None) -> str:
    return "default" if blocking is None else repr(blocking)


def _facts(graph: Graph) -> str:
    """What is known of the graph's dims, of which its repr tells the names alone."""
    sizes: set[Expr] = set()
    given: list[Any] = [graph]
    while given:
        a = given.pop()
        if isinstance(a, Graph):
            values = (*a.inputs, *a.params, *(v for n in a.nodes for v in n.outputs))
            sizes.update(s for v in values for s in v.shape)
            given.extend(x for n in a.nodes for _, x in n.attrs)
        elif isinstance(a, tuple):
            given.extend(a)
        elif isinstance(a, Expr):
            sizes.add(a)
    return repr(sorted({repr(d.attr) for s in sizes for d in dims(s)}))


@functools.cache
def _source_stamp() -> str:
    """What tells this state of the package from another, for cache keys: what its files hold,
    wherever they lie.
    """
    package = Path(__file__).parent.parent
    files = sorted(f for ending in ("*.py", "*.ll") for f in package.rglob(ending))
    parts = ((f.relative_to(package).as_posix(), f.read_bytes()) for f in files)
    return digest(*(f"{n} {hashlib.sha256(text).hexdigest()}" for n, text in parts))


def program_of(source: Graph | System, target: Target) -> Program:
    """A graph or a system as a Program: every pass above machine code."""
    program: Program = lowered(source, "program", options_for(target))
    return program


def compile_program(program: Program, key: str, target: Target) -> Compiled:
    """`program` as machine code with its descriptor; `key` ends the names of its functions."""
    return _compile(program, options_for(target, key=key))


def _compile(source: Any, options: Options) -> Compiled:
    equations: list[Any] = []

    def keep(p: Pass, level: Any) -> None:
        if p.name == "equations":
            equations.append(level)

    outcome = run(source, steps(level_of(source), "object", options), options, keep)
    program: Program = outcome.levels["program"]
    keys = dict.fromkeys(d.key for d in outcome.decisions if d.kind == "schedule" and d.key)
    meta = {
        "kernels": sum(len(phase) for r in walk_runs(program.main) for phase in r.phases),
        "target": options.target.name,
        "passes": {name: round(t, 6) for name, t in outcome.seconds.items()},
        "explain": explain(outcome),
        "reads": _read(program),
        "launches": launches(program, outcome, equations[0] if equations else None),
        "decisions": [asdict(d) for d in outcome.decisions],
        "blockings": {key: _shown(options.blockings.get(key)) for key in keys},
    }
    return make_compiled(program, options.key, outcome.program.code, meta=meta)


def _read(program: Program) -> list[int]:
    """The places of the parameters that `main` reads."""
    calls = (c for r in walk_runs(program.main) for phase in r.phases for c in phase)
    read = {b for c in calls for b in c.args}
    read |= {b for row in walk_rows(program.main) for b in (row.whole, row.first) if b}
    return [i for i, p in enumerate(program.params) if p in read]


def native(settings: Settings) -> Compiler:
    """What frontends are given: `compile_graph` as `settings` say, and calls with NumPy arrays."""
    compiled = functools.partial(compile_graph, settings=settings)
    return Compiler(compiled, NumpyCallable, counters.count_fallback, settings.strict)


# ---- what the tuner calls ------------------------------------------------------------------------


def tuning_tasks(graph: Graph, target: Target) -> tuple[TuningTask, ...]:
    """The contractions of `graph`, each once. Raises CompileError and UnsupportedError."""
    level = lowered(graph, "kernels", options_for(target))
    bodies = level.straight() if isinstance(level, Module) else [level]
    found: dict[str, TuningTask] = {}
    for task in (task for body in bodies for task in tasks_of(body, target)):
        same = found.get(task.key)
        found[task.key] = replace(task, count=task.count + (same.count if same else 0))
    return tuple(found.values())


def compile_task(
    task: TuningTask, target: Target, blocking: Blocking
) -> tuple[Compiled, Interface]:
    """A contraction alone, as a program with this blocking, and what it is given and gives: the
    kernel's buffers, and after the inputs each dim as a number. Raises CompileError.
    """
    kernel = replace(task.kernel, schedule=by_blocks(blocking))
    written = kernel.written
    read = [b for b in kernel.globals if b not in written]
    varying = [b for b in read if b not in task.constant]
    sizes = [Buf(d.name, (), i64) for d in kernel.dims]
    constant = tuple(b for b in read if b in task.constant)
    face = Interface("task", (*varying, *sizes), constant, written)
    options = options_for(target, key=digest(task.key, repr(blocking))[:24])
    return _compile(Kernels(face, (), (kernel,)), options), face
