"""Running a model: stages of compiled code, and what runs in NumPy between them.

A Runner runs one Body. It converts as many nodes as it can to a graph, runs that, then the nodes
that only the host can run (control flow, results whose size depends on data, strings), and goes on
with the rest, now that their operands are there. What it compiled is kept, by the shapes that it
was compiled for and by the numbers that it looked at, so that a second run decides nothing again.
A model without such nodes is one program with symbolic dims, compiled before the first run.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ferrule.base.errors import FerruleError, InputError, InputTypeError, UnsupportedError
from ferrule.frontend.onnx_convert import Stage, convert, guarded, storage
from ferrule.frontend.onnx_model import Array, Body, Op, Port
from ferrule.frontend.onnx_table import (
    GRAPH,
    HOST,
    Assume,
    Attributes,
    dtype_of,
    is_compiled,
    numpy_of,
    rule_for,
)
from ferrule.ir.expr import Expr, const, dim
from ferrule.ir.graph import Graph, TensorType

CompileGraph = Callable[[Graph], Any]
_VARIANTS = 64


@dataclass(frozen=True)
class Engine:
    """How graphs are compiled, and how a compiled one is called with NumPy arrays."""

    compile: CompileGraph
    callable: Callable[[Any], Callable[..., tuple[Array, ...]]]


class Program:
    """A stage, compiled."""

    def __init__(self, stage: Stage, engine: Engine) -> None:
        self.stage = stage
        self.compiled: Any = None
        self._call: Callable[..., tuple[Array, ...]] | None = None
        if stage.outputs:
            self.compiled = engine.compile(stage.graph)
            if stage.params:
                held = [storage(x) for x in stage.params]
                self.compiled.executable.bind([(x.ctypes.data, x) for x in held])
            self._call = engine.callable(self.compiled.executable)
        self._views = [
            numpy_of(v.dtype) if v.dtype.name == "bf16" else None for v in stage.graph.outputs
        ]

    def run(self, env: dict[str, Any]) -> None:
        """Add the stage's results to `env`, which holds its inputs."""
        stage = self.stage
        if self._call is not None:
            found = self._call(*[env[n] for n in stage.inputs])
            for name, x, view in zip(stage.outputs, found, self._views):
                env[name] = x if view is None else x.view(view)
        env.update({name: x.copy() for name, x in stage.known.items()})
        for name, other in stage.same.items():
            env[name] = env[other]

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
        return all(_identical(env[n], x) for n, x in self.stage.pins.items())


def _identical(x: Array, y: Array) -> bool:
    return x is y or (x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes())


