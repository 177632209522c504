"""Nodes to a Graph, with what is known evaluated on the way.

A value of the model is, while a stage is built,

    an array    known: a constant, or what follows from constants; one of objects may hold Exprs,
                the sizes of inputs and arithmetic on them
    a Value     computed by the graph
    waiting     it needs what only a run can tell: the size of NonZero's result, the number that
                a Reshape's computed shape turns out to be, a dtype that compiled code lacks

`convert` takes the nodes that it can; the others, and all that read from them, are the next
stage's. So a model whose shapes follow from its inputs' shapes is one graph with symbolic dims.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import i64
from ferrule.base.errors import CompileError, FerruleError, UnsupportedError
from ferrule.frontend.onnx.model import Array, Op
from ferrule.frontend.onnx.sizes import fold_sizes, settled, shape_array
from ferrule.frontend.onnx.table import (
    GRAPH,
    HOST,
    Attributes,
    Context,
    Rule,
    dtype_of,
    is_compiled,
    numpy_of,
    rule_for,
)
from ferrule.ir.expr import Expr, const, dims, product
from ferrule.ir.graph import Graph, GraphBuilder, Node, TensorType, Value
from ferrule.ir.interp import run_graph
from ferrule.ir.simplify import simplify

FOLD_LIMIT = 1 << 14
_LITERAL = 16

LOOPS: dict[str, tuple[Callable[[OnnxConverter, Op], tuple[Array | Value, ...]], ...]] = {}
"""How operators become loops or branches of the graph where their bodies can be: builders to try
one after another, by name, filled by onnx_loop."""


class TooLarge(CompileError):
    """A result that no memory could hold, however it is computed."""


class NeedsValue(Exception):
    """A rule asks for the number behind a value that only a run can tell."""


@dataclass(frozen=True, eq=False)
class Conversion:
    """A graph and what surrounds it.

    `inputs` are the names that the graph takes in order, `params` its parameters' arrays;
    `outputs` the names of what it gives; `known` are results known without a run, `sizes` those
    among the outputs that follow from the dims (arrays of Exprs), and `same` results that are
    another value. `rest` are the nodes that wait, `pins` the run-time arrays whose numbers the
    graph was built for, and `why` says why the first node waits.
    """

    graph: Graph
    params: tuple[Array, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    known: Mapping[str, Array]
    sizes: Mapping[str, Array]
    same: Mapping[str, str]
    rest: tuple[Op, ...]
    pins: Mapping[str, Array]
    why: str = ""


def convert(
    name: str,
    nodes: Sequence[Op],
    types: Mapping[str, TensorType],
    constants: Mapping[str, Array],
    wanted: Iterable[str],
    peek: Mapping[str, Any] | None = None,
    decided: Mapping[str, Array] | None = None,
) -> Conversion:
    """A Conversion of those of `nodes` that can be built from inputs of `types` and from
    `constants`.

    `wanted` are the results that somebody reads. `peek` are the arrays of this run, where there
    is one: a rule that must know a number takes it from there, and the stage holds for it alone.
    `decided` are conditions of Ifs that hold in this run. Raises CompileError and UnsupportedError
    with the node.
    """
    c = OnnxConverter(name, types, constants, peek or {}, decided or {})
    for op in nodes:
        c.node(op)
    return c.stage(wanted)


@dataclass
class OnnxConverter:
    """Builds one stage, node by node; with an `outer` one the body of one of its nodes."""

    name: str
    types: Mapping[str, TensorType]
    constants: Mapping[str, Array]
    peek: Mapping[str, Any]
    decided: Mapping[str, Array] = field(default_factory=dict)
    env: dict[str, Array | Value] = field(default_factory=dict)
    waiting: list[Op] = field(default_factory=list)
    why: str = ""
    outer: OnnxConverter | None = None

    def __post_init__(self) -> None:
        self.b = GraphBuilder(self.name)
        self._blocked: set[str] = set()
        self._inputs: dict[str, Value] = {}
        self._params: list[Array] = []
        self._values: dict[int, Value] = {}
        self._held: list[Array] = []
        self._pins: dict[str, Array] = {}

    # ---- nodes -----------------------------------------------------------------------------------

    def node(self, op: Op) -> None:
        """Convert a node, or let it wait."""
        self.b.location = op.name
        if self._branched(op):
            return
        reason = self._convert(op)
        if reason:
            self.why = self.why or f"{op.where}: {reason}"
            self.waiting.append(op)
            self._blocked.update(o for o in op.outputs if o)

    def _branched(self, op: Op) -> bool:
        """Whether this is an If whose condition is known; the branch's nodes are converted then."""
        if op.type != "If" or op.domain:
            return False
        condition: Any = self.decided.get(op.inputs[0])
        if condition is None and self._has(op.inputs[0]):
            condition = self.entry(op.inputs[0])
        if not isinstance(condition, np.ndarray):
            return False
        body = op.body("then_branch" if condition.reshape(-1)[0] else "else_branch")
        self.env.update(body.constants)
        for inner in body.ops:
            self.node(inner)
        for port, out in zip(body.outputs, op.outputs):
            self.node(Op("Identity", "", op.version, (port.name,), (out,)))
        return True

    def _convert(self, op: Op) -> str:
        """Why a node waits; "" where it is done."""
        missing = [n for n in op.reads if n in self._blocked or not self._has(n)]
        if missing:
            return f"it reads {missing[0]!r}"
        rule = rule_for(GRAPH, op.domain, op.type, op.version)
        entries = [self.entry(n) if n else None for n in op.inputs]
        if self._folded(op, entries, rule):
            return ""
        if op.title in LOOPS:
            return self._looped(op)
        if rule is None or op.bodies:
            return "it runs outside of compiled code"
        strange = [x for x in entries if isinstance(x, np.ndarray) and not _plain(x)]
        if strange:
            return f"compiled code has no tensors of {strange[0].dtype}"
        try:
            results = self._built(op, rule, entries)
        except NeedsValue as error:
            return str(error)
        except UnsupportedError:
            if rule_for(HOST, op.domain, op.type, op.version) is not None:
                return "compiled code can't run it with these operands"
            raise
        self._define(op, results)
        return ""

    def _looped(self, op: Op) -> str:
        """Make a node a loop or branches of the graph. Why it is none, and nothing then remains of
        it.
        """
        reasons: dict[str, None] = {}
        for build in LOOPS[op.type]:
            params = len(self._params)
            try:
                results = guarded(op, functools.partial(build, self, op))
            except TooLarge:
                raise
            except (CompileError, UnsupportedError) as error:
                self._forget(params)
                reasons[str(error).removeprefix(f"{op.where}: ")] = None
            else:
                self._define(op, results)
                return ""
        return "; ".join(reasons)

    def _forget(self, count: int) -> None:
        """Drop the params behind the first `count`."""
        gone = self.b.params[count:]
        del self._params[count:], self.b.params[count:]
        self._values = {i: v for i, v in self._values.items() if not any(v is g for g in gone)}

    def inner(self, b: GraphBuilder, env: Mapping[str, Array | Value]) -> OnnxConverter:
        """A converter for a body of one of this one's nodes, to a graph inside of this one's."""
        made = OnnxConverter(b.name, {}, {}, {}, env=dict(env), outer=self)
        made.b = b
        return made

    def _built(self, op: Op, rule: Rule, entries: Sequence[Array | Value | None]) -> Any:
        args: list[Any] = []
        for i, (name, x) in enumerate(zip(op.inputs, entries)):
            if x is None:
                args.append(None)
            elif i in rule.static:
                args.append(self._number(name, x, rule))
            else:
                args.append(self.value(x))
        known = {i: x for i, x in enumerate(entries) if isinstance(x, np.ndarray)}
        return guarded(op, lambda: rule.build(Context(self.b, op, self.value, known), *args))

    def _define(self, op: Op, results: Any) -> None:
        several = results if isinstance(results, tuple) else (results,)
        named = [o for o in op.outputs if o]
        if len(several) < len(op.outputs) and any(op.outputs[len(several) :]):
            raise UnsupportedError(f"{op.where}: it gives {len(several)} of {len(named)} results")
        for name, value in zip(op.outputs, several):
            if name:
                if isinstance(value, Value):
                    _check_size(op, value)
                self.env[name] = value

    # ---- known values ----------------------------------------------------------------------------

    def _folded(self, op: Op, entries: Sequence[Array | Value | None], rule: Rule | None) -> bool:
        """Whether the node's results follow from what is known; they are then."""
        if op.domain == "" and op.type in ("Shape", "Size"):
            shape = entries[0].shape if entries[0] is not None else ()
            self.env[op.outputs[0]] = settled(shape_array(op, shape))
            return True
        arrays = [x for x in entries if x is not None]
        if not all(isinstance(x, np.ndarray) for x in arrays) or op.bodies:
            return False
        found = self._evaluated(op, entries, rule)
        if found is None:
            return False
        self._define(op, found)
        return True

    def _evaluated(
        self, op: Op, entries: Sequence[Any], rule: Rule | None
    ) -> tuple[Array, ...] | None:
        arrays = [x for x in entries if x is not None]
        if any(_symbolic(x) for x in arrays):
            return fold_sizes(op, entries)
        by_host = rule_for(HOST, op.domain, op.type, op.version)
        plain = all(map(_plain, arrays))
        if plain and sum(x.size for x in arrays) > FOLD_LIMIT:
            return None
        if by_host is not None and by_host.folds:
            try:
                found = guarded(op, lambda: by_host.build(Attributes(op), *entries))
            except UnsupportedError:
                return None
            several = found if isinstance(found, tuple) else (found,)
            several = tuple(np.asarray(x) if isinstance(x, np.generic) else x for x in several)
            fits = all(isinstance(x, np.ndarray) and x.size <= FOLD_LIMIT for x in several)
            return several if fits or not plain else None
        if by_host is None and rule is not None and rule.folds and plain and arrays:
            return self._interpreted(op, rule, entries)
        return None

    def _interpreted(self, op: Op, rule: Rule, entries: Sequence[Any]) -> tuple[Array, ...] | None:
        """The results of a node on known operands, by the meaning of its graph."""
        inner = OnnxConverter(op.type, {}, {}, {})
        results = inner._built(op, rule, entries)
        several = results if isinstance(results, tuple) else (results,)
        sizes = [product(v.shape) if isinstance(v, Value) else None for v in several]
        if any(s is not None and (not s.is_const or s.value > FOLD_LIMIT) for s in sizes):
            return None
        values = [v for v in several if isinstance(v, Value)]
        held = [storage(x) for x in inner._params]
        found = iter(run_graph(inner.b.build(values), held))
        return tuple(_natural(next(found), v) if isinstance(v, Value) else v for v in several)

    def _number(self, name: str, x: Array | Value, rule: Rule) -> Array:
        """A static operand as an array."""
        if isinstance(x, Value):
            held = self.peek.get(name)
            if not isinstance(held, np.ndarray):
                raise NeedsValue(f"it must know the number that {name!r} holds")
            self._pins[name] = held
            return held
        if _symbolic(x) and not rule.sizes:
            raise UnsupportedError(f"{name!r} must be known, and depends on the sizes of inputs")
        return x

    # ---- values ----------------------------------------------------------------------------------

    def _has(self, name: str) -> bool:
        return name in self.env or name in self.constants or name in self.types

    def entry(self, name: str) -> Array | Value:
        if name in self.env:
            return self.env[name]
        if name in self.constants:
            return self.constants[name]
        value = self._inputs.get(name)
        if value is None:
            value = self._inputs[name] = self.b.input(self.types[name], f"i{len(self._inputs)}")
        return value

    def value(self, x: Array | Value) -> Value:
        """An entry as a Value: a literal where it is small, else a parameter."""
        if isinstance(x, Value):
            return x
        known = self._values.get(id(x))
        if known is None:
            known = self._values[id(x)] = self._literal(x)
            self._held.append(x)
        return known

    def _literal(self, x: Array) -> Value:
        if _symbolic(x):
            return self._sizes(x) if self.outer is None else self.outer.value(x)
        dtype = dtype_of(x.dtype)
        if x.size == 1 or (0 < x.size <= _LITERAL and (x == x.flat[0]).all()):
            return ops.full(self.b, x.shape, x.flat[0].item(), dtype)
        if self.outer is not None:
            return self.outer.value(x)
        self._params.append(x)
        return self.b.param(TensorType(_shape(x.shape), dtype), f"w{len(self._params) - 1}")

    def _sizes(self, x: Array) -> Value:
        each = [
            ops.scalar(self.b, e) if isinstance(e, Expr) else ops.full(self.b, (), int(e), i64)
            for e in x.ravel().tolist()
        ]
        return each[0] if x.ndim == 0 else ops.reshape(self.b, ops.stack(self.b, each, 0), x.shape)

    # ---- the result ------------------------------------------------------------------------------

    def stage(self, wanted: Iterable[str]) -> Conversion:
        """What was built, with those of its values that are read elsewhere as results."""
        names = dict.fromkeys((*wanted, *(n for op in self.waiting for n in op.reads)))
        outputs: dict[str, Value] = {}
        known: dict[str, Array] = {}
        symbolic: dict[str, Array] = {}
        same: dict[str, str] = {}
        for name in names:
            entry = self.env.get(name)
            if isinstance(entry, Value):
                self._result(name, entry, outputs, known, same)
            elif entry is not None and _symbolic(entry):
                symbolic[name] = entry
                outputs[name] = self.value(entry)
            elif entry is not None:
                known[name] = entry
        graph = self.b.build(outputs.values())
        graph = replace(graph, inputs=(*graph.inputs, *self._sources(graph)))
        inputs = {id(v): n for n, v in self._inputs.items()}
        return Conversion(
            graph, tuple(self._params), tuple(inputs[id(v)] for v in graph.inputs),
            tuple(outputs), known, symbolic, same, tuple(self.waiting), self._pins, self.why,
        )  # fmt: skip

    def _result(
        self, name: str, v: Value, outputs: dict[str, Value], known: dict[str, Array],
        same: dict[str, str],
    ) -> None:  # fmt: skip
        source = next((n for n, x in self._inputs.items() if x is v), None)
        twin = next((n for n, x in outputs.items() if x is v), None)
        if source is not None or twin is not None:
            same[name] = source or twin or ""
        elif any(p is v for p in self.b.params):
            place = next(i for i, p in enumerate(self.b.params) if p is v)
            known[name] = self._params[place]
        else:
            outputs[name] = v

    def _sources(self, graph: Graph) -> tuple[Value, ...]:
        """Inputs that no node reads, whose sizes are dims that are needed."""
        bare = {s for v in graph.inputs for s in v.shape}
        nodes = tuple(_nodes(graph))
        needed = {d for n in nodes for v in n.outputs for s in v.shape for d in dims(s)}
        needed |= {d for v in graph.inputs for s in v.shape for d in dims(s)}
        needed |= {d for n in nodes for _, a in n.attrs for e in _exprs(a) for d in dims(e)}
        missing = needed - bare
        extra: list[Value] = []
        for name, t in self.types.items():
            if name not in self._inputs and missing & set(t.shape):
                value = Value(f"i{len(self._inputs)}", t)
                self._inputs[name] = value
                extra.append(value)
                missing -= set(t.shape)
        return tuple(extra)


