"""Places in a run: the nodes that are left there, what they read, and what was compiled for them.

A run goes from place to place. At each, a program runs what can be compiled of the nodes, the host
runs what it alone can, and what remains is the next place. Which nodes these are depends on the
program alone, so it is found once (`CompiledConversion.onward`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ferrule.base.compiler import Compiler
from ferrule.base.errors import FerruleError, InputError
from ferrule.frontend.onnx.convert import Conversion, guarded, storage
from ferrule.frontend.onnx.model import Array, Op
from ferrule.frontend.onnx.table import HOST, Attributes, is_compiled, numpy_of, rule_for

Key = tuple[Any, ...]

_KEPT = 1024
_SMALL = 64
_CHOICES = 4
_STEPS = 32
_BUILT = ("Shape", "Size")  # what follows from these is decided while a graph is built


class CompiledConversion:
    """A conversion, compiled. `onward` is what follows it in a run, once that is known."""

    def __init__(self, stage: Conversion, compiler: Compiler) -> None:
        self.stage = stage
        self.onward: Onward | None = None
        self.compiled: Any = None
        self._call: Callable[..., tuple[Array, ...]] | None = None
        if stage.outputs:
            self.compiled = compiler.compile(stage.graph)
            if stage.params:
                held = [storage(x) for x in stage.params]
                self.compiled.executable.bind([(x.ctypes.data, x) for x in held])
            self._call = compiler.on_arrays(self.compiled.executable)
        self._views = [
            (name, numpy_of(v.dtype))
            for name, v in zip(stage.outputs, stage.graph.outputs)
            if v.dtype.name == "bf16"
        ]

    def run(self, env: dict[str, Any]) -> None:
        """Add the stage's results to `env`, which holds its inputs."""
        stage = self.stage
        if self._call is not None:
            env.update(zip(stage.outputs, self._call(*[env[n] for n in stage.inputs])))
            for name, view in self._views:
                env[name] = env[name].view(view)
        for name, x in stage.known.items():
            env[name] = x.copy()
        for name, other in stage.same.items():
            env[name] = env[other]

    def direct(self, inputs: Sequence[str], wanted: Sequence[str], env: Any) -> Direct | None:
        """A run from a feed to what is wanted, for inputs like those of `env`; None where more than
        this program's code makes it, or decides about it.
        """
        stage, more = self.stage, self.onward is None or self.onward.hosts or self.onward.place
        if self._call is None or more or self._views or stage.pins:
            return None
        if not set(wanted) <= set(stage.outputs) or not set(stage.inputs) <= set(inputs):
            return None
        if not all(isinstance(env[n], np.ndarray) for n in inputs):
            return None
        like = tuple([(n, env[n].shape, env[n].dtype) for n in inputs])
        picks = tuple([stage.outputs.index(n) for n in wanted])
        return Direct(like, tuple(stage.inputs), self._call, picks)

    def accepts(self, env: Mapping[str, Any]) -> bool:
        """Whether the shapes of this run are ones that the program was compiled for."""
        if self.compiled is None:
            return True
        try:
            self.compiled.signature.plan(tuple(env[n].shape for n in self.stage.inputs))
        except InputError:
            return False
        return True

    def fits(self, env: Mapping[str, Any]) -> bool:
        """Whether the numbers that the stage was built for are those of this run."""
        pins = self.stage.pins
        return not pins or all(_identical(env[n], x) for n, x in pins.items())


def _identical(x: Array, y: Array) -> bool:
    return x is y or (x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes())


@dataclass(frozen=True, slots=True)
class Direct:
    """A run that is one call of compiled code: for feeds `like` the one that it was made for (name,
    shape and dtype of each input), `call` on the arrays `given`, whose results `picks` chooses.
    """

    like: tuple[tuple[str, tuple[int, ...], np.dtype[Any]], ...]
    given: tuple[str, ...]
    call: Callable[..., tuple[Array, ...]]
    picks: tuple[int, ...]

    def __call__(self, feed: Mapping[str, Any]) -> list[Array] | None:
        """The outputs; None for another feed."""
        if len(feed) != len(self.like):
            return None
        for name, shape, dtype in self.like:
            x = feed.get(name)
            if type(x) is not np.ndarray or x.shape != shape or x.dtype is not dtype:
                return None
        found = self.call(*[feed[name] for name in self.given])
        return [found[k] for k in self.picks]


@dataclass(frozen=True)
class Onward:
    """What follows a program: nodes that the host runs, and the next place, if there is one."""

    hosts: tuple[Op, ...]
    place: Place | None