@dataclass
class Runner:
    """Runs a Body on arrays. `outer` are the constants of the graphs around it."""

    body: Body
    engine: Engine
    outer: Mapping[str, Array] = field(default_factory=dict)
    ahead: bool = False

    def __post_init__(self) -> None:
        self.constants: Mapping[str, Array] = ChainMap(dict(self.body.constants), dict(self.outer))
        self._wanted = tuple(p.name for p in self.body.outputs)
        self._programs: dict[Any, list[Program]] = {}
        self._shapes: dict[Any, Mapping[str, tuple[int, ...]]] = {}
        self._shared: dict[Any, Program | None] = {}
        self._children: dict[int, Runner] = {}
        self._derived: dict[Any, Body] = {}
        self._in_numpy: dict[str, None] = {}
        self._whole: Program | None = self._compile_ahead() if self.ahead else None

    # ---- before the first run --------------------------------------------------------------------

    def _compile_ahead(self) -> Program | None:
        """The whole body for all sizes of its symbolic dims, if it is one graph.

        A body without symbolic dims gives its first stage, whatever waits after it.
        """
        limits: dict[str, int] = {}
        while True:
            types = declared_types(self.body.inputs, limits)
            if any(p.kind == "tensor" and p.name not in types for p in self.body.inputs):
                return None
            symbolic = any(not s.is_const for t in types.values() for s in t.shape)
            try:
                stage = self._convert(self.body.ops, types, {})
                whole = not (stage.rest and symbolic)
                return Program(stage, self.engine) if whole else None
            except Assume as fact:
                limits[fact.dim.name] = fact.limit
            except FerruleError:
                if symbolic:
                    return None
                raise

    @property
    def programs(self) -> tuple[Program, ...]:
        """What is compiled so far, inner bodies' programs included."""
        own = [p for known in self._programs.values() for p in known]
        own += [p for p in self._shared.values() if p is not None]
        first = [] if self._whole is None else [self._whole]
        inner = [p for child in self._children.values() for p in child.programs]
        return tuple(p for p in (*first, *own, *inner) if p.compiled is not None)

    @property
    def in_numpy(self) -> tuple[str, ...]:
        """The operators that ran outside of compiled code so far, in inner bodies too."""
        inner = (n for child in self._children.values() for n in child.in_numpy)
        return tuple(dict.fromkeys((*self._in_numpy, *inner)))

    # ---- a run -----------------------------------------------------------------------------------

    def __call__(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All values that a run leaves, the outputs among them. `given` are the inputs, and what
        the body captures. Raises what an operator raises, with its name.
        """
        env: dict[str, Any] = dict(given)
        nodes: Sequence[Op] = self.body.ops
        if self._whole is not None:
            try:
                self._whole.run(env)
                nodes = self._whole.stage.rest
            except InputError:  # sizes that it was not compiled for
                env = dict(given)
        while nodes:
            program = self._program(nodes, env)
            program.run(env)
            rest = self._hosted(program.stage.rest, env, only=True)
            if len(rest) == len(nodes):
                rest = self._hosted(rest, env, only=False)
                if len(rest) == len(nodes):
                    raise UnsupportedError(f"the model can't be run: {program.stage.why}")
            nodes = rest
        for name in self._wanted:
            if name not in env:
                env[name] = self.constants[name].copy()
        return env

    def results(self, given: Mapping[str, Any]) -> list[Any]:
        """The outputs in order."""
        env = self(given)
        return [env[name] for name in self._wanted]

    def _program(self, nodes: Sequence[Op], env: Mapping[str, Any]) -> Program:
        """The program for what can be compiled of `nodes`, on arrays of these shapes."""
        types = {
            n: (x.shape, x.dtype)
            for n in dict.fromkeys(n for op in nodes for n in op.reads)
            if isinstance(x := env.get(n), np.ndarray) and is_compiled(x.dtype)
        }
        place = tuple(id(op) for op in nodes)
        known = self._programs.setdefault((place, tuple(types.items())), [])
        for program in known:
            if program.fits(env):
                return program
        shared = self._varying(place, nodes, types, env)
        if shared is not None:
            return shared
        program = Program(self._convert(nodes, _types(types), env), self.engine)
        if len(known) >= _VARIANTS:
            del known[0]
        known.append(program)
        return program

    def _varying(
        self, place: Any, nodes: Sequence[Op], types: Mapping[str, Any], env: Mapping[str, Any]
    ) -> Program | None:
        """A program with symbolic dims for sizes that were others at another run, where the same
        nodes can be compiled so: a loop whose state grows does not compile at each step.
        """
        key = (place, tuple((n, len(s), d) for n, (s, d) in types.items()))
        if key not in self._shapes:
            self._shapes[key] = {n: s for n, (s, _) in types.items()}
            return None
        if key not in self._shared:
            self._shared[key] = None
            try:
                stage = self._convert(nodes, _types(types, self._shapes[key]), {})
                if not stage.rest:
                    self._shared[key] = Program(stage, self.engine)
            except (FerruleError, Assume):
                return None
        program = self._shared[key]
        return program if program is not None and program.accepts(env) else None

    def _convert(
        self, nodes: Sequence[Op], types: Mapping[str, TensorType], env: Mapping[str, Any]
    ) -> Stage:
        name = re.sub(r"\W", "_", self.body.name) or "main"
        return convert(name, nodes, types, self.constants, self._wanted, env)

    def _hosted(self, nodes: Sequence[Op], env: dict[str, Any], only: bool) -> tuple[Op, ...]:
        """Run those of `nodes` whose operands are there and that only the host can run (with
        `only`; else, the first that it can). What is left.
        """
        left: list[Op] = []
        for i, op in enumerate(nodes):
            ready = all(n in env or n in self.constants for n in op.reads)
            if not ready or (only and not self._host_only(op)) or not self._can_host(op):
                left.append(op)
                continue
            self._run_host(op, env)
            if not only:
                return (*left, *nodes[i + 1 :])
        return tuple(left)

    def _host_only(self, op: Op) -> bool:
        return bool(op.bodies) or rule_for(GRAPH, op.domain, op.type, op.version) is None

    def _can_host(self, op: Op) -> bool:
        control = op.type in CONTROL and not op.domain
        return control or rule_for(HOST, op.domain, op.type, op.version) is not None

    def _run_host(self, op: Op, env: dict[str, Any]) -> None:
        self._in_numpy[op.title] = None
        args = [self.value(n, env) if n else None for n in op.inputs]
        if op.type in CONTROL and not op.domain:
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
            found = self._children[id(body)] = Runner(body, self.engine, outer)
        return found

    def derived(self, key: Any, make: Callable[[], Body]) -> Body:
        """A body that a rule made of a node, made once."""
        if key not in self._derived:
            self._derived[key] = make()
        return self._derived[key]

    def captured(self, body: Body, env: Mapping[str, Any]) -> dict[str, Any]:
        """What a body takes from this one in a run."""
        return {n: env[n] for n in body.captures if n in env}


CONTROL: dict[str, Callable[..., Any]] = {}  # filled by onnx_control


def _types(
    types: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]],
    before: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, TensorType]:
    """The types of arrays. A size that was another `before` is symbolic; those that changed from
    and to the same numbers are one dim.
    """

    def size(old: int, new: int) -> Expr:
        return const(new) if old == new else dim(f"d_{old}_{new}", 1)

    return {
        n: TensorType(tuple(map(size, before[n] if before else s, s)), dtype_of(d))
        for n, (s, d) in types.items()
    }


def declared_types(
    ports: Sequence[Port], limits: Mapping[str, int] | None = None
) -> dict[str, TensorType]:
    """The types of a model's inputs as far as they are declared: dims with names are symbolic,
    those of one name are one, and those without a name are each its own. `limits` bounds some.
    """

    def size(port: Port, axis: int, s: int | str | None) -> Expr:
        if isinstance(s, int):
            return const(s)
        name = _dim_name(s or f"{port.name}_{axis}")
        return dim(name, 1, (limits or {}).get(name))

    out: dict[str, TensorType] = {}
    for port in ports:
        if port.kind != "tensor" or port.shape is None or not is_compiled(port.dtype):
            continue
        assert port.dtype is not None
        shape = tuple(size(port, axis, s) for axis, s in enumerate(port.shape))
        out[port.name] = TensorType(shape, dtype_of(port.dtype))
    return out


def _dim_name(text: str) -> str:
    """A dim's name from a model's: an identifier that is no word of the shape language."""
    return "d_" + re.sub(r"\W", "_", text, flags=re.ASCII)


def check_input(port: Port, x: Any) -> Any:
    """An argument for an input, as an array where a tensor is expected.

    Numbers and lists are converted. Raises InputTypeError for another dtype, InputError for another
    shape.
    """
    if port.kind in ("sequence", "optional", ""):
        return x
    array = x if isinstance(x, np.ndarray) else np.asarray(x)
    if port.dtype is not None and array.dtype != port.dtype:
        array = _converted(port, array, isinstance(x, np.ndarray | np.generic))
    if port.shape is not None:
        _check_shape(port, array)
    return array


def _converted(port: Port, array: Array, typed: bool) -> Array:
    assert port.dtype is not None
    if port.dtype == np.dtype(object) and array.dtype.kind in "US":
        return array.astype(object)
    if port.dtype.name == "bfloat16" and array.dtype == np.uint16:
        return array.view(port.dtype)
    whole = port.dtype.kind in "iub" and array.dtype.kind == "f"
    if not typed and array.dtype.kind in "iufb" and not whole:
        return array.astype(port.dtype)
    raise InputTypeError(
        f"the input {port.name!r} is a {port.type}, and was given an array of {array.dtype}; "
        f"convert it with .astype(numpy.{port.dtype})"
    )


def _check_shape(port: Port, array: Array) -> None:
    assert port.shape is not None
    shown = "[" + ", ".join("?" if s is None else str(s) for s in port.shape) + "]"
    if len(port.shape) != array.ndim:
        raise InputError(
            f"the input {port.name!r} is of shape {shown}, and was given one of rank {array.ndim}: "
            f"{list(array.shape)}"
        )
    for axis, (s, n) in enumerate(zip(port.shape, array.shape)):
        if isinstance(s, int) and s != n:
            raise InputError(
                f"the input {port.name!r} is of shape {shown}: its axis {axis} must be {s}, "
                f"not {n}; given {list(array.shape)}"
            )