# ---- helpers -------------------------------------------------------------------------------------


def _nodes(graph: Graph) -> Iterable[Node]:
    """The nodes of a graph and of the graphs inside of it."""
    for n in graph.nodes:
        yield n
        for _, a in n.attrs:
            if isinstance(a, Graph):
                yield from _nodes(a)


def _exprs(a: Any) -> Iterable[Expr]:
    if isinstance(a, Expr):
        yield a
    elif isinstance(a, tuple):
        for x in a:
            yield from _exprs(x)


def _shape(shape: tuple[int, ...]) -> tuple[Expr, ...]:
    return tuple(const(s) for s in shape)


def _symbolic(x: Array) -> bool:
    """Whether an array holds Exprs."""
    return x.dtype == np.dtype(object) and any(isinstance(e, Expr) for e in x.flat)


def _plain(x: Array) -> bool:
    return is_compiled(x.dtype) or _symbolic(x)


def storage(x: Array) -> Array:
    """An array as compiled code has it in memory."""
    stored = x.view(np.uint16) if x.dtype.name == "bfloat16" else x
    return np.require(stored, None, ["C", "A"])


def _natural(x: Array, v: Value) -> Array:
    """What a graph gives for `v` as the model's array."""
    return x.view(numpy_of(v.dtype)) if v.dtype.name == "bf16" else x


def guarded(op: Op, build: Any) -> Any:
    """What `build` gives; its errors name the node."""
    try:
        with np.errstate(all="ignore"):
            return build()
    except FerruleError as error:
        text = str(error)
        raise type(error)(text if op.where in text else f"{op.where}: {text}") from error
    except MemoryError:
        raise CompileError(f"{op.where}: its result is too large for memory") from None
    except (
        TypeError, ValueError, KeyError, IndexError, AttributeError, AssertionError, OverflowError,
        ZeroDivisionError,
    ) as error:  # fmt: skip
        raise CompileError(f"{op.where}: {type(error).__name__}: {error}") from error


def _check_size(op: Op, v: Value) -> None:
    """CompileError for a value that no memory could hold."""
    sizes = [simplify(s) for s in v.shape]
    if not all(s.is_const for s in sizes):
        return
    # in Python's integers: those of an Expr end at 64 bits
    size = prod(int(s.value) for s in sizes) * v.dtype.size
    if size > memory_bytes():
        raise CompileError(
            f"{op.where}: its result {v.type} would take {size} bytes, more than this machine's "
            "memory"
        )


def memory_bytes() -> int:
    """The bytes of this machine's memory."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 1 << 40