class Place:
    """Nodes that are left, in order; `constants` are the values known before any run.

    `sources` are the values from before that the nodes read. `whole` is a program that was compiled
    ahead of the runs.
    """

    def __init__(self, nodes: Sequence[Op], constants: Mapping[str, Array]) -> None:
        self.nodes, self.constants = tuple(nodes), constants
        self.made = {o: op for op in nodes for o in op.outputs if o}
        read = dict.fromkeys(n for op in nodes for n in op.reads)
        self.sources = tuple(n for n in read if n not in self.made and n not in constants)
        self.whole: CompiledConversion | None = None
        self._programs: list[CompiledConversion] = []
        self.variants: dict[Key, list[CompiledConversion]] = {}
        self.shared: dict[Key, list[CompiledConversion]] = {}
        self.seen: dict[Key, list[Key]] = {}
        self._choices = tuple(_choices(self.nodes, self.made, constants))
        self._numbers = tuple(dict.fromkeys(n for c in self._choices for n in c.sources))
        self._decided: dict[Key, Mapping[str, Array]] = {}

    def add(self, program: CompiledConversion) -> CompiledConversion:
        """Keep a program, for what tells of all that was compiled."""
        self._programs.append(program)
        return program

    @property
    def programs(self) -> tuple[CompiledConversion, ...]:
        """What was compiled for this place."""
        return (*((self.whole,) if self.whole else ()), *self._programs)

    @property
    def decides(self) -> bool:
        """Whether the numbers of a run may decide an If."""
        return bool(self._choices)

    def types(self, env: Mapping[str, Any]) -> Key:
        """Shape and dtype of each source that compiled code can take, None for the others."""
        return tuple([_kind(env.get(n)) for n in self.sources])

    def decisions(self, env: Mapping[str, Any]) -> Mapping[str, Array]:
        """The conditions of Ifs that follow from a few numbers of this run, by name."""
        if not self._choices:
            return {}
        numbers = tuple([_small(env.get(n)) for n in self._numbers])
        found = self._decided.get(numbers)
        if found is None:
            if len(self._decided) >= _KEPT:
                self._decided.clear()
            found = self._decided[numbers] = {
                c.name: x
                for c in self._choices
                if all(_small(env.get(n)) is not None for n in c.sources)
                and (x := c.value(env, self.constants)) is not None
            }
        return found


@functools.cache
def _has_code(dtype: np.dtype[Any]) -> bool:
    return is_compiled(dtype)


def _kind(x: Any) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
    return (x.shape, x.dtype) if isinstance(x, np.ndarray) and _has_code(x.dtype) else None


def _small(x: Any) -> tuple[Any, ...] | None:
    """What a small array holds, as a key."""
    if not isinstance(x, np.ndarray) or x.size > _SMALL or not _has_code(x.dtype):
        return None
    return x.shape, x.dtype, x.tobytes()


# ---- conditions ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """The condition of an If that `nodes` make of `sources`, all of which the host can run."""

    name: str
    nodes: tuple[Op, ...]
    sources: tuple[str, ...]

    def value(self, env: Mapping[str, Any], constants: Mapping[str, Array]) -> Array | None:
        """The condition in this run; None where it can't be told."""
        known: dict[str, Any] = {n: env[n] for n in self.sources}
        try:
            for op in self.nodes:
                rule = rule_for(HOST, op.domain, op.type, op.version)
                assert rule is not None
                args = [known[n] if n in known else constants[n] if n else None for n in op.inputs]
                found = guarded(op, functools.partial(rule.build, Attributes(op), *args))
                known.update(zip(op.outputs, found if isinstance(found, tuple) else (found,)))
        except FerruleError:
            return None
        condition = np.asarray(known[self.name])
        return condition if condition.size == 1 else None


def _choices(
    nodes: Sequence[Op], made: Mapping[str, Op], constants: Collection[str]
) -> Iterator[Choice]:
    """The conditions of the first few Ifs that the host can tell from values before."""
    count = 0
    for op in nodes:
        if op.type != "If" or op.domain or op.inputs[0] in constants or count >= _CHOICES:
            continue
        steps = _ancestors(op.inputs[0], made)
        if steps is not None:
            count += 1
            read = dict.fromkeys((op.inputs[0], *(n for s in steps for n in s.reads)))
            sources = tuple(n for n in read if n not in made and n not in constants)
            yield Choice(op.inputs[0], steps, sources)


def _ancestors(name: str, made: Mapping[str, Op]) -> tuple[Op, ...] | None:
    """The nodes that a value is made by, in order, if they are few and the host has them all."""
    found: dict[int, Op] = {}
    wanted = [name]
    while wanted:
        op = made.get(wanted.pop())
        if op is None or id(op) in found:
            continue
        rule = rule_for(HOST, op.domain, op.type, op.version)
        if rule is None or not rule.folds or op.type in _BUILT or len(found) >= _STEPS:
            return None
        found[id(op)] = op
        wanted.extend(op.reads)
    return tuple(op for op in dict.fromkeys(made.values()) if id(op) in found)
