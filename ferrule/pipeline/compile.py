"""Compiling: a Graph to a loaded program, or to what the cache has of it.

The passes stand in `ferrule.pipeline.passes`; here is what frontends and the tuner call.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ferrule.base import config, log
from ferrule.base.artifact import Compiled
from ferrule.base.dtype import i64
from ferrule.base.errors import CompileError
from ferrule.base.version import VERSION
from ferrule.codegen.host.entry import make_compiled
from ferrule.ir.analysis.decision import Decision
from ferrule.ir.compute import System
from ferrule.ir.expr import Buf, Expr, dims
from ferrule.ir.graph import Graph, requirements
from ferrule.ir.kernel import stages
from ferrule.ir.program import Program, walk_runs
from ferrule.pipeline.check import Checked
from ferrule.pipeline.passes import Site, State, begin, run, steps
from ferrule.runtime import cache, counters, pool
from ferrule.runtime.cpu import Executable, load
from ferrule.runtime.signature import Signature
from ferrule.schedule.contraction.blocking import Blocking
from ferrule.schedule.space import blocking_from
from ferrule.target.cpu import Target, current
from ferrule.tune import database

TUNED_VERSION = f"{VERSION}/1"
"""Of the schedules: blockings that were tuned for another version are not used."""


@dataclass(frozen=True)
class CompiledGraph:
    """A graph as a loaded program: what a frontend wraps. `seconds` is what it took until it could
    run.
    """

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
    options: Mapping[str, Any] | None = None,
    blockings: Mapping[str, Blocking] | None = None,
) -> CompiledGraph:
    """`graph` compiled for the current target, or taken from the cache, and loaded.

    `options` are settings for this compilation; `blockings` are by tuning key, and those of the
    tuning database where None. With the setting `verify` or `dump_dir` the cache is not asked; with
    `verify` the first run is compared with the graph's meaning in NumPy. Raises CompileError or
    UnsupportedError.
    """
    with config.override(**(options or {})):
        started = time.perf_counter()
        target, checked = current(), config.get("verify")
        key = cache.digest(
            VERSION, _source_stamp(), target.key, config.get("numerics"), repr(graph), _facts(graph)
        )[:24]
        chosen = tuned(target) if blockings is None else blockings
        looked_at = checked or config.get("dump_dir") is not None
        compiled = None if looked_at else _cached(key, chosen)
        if compiled is None:
            compiled = _fresh(replace(begin(graph, target), key=key, blockings=chosen))
            counters.count("compilations")
        else:
            counters.count("cache_hits")
        counters.count("kernels", int(compiled.meta["kernels"]))
        executable = Checked(compiled, graph) if checked else load(compiled)
        seconds = time.perf_counter() - started
        counters.add_seconds(seconds)
        log.log(1, f"{graph.name}: {compiled.meta['kernels']} kernels, ready in {seconds:.2f} s")
        log.log(2, lambda: "\n".join(compiled.meta["explain"]))
    return CompiledGraph(compiled, executable, Signature(compiled), seconds)


def tuned(target: Target) -> Mapping[str, Blocking]:
    """The blockings of the tuning database for `target` and the present number of threads, by
    tuning key.
    """
    found = database.known(target.key, pool.get_num_threads(), TUNED_VERSION)
    blockings = {key: blocking_from(record.point) for key, record in found.items()}
    return {key: b for key, b in blockings.items() if b is not None}


def _cached(key: str, blockings: Mapping[str, Blocking]) -> Compiled | None:
    """The program of the cache whose contractions have just these blockings.

    The entry under `key` tells which contractions the program has; where theirs differ, the program
    lies under a key of its own.
    """
    first = cache.get(key)
    if first is None:
        return None
    chosen = {k: _shown(blockings.get(k)) for k in first.meta["blockings"]}
    return first if chosen == first.meta["blockings"] else cache.get(_variant(key, chosen))


def _fresh(s: State) -> Compiled:
    """The program of `s`, compiled and put into the cache; its functions' names end in the key
    there.
    """
    first = cache.get(s.key)
    if first is not None:
        chosen = {k: _shown(s.blockings.get(k)) for k in first.meta["blockings"]}
        if chosen != first.meta["blockings"]:
            s = replace(s, key=_variant(s.key, chosen))
    return cache.put(s.key, _compile(s))


def _variant(key: str, chosen: Mapping[str, str]) -> str:
    return cache.digest(key, *(f"{k} {v}" for k, v in sorted(chosen.items())))[:24]


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
    return cache.digest(*(f"{n} {hashlib.sha256(text).hexdigest()}" for n, text in parts))


def program_of(graph: Graph, target: Target) -> Program:
    """`graph` as a Program: every pass above machine code."""
    return _program(begin(graph, target))


def program_of_system(system: System, target: Target) -> Program:
    """`system` as a Program."""
    return _program(begin(system, target))


def compile_program(program: Program, key: str, target: Target) -> Compiled:
    """`program` as machine code with its descriptor; `key` ends the names of its functions."""
    return _compile(replace(begin(program, target), key=key))


def _program(s: State) -> Program:
    done, _ = run(s, steps(s.level, "program"))
    assert done.program is not None
    return done.program


def _compile(s: State) -> Compiled:
    done, seconds = run(s, steps(s.level, "object"))
    program = done.program
    if program is None:
        raise CompileError(f"{s.name}: kernels alone make no program; begin at an earlier level")
    kernels = sum(len(phase) for r in walk_runs(program.main) for phase in r.phases)
    meta = {
        "kernels": kernels,
        "target": s.target.name,
        "passes": {name: round(t, 6) for name, t in seconds.items()},
        "decisions": [asdict(d) for d in done.decisions],
        "blockings": {site.key: _shown(s.blockings.get(site.key)) for site in done.sites},
    }
    facts = {} if s.graph is None else requirements(s.graph)
    return make_compiled(program, s.key, done.object_code, meta=meta, facts=facts)


# ---- what the tuner calls ------------------------------------------------------------------------


def sites_of(graph: Graph, target: Target) -> tuple[Site, ...]:
    """The contractions of `graph`, each once. Raises CompileError and UnsupportedError."""
    done, _ = run(begin(graph, target), steps("graph", "scheduled"))
    return done.sites


def compile_site(site: Site, target: Target, blocking: Blocking) -> tuple[Compiled, System]:
    """A contraction alone, as a program with this blocking, and what its inputs, params and outputs
    are: the kernel's buffers, and after the inputs each dim as a number. Raises CompileError.
    """
    kernel = site.kernel
    body = tuple(stages(kernel.body))
    written = {b for st in body for b in st.writes}
    read = [b for b in kernel.globals if b not in written]
    system = System(
        "site",
        (
            *(b for b in read if b not in site.constant),
            *(Buf(d.name, (), i64) for d in kernel.dims),
        ),
        tuple(b for b in read if b in site.constant),
        body,
        tuple(b for b in kernel.globals if b in written),
    )
    s = State(
        "site", "kernels", target, cache.digest(site.key, repr(blocking))[:24], system=system,
        constant=site.constant, kernels=(kernel,), blockings={site.key: blocking},
    )  # fmt: skip
    return _compile(s), system
