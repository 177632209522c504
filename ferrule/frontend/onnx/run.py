"""Running a model: stages of compiled code, and what runs in NumPy between them.

A Runner runs one Body. It converts as many nodes as it can to a graph, runs that, then the nodes
that only the host can run (results whose size depends on data, strings, bodies with such), and goes
on with the rest, now that their operands are there (`place`). What it compiled is kept, by the
shapes that it was compiled for and by the numbers that it looked at, so that a second run decides
nothing again. What follows from the declared inputs, whatever their sizes, is compiled before the
first run, with symbolic dims.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ferrule.base.compiler import Compiler
from ferrule.base.errors import FerruleError, UnsupportedError
from ferrule.base.spans import span
from ferrule.frontend.onnx.convert import LOOPS, Conversion, convert, guarded, storage
from ferrule.frontend.onnx.model import Array, Body, Op
from ferrule.frontend.onnx.place import CompiledConversion, Direct, Key, Onward, Place
from ferrule.frontend.onnx.ports import declared_types, varying_types
from ferrule.frontend.onnx.table import GRAPH, HOST, Assume, Attributes, rule_for
from ferrule.ir.graph import TensorType
from ferrule.ir.source import Given, Made, Source

_VARIANTS = 64
_MULTIPLES = (1, 32)
_HISTORY = 6

Types = Mapping[str, TensorType]
Control = Callable[["Runner", Op, list[Any], Mapping[str, Any]], tuple[Any, ...]]

CONTROL: dict[str, Control] = {}
"""Operators that run bodies, by name, filled by `rules/control.py`."""


@dataclass
class Runner:
    """Runs a Body on arrays. `outer` are the constants of the graphs around it."""

    body: Body
    compiler: Compiler
    outer: Mapping[str, Array] = field(default_factory=dict)
    ahead: bool = False
    direct: Direct | None = None
    """The last run as one call, where it was no more."""

    def __post_init__(self) -> None:
        self.constants: Mapping[str, Array] = ChainMap(dict(self.body.constants), dict(self.outer))
        self._wanted = tuple(p.name for p in self.body.outputs)
        self._name = re.sub(r"\W", "_", self.body.name) or "main"
        self._children: dict[int, Runner] = {}
        self._derived: dict[Any, Body] = {}
        self._in_numpy: dict[str, None] = {}
        self._places: list[Place] = []
        self._start = self._place(self.body.ops, self.constants)
        if self.ahead and self._start is not None:
            self._compile_ahead(self._start)

    # ---- before the first run --------------------------------------------------------------------

    def _compile_ahead(self, place: Place) -> None:
        """Compile what follows from the declared inputs for all values of their symbolic dims."""
        stage = self._declared_stage(place)
        if stage is not None:
            place.whole = CompiledConversion(stage, self.compiler)
            place.whole.onward = None if stage.rest else Onward((), None)

    def _declared_stage(self, place: Place) -> Conversion | None:
        """The stage for the declared inputs. Networks that halve an image and add the halves up
        again work for whole multiples of a size; what works for none waits for the sizes of a run.
        """
        limits: dict[str, int] = {}
        multiples = iter(_MULTIPLES)
        multiple = next(multiples)
        while True:
            types = declared_types(self.body.inputs, limits, multiple)
            if any(p.kind == "tensor" and p.name not in types for p in self.body.inputs):
                return None
            symbolic = any(not s.is_const for t in types.values() for s in t.shape)
            try:
                return self._stage(place.nodes, types, symbolic or place.decides)
            except Assume as fact:
                limits[fact.dim.name] = fact.limit
            except FerruleError:
                if not symbolic:
                    raise
                multiple = next(multiples, 0)
                if not multiple:
                    return None

    def _stage(self, nodes: Sequence[Op], types: Types, waits: bool) -> Conversion | None:
        """What can be compiled of a body for inputs of `types`; None, with `waits` or where it is
        nothing, if the sizes and numbers of a run would make it larger.
        """
        stage = self._convert(nodes, self.constants, types, {}, {})
        idle = len(stage.rest) == len(nodes)
        if (waits or idle) and not all(map(self._always_hosted, _roots(stage.rest))):
            return None
        return stage

    @property
    def programs(self) -> tuple[CompiledConversion, ...]:
        """What is compiled so far, inner bodies' programs included."""
        own = [p for place in self._places for p in place.programs]
        inner = [p for child in self._children.values() for p in child.programs]
        return tuple(p for p in (*own, *inner) if p.compiled is not None)

    @property
    def in_numpy(self) -> tuple[str, ...]:
        """The operators that ran outside of compiled code so far, in inner bodies too."""
        inner = (n for child in self._children.values() for n in child.in_numpy)
        return tuple(dict.fromkeys((*self._in_numpy, *inner)))

    def source(self, name: str) -> Source:
        """The body as a function that is built without this process. Raises UnsupportedError where
        it is not one program for all its inputs, with the operators that stand apart.
        """
        whole = None if self._start is None else self._start.whole
        if whole is None or whole.stage.rest or whole.stage.pins:
            rest = () if whole is None else whole.stage.rest
            apart = ", ".join(dict.fromkeys(op.title for op in rest))
            why = f"{apart} run apart" if apart else "it is compiled for the sizes of each run"
            raise UnsupportedError(
                f"{self.body.name or name} cannot be built as one program: {why}; an artifact "
                "runs without Python's operators, so give inputs constant sizes or leave these out"
            )
        stage = whole.stage
        arguments = tuple(p.name for p in self.body.inputs)
        params = zip(stage.graph.params, stage.params, strict=True)
        held = [(v.name, storage(x)) for v, x in params]
        return Source(
            name, stage.graph, arguments, tuple(Given(arguments.index(n)) for n in stage.inputs),
            tuple(self._made(stage, p.name) for p in self.body.outputs), tuple(held),
        )  # fmt: skip

    def _made(self, stage: Conversion, name: str) -> Made:
        inner = stage.same.get(name, name)
        if inner in stage.outputs:
            return Made(name, stage.outputs.index(inner))
        array = stage.known.get(inner, self.constants.get(inner))
        if array is None:
            raise UnsupportedError(f"the result {name} is an input as it is: leave it out")
        return Made(name, None, array=storage(array))

    # ---- a run -----------------------------------------------------------------------------------

    def __call__(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All values that a run leaves, the outputs among them. `given` are the inputs, and what
        the body captures. Raises what an operator raises, with its name.
        """
        env: dict[str, Any] = dict(given)
        place = self._start
        while place is not None:
            first = place is self._start
            program = self._program(place, env)
            program.run(env)
            if program.onward is None:
                program.onward = self._onward(program, place, env)
            else:
                for op in program.onward.hosts:
                    self._run_host(op, env)
            if first and not place.decides:
                inputs = [p.name for p in self.body.inputs]
                self.direct = program.direct(inputs, self._wanted, env)
            place = program.onward.place
        for name in self._wanted:
            if name not in env:
                env[name] = self.constants[name].copy()
        return env

    def results(self, given: Mapping[str, Any]) -> list[Any]:
        """The outputs in order."""
        env = self(given)
        return [env[name] for name in self._wanted]

    def _program(self, place: Place, env: Mapping[str, Any]) -> CompiledConversion:
        """The program for what can be compiled of a place's nodes, on arrays of these shapes."""
        types, decided = place.types(env), place.decisions(env)
        key = (types, tuple([(n, bool(x)) for n, x in decided.items()]))
        known = place.variants.get(key)
        if known is None:
            known = place.variants.setdefault(key, [])
            if place.whole is not None and place.whole.accepts(env):
                known.append(place.whole)
        for program in known:
            if program.fits(env):
                return program
        if len(known) >= _VARIANTS:
            del known[0]
        shared = self._varying(place, types, decided, env)
        known.append(shared or self._fixed(place, types, decided, env))
        return known[-1]

    def _fixed(
        self, place: Place, types: Key, decided: Mapping[str, Array], env: Mapping[str, Any]
    ) -> CompiledConversion:
        """A new program for the sizes of this run."""
        fixed = varying_types(place.sources, [types])
        stage = self._convert(place.nodes, place.constants, fixed, env, decided)
        return place.add(CompiledConversion(stage, self.compiler))

    def _varying(
        self, place: Place, types: Key, decided: Mapping[str, Array], env: Mapping[str, Any]
    ) -> CompiledConversion | None:
        """A program with symbolic dims for sizes that were others at another run, where the same
        nodes can be compiled so: a loop whose state grows does not compile at each step.
        """
        ranks = tuple(None if t is None else (len(t[0]), t[1]) for t in types)
        key = (ranks, tuple((n, bool(x)) for n, x in decided.items()))
        for program in place.shared.get(key, ()):
            if program.accepts(env):
                return program
        seen = place.seen.setdefault(key, [])
        seen.append(types)
        if not 1 < len(seen) <= _HISTORY:
            return None
        try:
            dims = varying_types(place.sources, seen)
            stage = self._convert(place.nodes, place.constants, dims, {}, decided)
        except (FerruleError, Assume):
            return None
        if not all(map(self._always_hosted, _roots(stage.rest))):
            return None
        program = place.add(CompiledConversion(stage, self.compiler))
        place.shared.setdefault(key, []).append(program)
        return program if program.accepts(env) else None

    def _convert(
        self, nodes: Sequence[Op], constants: Mapping[str, Array], types: Types,
        env: Mapping[str, Any], decided: Mapping[str, Array],
    ) -> Conversion:  # fmt: skip
        return convert(self._name, nodes, types, constants, self._wanted, env, decided)

    def _place(self, nodes: Sequence[Op], constants: Mapping[str, Array]) -> Place | None:
        if not nodes:
            return None
        self._places.append(Place(nodes, constants))
        return self._places[-1]

    # ---- what the host runs ----------------------------------------------------------------------

    def _onward(self, program: CompiledConversion, place: Place, env: dict[str, Any]) -> Onward:
        """Run the nodes behind a program that only the host can, or else the first that it can run
        at all; these, and where the run goes on.
        """
        rest = program.stage.rest
        tried = set(map(id, _roots(rest)))
        hosts = self._hosted(
            rest, env,
            lambda op: self._host_only(op) and (op.title not in LOOPS or id(op) in tried),
        )  # fmt: skip
        if not hosts and len(rest) == len(place.nodes):
            hosts = self._hosted(rest, env, lambda op: True, most=1)
            if not hosts:
                raise UnsupportedError(f"the model can't be run: {program.stage.why}")
        known = _with(program.stage.known, place.constants)
        return Onward(hosts, self._place(_without(rest, hosts), known))

    def _hosted(
        self, nodes: Sequence[Op], env: dict[str, Any], wanted: Callable[[Op], bool],
        most: int | None = None,
    ) -> tuple[Op, ...]:  # fmt: skip
        """Run those of `nodes` that are wanted, whose operands are there, and that the host can
        run; which these were.
        """
        done: list[Op] = []
        for op in nodes:
            ready = all(n in env or n in self.constants for n in op.reads)
            if ready and wanted(op) and self._can_host(op):
                self._run_host(op, env)
                done.append(op)
                if len(done) == most:
                    break
        return tuple(done)

    def _host_only(self, op: Op) -> bool:
        return bool(op.bodies) or rule_for(GRAPH, op.domain, op.type, op.version) is None

    def _always_hosted(self, op: Op) -> bool:
        """Whether no sizes and numbers of a run would bring a node into compiled code."""
        if _is_control(op):
            return op.type != "If"
        return self._host_only(op)

    def _can_host(self, op: Op) -> bool:
        return _is_control(op) or rule_for(HOST, op.domain, op.type, op.version) is not None

    def _run_host(self, op: Op, env: dict[str, Any]) -> None:
        self._in_numpy[op.title] = None
        with span("NumPy", op.title):
            self._run_told(op, env)

    def _run_told(self, op: Op, env: dict[str, Any]) -> None:
        args = [self.value(n, env) if n else None for n in op.inputs]
        if _is_control(op):
            found = guarded(op, lambda: CONTROL[op.type](self, op, args, env))
        else:
            rule = rule_for(HOST, op.domain, op.type, op.version)
            assert rule is not None
            found = guarded(op, lambda: rule.build(Attributes(op), *args))
        several = found if isinstance(found, tuple) else (found,)
        for name, x in zip(op.outputs, several):
            if name:
                env[name] = np.asarray(x) if isinstance(x, np.generic) else x

    def value(self, name: str, env: Mapping[str, Any]) -> Any:
        """What a name stands for in this run."""
        return env[name] if name in env else self.constants[name]

    def child(self, body: Body) -> Runner:
        """The runner of a body among the attributes of one of this body's nodes."""
        found = self._children.get(id(body))
        if found is None:
            outer = {n: self.constants[n] for n in body.captures if n in self.constants}
            found = self._children[id(body)] = Runner(body, self.compiler, outer)
        return found

    def derived(self, key: Any, make: Callable[[], Body]) -> Body:
        """A body that a rule made of a node, made once."""
        if key not in self._derived:
            self._derived[key] = make()
        return self._derived[key]

    def captured(self, body: Body, env: Mapping[str, Any]) -> dict[str, Any]:
        """What a body takes from this one in a run."""
        return {n: env[n] for n in body.captures if n in env}


# ---- helpers -------------------------------------------------------------------------------------


def _is_control(op: Op) -> bool:
    return op.type in CONTROL and not op.domain


def _without(nodes: Sequence[Op], gone: Sequence[Op]) -> tuple[Op, ...]:
    ids = set(map(id, gone))
    return tuple(op for op in nodes if id(op) not in ids)


def _roots(waiting: Sequence[Op]) -> tuple[Op, ...]:
    """The nodes that wait for no other one that waits."""
    blocked = {o for op in waiting for o in op.outputs}
    return tuple(op for op in waiting if not blocked.intersection(op.reads))


def _with(known: Mapping[str, Array], constants: Mapping[str, Array]) -> Mapping[str, Array]:
    return ChainMap(dict(known), constants) if known else constants  # type: ignore[arg-type]
