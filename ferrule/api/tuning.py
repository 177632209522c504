"""Tuning: measures the schedules of a program's contractions and remembers the fastest.

    report = tune([graph], Budget(trials=64, seconds=60))
    print(report.text())
    compile_graph(graph)                        compiles with what was found

Each contraction of the graphs is an operator of its own, however many kernels are equal to it. It
runs alone, on random operands: a batch of candidates of `schedule.space` beside the default
schedule and the best so far, in the same rounds. A candidate whose result differs from the
default's is dropped before it is timed. The search is that of `tune.search`; where scikit-learn is
installed, the model of `tune.model` guides it, which all operators of a run teach. The operator
that takes most time for the trials it had is next. What is faster than the default goes to the
database after each batch, so that an interrupt loses nothing, and is measured once more at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, field, replace
from math import inf, log2, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base import config, log
from ferrule.base.compiler import Compiler
from ferrule.base.config import Settings
from ferrule.base.dtype import to_storage
from ferrule.base.errors import FerruleError, InputError
from ferrule.base.numerics import difference
from ferrule.ir.analysis.size import estimate, likely
from ferrule.ir.expr import Buf
from ferrule.ir.graph import Graph
from ferrule.pipeline.compile import (
    TUNED_VERSION,
    CompiledGraph,
    compile_graph,
    compile_task,
    native,
    tuning_tasks,
)
from ferrule.pipeline.progress import tuning
from ferrule.runtime import pool
from ferrule.runtime.cpu import Executable, load
from ferrule.schedule.choose import TuningTask
from ferrule.schedule.contraction.blocking import Blocking
from ferrule.schedule.space import (
    ContractionSizes,
    blocking_from,
    candidates,
    point_of,
    predicted,
    sizes_of,
)
from ferrule.target.cpu import Target, named
from ferrule.tune import database
from ferrule.tune.interrupt import interrupts
from ferrule.tune.measure import SLOT_SECONDS, Measured, side_by_side
from ferrule.tune.model import Guide, History
from ferrule.tune.progress import Progress, Status, silent
from ferrule.tune.search import Point, Search

Array = NDArray[Any]

TRIALS = 48
BATCH = 6
ROUNDS, LAST_ROUNDS = 7, 15
GAIN, WINS = 0.98, 0.75
"""What is faster than the default: at most this part of its time, in this part of the rounds."""
BUILD_SECONDS = 0.25  # to compile a candidate and compare its results, about
MEMORY = 1 << 30  # bytes of operands that the programs of a batch may hold together


@dataclass(frozen=True)
class Budget:
    """How long to tune: `trials` candidates for each operator, and `seconds` in all (None: as long
    as the trials take). Trials of earlier runs count, and operators that had as many are left out,
    unless `again`.
    """

    trials: int = TRIALS
    seconds: float | None = None
    again: bool = False

    def __post_init__(self) -> None:
        if self.trials < 1 or (self.seconds is not None and not self.seconds > 0):
            raise InputError(
                f"tuning takes at least one trial and more than 0 seconds, not {self.trials} "
                f"trials and {self.seconds} seconds"
            )


def budget_from(tune: Any) -> Budget | None:
    """What the argument `tune` of `ferrule.compile` stands for: True, a number of trials, settings
    by name, or a Budget; None where nothing is to be tuned. Raises InputError.
    """
    if tune is None or tune is False:
        return None
    if isinstance(tune, Budget):
        return tune
    if tune is True:
        return Budget()
    if isinstance(tune, int):
        return Budget(trials=tune)
    if isinstance(tune, dict) and set(tune) <= {"trials", "seconds", "again"}:
        return Budget(**tune)
    raise InputError(
        "tune must be True, a number of trials, or a dict of trials, seconds and again, "
        f"not {tune!r}"
    )


@dataclass(frozen=True)
class Outcome:
    """What was found for an operator that `count` kernels are: seconds of a call by the default
    schedule and by the chosen one, which may be the default, after so many trials.
    """

    operator: str
    count: int
    default: float
    best: float
    blocking: Blocking
    trials: int


@dataclass(frozen=True)
class Report:
    """The outcome of a run: its operators, how many were known before, whether it was cut short,
    and how many operators had no trial in the time given.
    """

    outcomes: tuple[Outcome, ...]
    known: int
    interrupted: bool = False
    missed: int = 0

    @property
    def speedup(self) -> float:
        """The time of the operators by default over that by the schedules chosen."""
        best = sum(o.count * o.best for o in self.outcomes)
        return sum(o.count * o.default for o in self.outcomes) / best if best else 1.0

    def text(self) -> str:
        """A line for each operator that was tried, the most expensive first, and one for all."""
        tried = [o for o in self.outcomes if o.trials]
        lines = [
            f"{o.operator:42} {o.count:3} x {1e6 * o.default:10.1f} us -> {1e6 * o.best:10.1f} us"
            f"  {o.default / o.best:5.2f}  {_sizes(o.blocking)} ({o.trials} trials)"
            for o in sorted(tried, key=lambda o: -o.count * o.default)
        ]
        known = f", {self.known} known before" if self.known else ""
        missed = f", {self.missed} not reached" if self.missed else ""
        cut = "; cut short" if self.interrupted else ""
        lines.append(
            f"{len(tried)} operators tuned{known}{missed}: {self.speedup:.2f} times as fast{cut}"
        )
        return "\n".join(lines)


def _sizes(b: Blocking) -> str:
    return f"{b.rows}x{b.vectors} depth {b.depth} block {b.block_rows} panels {b.panels}" + (
        " straight" * b.straight
    )


def tune(
    graphs: Iterable[Graph],
    budget: Budget = Budget(),
    progress: Progress = silent,
    settings: Settings | None = None,
) -> Report:
    """Tunes the contractions of `graphs` for the present number of threads and the target of
    `settings` (None: as they are now).

    Ctrl-C ends it early and keeps what was found. Raises TuningError where the database cannot be
    written, CompileError and UnsupportedError for graphs that cannot be compiled.
    """
    settings = config.settings() if settings is None else settings
    target, threads = named(settings.target), pool.get_num_threads()
    records, history = database.known(settings, target.key, threads, TUNED_VERSION), History()
    distinct = _distinct(graphs, target)
    tasks = [TunedOperator(s, target, history, records.get(s.key)) for s in distinct]
    new = [t for t in tasks if budget.again or t.trials < min(budget.trials, t.points)]
    if budget.again:
        for t in new:
            t.trials = 0
    with interrupts() as stop:
        base = database.Database(database.default_path(settings))
        interrupted = _Run(new, budget, progress, stop, base).go()
    outcomes = tuple(t.outcome() for t in new if t.seconds)
    missed = sum(not t.trials and not t.failed for t in new)
    return Report(outcomes, len(tasks) - len(new), interrupted, missed)


def _distinct(graphs: Iterable[Graph], target: Target) -> list[TuningTask]:
    """The contractions of several graphs, each once."""
    found: dict[str, TuningTask] = {}
    for graph in graphs:
        for task in tuning_tasks(graph, target):
            before = found.get(task.key)
            count = task.count + (before.count if before else 0)
            found[task.key] = replace(task, count=count)
    return list(found.values())


@dataclass
class _Run:
    """The tasks of a run, one batch after another."""

    tasks: Sequence[TunedOperator]
    budget: Budget
    progress: Progress
    stop: Callable[[], None]
    base: database.Database
    began: float = field(default_factory=time.monotonic)
    threads: int = field(default_factory=pool.get_num_threads)

    def go(self) -> bool:
        """Tunes until the budget is spent. Gives whether Ctrl-C ended it."""
        try:
            while (task := self._next()) is not None:
                if not task.started:
                    self._tell(task)
                    task.start(self.stop)
                else:
                    task.step(min(self._affordable(task), self.budget.trials - task.trials))
                    self._keep(task)
            for task in self.tasks:
                if task.started and task.trials:
                    task.finish()
                    self._keep(task)
        except KeyboardInterrupt:
            return True
        return False

    def _next(self) -> TunedOperator | None:
        """The operator with the most time for its batches so far, of those with trials left; one
        that was not started takes as long for its work as the others did.
        """
        if self._seconds_left() <= 0:
            return None
        open_ones = [t for t in self.tasks if t.left and t.trials < self.budget.trials]
        timed = [t for t in self.tasks if t.seconds]
        pace = sum(t.seconds for t in timed) / sum(t.work for t in timed) if timed else 1.0

        def weight(t: TunedOperator) -> float:
            return t.task.count * (t.seconds if t.started else pace * t.work) / (1 + t.batches)

        return max(open_ones, key=weight, default=None)

    def _affordable(self, task: TunedOperator) -> int:
        """How many candidates there is time for, up to a batch."""
        each = BUILD_SECONDS + 2 * ROUNDS * max(task.seconds, SLOT_SECONDS)
        return max(1, int(min(BATCH, self._seconds_left() / each)))

    def _seconds_left(self) -> float:
        """Of the budget."""
        limit = self.budget.seconds
        return inf if limit is None else limit - (time.monotonic() - self.began)

    def _keep(self, task: TunedOperator) -> None:
        """Write what was found for an operator, and show how far it is."""
        self.base.put([task.record(self.threads)])
        self._tell(task)

    def _tell(self, task: TunedOperator) -> None:
        trials = sum(t.trials for t in self.tasks)
        wanted = sum(min(t.trials + t.left, self.budget.trials) for t in self.tasks)
        done = sum(not t.left or t.trials >= self.budget.trials for t in self.tasks)
        outcomes = tuple(t.outcome() for t in self.tasks if t.seconds)
        speedup = Report(outcomes, 0).speedup
        status = Status(
            trials,
            wanted,
            done,
            len(self.tasks),
            speedup,
            task.operator,
            self._left(trials, wanted),
        )
        self.progress(status)

    def _left(self, trials: int, wanted: int) -> float | None:
        """Seconds that are likely left."""
        spent = time.monotonic() - self.began
        by_trials = spent / trials * (wanted - trials) if trials else inf
        left = min(max(0.0, self._seconds_left()), by_trials)
        return left if left < inf else None


# ---- one operator --------------------------------------------------------------------------------


@dataclass
class Candidate:
    """A schedule of an operator, ready to run: each call writes `outputs`."""

    run: Callable[[], None]
    outputs: list[Array]
    bufs: tuple[Buf, ...]

    def results(self) -> list[Array]:
        """What one run writes, over memory that holds no number before."""
        for out in self.outputs:
            out.view(np.uint8).fill(0xFF)
        self.run()
        return [out.copy() for out in self.outputs]


@dataclass
class TunedOperator:
    """An operator while it is tuned. `history` is what the operators of the run learn from, `known`
    what the database has of this one, `trials` are those of all runs; `seconds` is a call's time by
    the default schedule, 0 before that is measured; `chosen` is the blocking to keep, with its time
    over the default's.
    """

    task: TuningTask
    target: Target
    history: History = field(default_factory=History)
    known: database.Record | None = None
    seconds: float = 0.0
    batches: int = 0
    started: bool = False
    failed: str = ""

    def __post_init__(self) -> None:
        self.trials = self.known.trials if self.known else 0
        self.space = candidates(self.task.kernel, self.target, self.task.constant)
        self._by_point: dict[Point, Blocking] = {astuple(b): b for b in self.space}
        self._search = Search(list(self._by_point), self.trials, self._guide())
        self._stop: Callable[[], None] = lambda: None
        self.chosen: tuple[Blocking, float] = (self.space[0], 1.0)
        self._arrays: dict[str, Array] = {}
        self._programs: dict[Blocking, Candidate] = {}

    @property
    def operator(self) -> str:
        """What the operator is, for people."""
        s = sizes_of(self.task.kernel, self.target, self.task.constant)
        dtype = self.task.kernel.globals[0].dtype.name
        more = sum(1 for _ in self.task.kernel.body) - 1
        rows = "x".join(map(str, s.m)) or "1"
        return f"{dtype} m={rows} n={s.n} k={s.k}" + (f", fused with {more} more" if more else "")

    @property
    def points(self) -> int:
        """How many blockings there are beside the default."""
        return len(self.space) - 1

    @property
    def left(self) -> int:
        """How many points are left to try."""
        return 0 if self.failed else self._search.left

    @property
    def work(self) -> float:
        """Its multiply-adds."""
        s = sizes_of(self.task.kernel, self.target, self.task.constant)
        return float(s.rows * s.n * s.k)

    def _guide(self) -> Guide:
        sizes = sizes_of(self.task.kernel, self.target, self.task.constant)
        least = predicted(self.space[0], sizes, self.target)

        def described(point: Point) -> tuple[float, ...]:
            b = self._by_point[point]
            ratio = predicted(b, sizes, self.target) / max(least, 1e-9)
            return (*features(b, sizes, self.target), log2(max(ratio, 1e-9)))

        return Guide(self.history, self.task.key, described)

    def start(self, stop: Callable[[], None]) -> None:
        """Make the default schedule ready and time it, beside what the database has; an operator
        that cannot run alone is left out. `stop` is asked between measurements.
        """
        self._stop, self.started = stop, True
        stop()
        try:
            self._expected = self._program(self.space[0]).results()
        except FerruleError as error:
            self.failed = str(error)
            log.log(2, f"{self.operator} is not tuned: {error}")
            return
        before = blocking_from(self.known.point) if self.known else None
        several = [self.space[0]]
        if before is not None and before not in several and self._is_right(before):
            self._by_point[astuple(before)] = before
            several.append(before)
        self._compare(several, ROUNDS if before else 3)

    def step(self, count: int) -> None:
        """Try up to `count` new blockings beside the default and the best so far."""
        count = max(1, min(count, MEMORY // max(1, self._bytes()) - 2))
        asked = [self._by_point[p] for p in self._search.ask(count)]
        self.batches += 1
        self.trials += len(asked)
        right = [b for b in asked if self._is_right(b)]
        for b in asked:
            self._search.tell(astuple(b), inf)
        best = self._by_point[self._search.best[0]]
        self._compare(list(dict.fromkeys((self.space[0], best, *right))), ROUNDS)
        self._forget()

    def finish(self) -> None:
        """Measure the best once more: it is chosen if it is faster than the default again."""
        best = self._by_point[self._search.best[0]]
        if best != self.space[0]:
            self.chosen = (self.space[0], 1.0)
            self._compare([self.space[0], best], LAST_ROUNDS)
        self._programs.clear()

    def record(self, threads: int) -> database.Record:
        """What the database is to hold."""
        blocking, ratio = self.chosen
        nanoseconds = 1e9 * self.seconds
        return database.Record(
            self.target.key, threads, self.task.key, TUNED_VERSION, self.operator,
            point_of(blocking), nanoseconds, nanoseconds * ratio, self.trials,
        )  # fmt: skip

    def outcome(self) -> Outcome:
        """What was found so far."""
        blocking, ratio = self.chosen
        best = self.seconds * ratio
        return Outcome(self.operator, self.task.count, self.seconds, best, blocking, self.trials)

    def _compare(self, several: Sequence[Blocking], rounds: int) -> None:
        """Time blockings, the default first, and choose the fastest that is faster than it."""
        found = side_by_side([self._program(b).run for b in several], rounds, self._stop)
        self.seconds = found[0].seconds
        for b, m in zip(several[1:], found[1:]):
            self._search.tell(astuple(b), m.ratio)
        self._search.tell(astuple(self.space[0]), 1.0)
        faster = [(m.ratio, i) for i, m in enumerate(found) if i and _is_faster(m)]
        if faster:
            ratio, i = min(faster)
            self.chosen = (several[i], ratio)
        elif self.chosen[0] in several:
            self.chosen = (self.space[0], 1.0)

    def _is_right(self, b: Blocking) -> bool:
        """Whether a blocking compiles and gives the default's results."""
        self._stop()
        try:
            results = self._program(b).results()
        except FerruleError as error:
            log.log(2, f"{self.operator}: {_sizes(b)} fails: {error}")
            return False
        bufs = self._program(b).bufs
        for got, expected, buf in zip(results, self._expected, bufs):
            message = difference(got, expected, buf.dtype)
            if message is not None:
                log.warn(f"{self.operator}: {_sizes(b)} is left out: {message}")
                self._programs.pop(b, None)
                return False
        return True

    def _program(self, b: Blocking) -> Candidate:
        if b not in self._programs:
            self._programs[b] = self._built(b)
        return self._programs[b]

    def _forget(self) -> None:
        """Drop the programs that are not measured again."""
        keep = (self.space[0], self._by_point[self._search.best[0]])
        self._programs = {b: p for b, p in self._programs.items() if b in keep}

    def _built(self, b: Blocking) -> Candidate:
        compiled, face = compile_task(self.task, self.target, b)
        executable = load(compiled)
        inputs, params = ([self._array(x) for x in xs] for xs in (face.inputs, face.params))
        outputs = [np.zeros(_shape(x), x.dtype.numpy) for x in face.outputs]
        if params:
            executable.bind([(x.ctypes.data, x) for x in params])
        return Candidate(_caller(executable, inputs, outputs), outputs, face.outputs)

    def _array(self, buf: Buf) -> Array:
        """The operand for a buffer: positive numbers, zeros for indices, a dim's likely value."""
        if buf.name not in self._arrays:
            sizes = {d.name: np.array(likely(d)) for d in self.task.kernel.dims}
            self._arrays[buf.name] = sizes.get(buf.name, _operand(buf, len(self._arrays)))
        return self._arrays[buf.name]

    def _bytes(self) -> int:
        return sum(x.nbytes for x in self._arrays.values())


