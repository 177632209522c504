"""`ferrule.profile`: where the time of calls goes.

    with ferrule.profile(model) as p:
        for x in batches:
            model(x)
    print(p)
    p.html("report.html")

While the block runs, every program of the process tells of its launches (`ferrule.runtime.trace`),
frontends tell what they leave to a framework (`ferrule.base.spans`), and the classes whose objects
users call are timed: their methods are replaced for as long. Outside of a profile a launch
reads one word and takes a branch.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ferrule.api.measured import Recorded, report_of
from ferrule.api.peaks import peaks
from ferrule.base import spans
from ferrule.base.errors import InputError
from ferrule.report.compare import Comparison, compare
from ferrule.report.data import Kernel, Report
from ferrule.report.page import page
from ferrule.report.perfetto import trace_events
from ferrule.report.text import text
from ferrule.runtime import cpu, pool
from ferrule.runtime.hardware import Counting
from ferrule.runtime.trace import Tracer

_CALLED = (
    ("ferrule.api.jit", "Jitted", "__call__"),
    ("ferrule.api.session", "InferenceSession", "run"),
    ("ferrule.api.programs", "ProgramSession", "run"),
    ("ferrule.frontend.onnx.run", "Runner", "__call__"),
    ("ferrule.frontend.torch.module", "CompiledModule", "__call__"),
    ("ferrule.frontend.torch.plan", "Plan", "__call__"),
    ("ferrule.frontend.torch.plan", "Direct", "__call__"),
)
"""Whose calls are timed: a class, and its method."""
_OF_DYNAMO = ("Plan", "Direct")
_SPANS = 20_000
_PAUSE = 50e-6

_running = threading.Lock()


class Profile:
    """A profile of what runs in its `with` block; see `profile`. What it has measured is there
    after the block.
    """

    def __init__(self, model: Any = None) -> None:
        self._model = model.__func__ if isinstance(model, types.MethodType) else model
        self._calls = _Calls(_wanted(self._model))
        self._tracer: Tracer | None = None
        self._report: Report | None = None
        self._ends = contextlib.ExitStack()
        self._started = 0

    def __enter__(self) -> Profile:
        if not _running.acquire(blocking=False):
            raise InputError("a profile is running in this process: end it before another begins")
        try:
            with contextlib.ExitStack() as ends:
                ends.callback(_running.release)
                self._tracer, self._report = Tracer(), None
                self._counting = Counting()
                ends.callback(self._counting.end)
                self._calls = _Calls(_wanted(self._model))
                ends.callback(cpu.trace, None)
                cpu.trace(self._tracer)
                ends.callback(spans.listen, None)
                spans.listen(self._calls)
                ends.enter_context(self._calls.timed(_classes(self._model)))
                self._ends = ends.pop_all()
        finally:
            self._started = time.perf_counter_ns()
        return self

    def __exit__(self, *error: Any) -> None:
        ended = time.perf_counter_ns()
        counters, uncounted = self._counting.end()
        self._ends.close()
        if error and error[0] is not None:
            return
        tracer = self._tracer
        assert tracer is not None
        tracer.clock.settle()
        calls = self._calls
        recorded = Recorded(
            name=_name(self._model),
            date=datetime.now().astimezone().isoformat(timespec="seconds"),
            traces=tuple(self._traces(tracer)),
            clock=tracer.clock,
            calls=tuple(calls.calls),
            framework={k: (n, t) for k, (n, t) in calls.outside.items()},
            spans=tuple(calls.spans),
            elapsed=(ended - self._started) * 1e-9,
            threads=pool.get_num_threads(),
            counters=counters,
            uncounted=uncounted,
        )
        self._report = report_of(recorded, peaks())

    def _traces(self, tracer: Tracer) -> Iterator[Any]:
        if self._model is None:
            yield from tracer.traces
            return
        own = [*self._calls.seen.values(), self._model]
        programs = {id(e.compiled) for x in own for e in getattr(x, "executables", ())}
        yield from (t for t in tracer.traces if id(t.program) in programs)

    @property
    def report(self) -> Report:
        """All that was measured, as plain values (`ferrule.report.data`)."""
        if self._report is None:
            raise InputError("a profile has its results after its `with` block has ended")
        return self._report

    @property
    def shares(self) -> Mapping[str, float]:
        """Seconds by share; they sum to `wall`. In this order: compute-intensive, memory-intensive,
        framework, call, entry, fork and join, idle threads.
        """
        return self.report.shares

    @property
    def wall(self) -> float:
        """Seconds of all calls together."""
        return self.report.wall

    @property
    def overhead(self) -> float:
        """Seconds that no kernel worked."""
        return self.report.overhead

    @property
    def counters(self) -> Mapping[str, int]:
        """What the CPU and the system counted in the block, of all threads of the process: cycles,
        instructions, cache misses, branch misses, page faults; those of them that they tell.
        """
        return self.report.counters

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """Each kernel that ran, the one that took longest first."""
        return self.report.kernels

    def __str__(self) -> str:
        return "a profile without results yet" if self._report is None else text(self._report)

    def html(self, path: str | Path) -> None:
        """Writes a page for people, one file that needs nothing else. Raises OSError."""
        Path(path).write_text(page(self.report), encoding="utf-8")

    def trace(self, path: str | Path) -> None:
        """Writes the launches as trace events, which https://ui.perfetto.dev and Chrome's
        chrome://tracing show. Raises OSError.
        """
        Path(path).write_text(trace_events(self.report), encoding="utf-8")

    def compare(self, other: Profile) -> Comparison:
        """This profile beside another of the same model: what takes longer there, by time lost."""
        return compare(self.report, other.report)


def profile(model: Any = None) -> Profile:
    """Measures where the time of calls goes; for a `with` statement.

    `model` is what `ferrule.compile`, `ferrule.jit`, `ferrule.InferenceSession` or
    `torch.compile(model, backend="ferrule")` give; None is every program of the process. Call it
    once before, so that compiling is not measured. What is given has `shares`, `kernels`, `html`,
    `trace` and `compare`, and prints as text.

    Of a function that `torch.compile` made, calls are seen from the compiled graph on, of whichever
    function; of a module, with Dynamo's guards. Raises InputError for anything else, and where a
    profile is running already.
    """
    return Profile(model)


# ---- whose calls ---------------------------------------------------------------------------------


def _wanted(model: Any) -> Callable[[Any], bool]:
    """Whether a call of an object is a call of the model."""
    if model is None:
        return lambda x: True
    if hasattr(model, "executables") or _is_optimized(model):
        return lambda x: x is model
    by_dynamo = hasattr(model, "_torchdynamo_orig_callable")
    if by_dynamo or getattr(model, "_compiled_call_impl", None) is not None:
        return lambda x: type(x).__name__ in _OF_DYNAMO
    raise InputError(
        f"a profile is of what ferrule.compile, ferrule.jit, ferrule.InferenceSession or "
        f'torch.compile(.., backend="ferrule") give, not of {type(model).__name__}'
    )


def _is_optimized(model: Any) -> bool:
    return type(model).__name__ == "OptimizedModule" and hasattr(model, "_orig_mod")


def _name(model: Any) -> str:
    if model is None:
        return "all programs"
    if _is_optimized(model):
        model = model._orig_mod
    given = getattr(getattr(model, "model", None), "body", None)  # an InferenceSession's
    found = getattr(given, "name", None) or getattr(model, "name", None)
    return str(found or getattr(model, "__name__", None) or type(model).__name__)


def _classes(model: Any) -> Iterator[tuple[type, str]]:
    """The classes whose calls are timed, and the methods."""
    if "torch" in sys.modules:
        importlib.import_module("ferrule.frontend.torch.module")
    for module, name, method in _CALLED:
        if module in sys.modules:
            yield getattr(sys.modules[module], name), method
    if _is_optimized(model):
        yield type(model), "__call__"


# ---- timing --------------------------------------------------------------------------------------


@dataclass
class _Frame:
    """Something that runs, within others, and how long these of its own took."""

    started: int
    inner: int = 0


class _Calls:
    """The calls of users, and what ran in a framework. Each thread changes its own frames alone."""

    def __init__(self, wanted: Callable[[Any], bool]) -> None:
        self._wanted = wanted
        self._frames: dict[int, list[_Frame]] = {}
        self.calls: list[tuple[int, int, int]] = []  # thread, from, to
        self.seen: dict[int, Any] = {}
        self.outside: dict[tuple[str, str], tuple[int, float]] = {}
        self.spans: list[tuple[int, str, int, int]] = []  # thread, name, from, to
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def timed(self, classes: Iterator[tuple[type, str]]) -> Iterator[None]:
        """Times these methods inside; at the end waits for the calls of other threads."""
        with contextlib.ExitStack() as ends:
            for cls, method in classes:
                own = method in vars(cls)
                before = getattr(cls, method)
                back = (setattr, cls, method, before) if own else (delattr, cls, method)
                setattr(cls, method, self._timed(before))
                ends.callback(*back)
            yield
        while self._frames.keys() - {threading.get_ident()}:
            time.sleep(_PAUSE)

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        frames_of, seen, calls, wanted = self._frames, self.seen, self.calls, self._wanted
        now, ident = time.perf_counter_ns, threading.get_ident

        @functools.wraps(method)
        def call(x: Any, *args: Any, **kwargs: Any) -> Any:
            thread = ident()
            frames = frames_of.get(thread)
            if frames is not None:
                seen[id(x)] = x
                if not frames:
                    return method(x, *args, **kwargs)
                with self._within(frames):
                    return method(x, *args, **kwargs)
            if not wanted(x):
                return method(x, *args, **kwargs)
            seen[id(x)] = x
            frames_of[thread] = []
            started = now()
            try:
                return method(x, *args, **kwargs)
            finally:
                calls.append((thread, started, now()))
                del frames_of[thread]

        return call

    @contextlib.contextmanager
    def _within(self, frames: list[_Frame]) -> Iterator[_Frame]:
        """A frame inside of others, of which the one around does not count the time."""
        frame = _Frame(time.perf_counter_ns())
        frames.append(frame)
        try:
            yield frame
        finally:
            frames.pop()
            if frames:
                frames[-1].inner += time.perf_counter_ns() - frame.started

    @contextlib.contextmanager
    def span(self, place: str, operator: Any) -> Iterator[None]:
        """An operator that runs in `place`."""
        thread = threading.get_ident()
        frames = self._frames.get(thread)
        if frames is None:  # in a call that is not the model's
            yield
            return
        try:
            with self._within(frames) as frame:
                yield
        finally:
            ended = time.perf_counter_ns()
            name = str(getattr(operator, "__name__", operator))
            if not isinstance(operator, types.BuiltinFunctionType):
                name = str(operator)
            own = (ended - frame.started - frame.inner) * 1e-9
            with self._lock:
                count, total = self.outside.get((place, name), (0, 0.0))
                self.outside[place, name] = count + 1, total + own
                if len(self.spans) < _SPANS:
                    self.spans.append((thread, f"{place}: {name}", frame.started, ended))