def features(b: Blocking, sizes: ContractionSizes, target: Target) -> tuple[float, ...]:
    """A blocking of a contraction of these sizes as numbers that compare across operators: its own,
    the work at its edges over the work that counts, its panels and blocks over the caches, and the
    extents. Sizes are logarithms: trees split them, and doubling means the same everywhere.
    """
    lanes, along = target.lanes(sizes.size), sizes.m[-1] if b.straight else sizes.rows
    width, depth = b.vectors * lanes, min(b.depth, sizes.k)
    down, across = -(-along // b.rows) * b.rows, -(-sizes.n // width) * width
    return (
        b.rows, b.vectors, b.rows * b.vectors / target.registers, b.straight,
        *map(log2, (depth, b.block_rows, b.panels, b.unroll)),
        down / along, across / sizes.n, -(-sizes.k // depth),
        log2(depth * width * sizes.size / target.l1),
        log2(min(b.block_rows, sizes.rows) * depth * sizes.size / target.l2),
        log2(sizes.n * sizes.k * sizes.size / target.l2),
        *map(log2, (sizes.rows, sizes.n, sizes.k, sizes.size)),
    )  # fmt: skip


def _is_faster(m: Measured) -> bool:
    return m.ratio <= GAIN and m.wins >= WINS


def _caller(
    executable: Executable, inputs: list[Array], outputs: list[Array]
) -> Callable[[], None]:
    """A call of the program on these arrays, which it keeps alive."""
    places = [x.ctypes.data for x in inputs], [x.ctypes.data for x in outputs]
    dims = tuple(
        int(inputs[d.input_index]) if d.axis is None else inputs[d.input_index].shape[d.axis]
        for d in executable.compiled.dims
    )
    kept = inputs, outputs

    def call() -> None:
        assert kept
        executable.run(*places, dims)

    return call


def _shape(buf: Buf) -> tuple[int, ...]:
    return tuple(estimate(s) for s in buf.shape)


def _operand(buf: Buf, seed: int) -> Array:
    shape = _shape(buf)
    if buf.dtype.is_float:
        numbers = np.random.default_rng(seed).random(prod(shape), np.float32) + np.float32(0.05)
        return np.ascontiguousarray(to_storage(numbers.reshape(shape), buf.dtype))
    return np.full(shape, buf.dtype.is_bool, buf.dtype.numpy)


# ---- while compiling -----------------------------------------------------------------------------


def compiler(wanted: Any, settings: Settings) -> Compiler:
    """The native compiler, or one that tunes each graph before, where `wanted` (the argument `tune`
    of `ferrule.compile`) says so. Raises InputError.
    """
    budget, made = budget_from(wanted), native(settings)
    return made if budget is None else replace(made, program_of=_TuningCompiler(budget, settings))


@dataclass
class _TuningCompiler:
    """Tunes and compiles one graph after another; they share the budget's seconds."""

    budget: Budget
    settings: Settings
    spent: float = 0.0

    def __call__(self, graph: Graph) -> CompiledGraph:
        seconds, began = self.budget.seconds, time.monotonic()
        left = None if seconds is None else seconds - self.spent
        if left is None or left > 0:
            with tuning() as progress:
                budget = replace(self.budget, seconds=left)
                report = tune([graph], budget, progress, self.settings)
            log.log(1, report.text)
        self.spent += time.monotonic() - began
        return compile_graph(graph, self.settings)
