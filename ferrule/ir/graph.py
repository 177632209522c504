"""Graph: tensor operators in SSA form.

    type   = dtype[dim, ..]                         dims are Exprs, so they may be symbolic
    node   = %out:type.. = op(%in..) {attr = value..} [at location]
    graph  = name (%input:type..) (%param:type..) { node.. return %out.. }

Operators are named and defined as in the StableHLO specification where it has them; composites that
are worth keeping whole (softmax, layer_norm, attention, ..) carry a definition of their own.
Everything about an operator stands in one `OpDef`: the type rule, the NumPy meaning, and the
Compute it lowers to. `params` are inputs whose values are known before the first run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ferrule.base.dtype import DType
from ferrule.base.errors import CompileError, FerruleError, UnsupportedError
from ferrule.ir.expr import TRUE, ZERO, Buf, Expr, as_index, axis, le
from ferrule.ir.simplify import simplify
from ferrule.ir.system import Requirement, Stage

Shape = tuple[Expr, ...]


@dataclass(frozen=True)
class TensorType:
    """A shape of i64 Exprs and a dtype."""

    shape: Shape
    dtype: DType

    @property
    def rank(self) -> int:
        return len(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype.name}[{', '.join(map(str, self.shape))}]"


def tensor(shape: Iterable[Expr | int], dtype: DType) -> TensorType:
    """A TensorType from ints and Exprs, simplified."""
    return TensorType(tuple(simplify(as_index(s)) for s in shape), dtype)


@dataclass(frozen=True)
class Value:
    """An SSA value: a name, unique in its graph, and a type."""

    name: str
    type: TensorType

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def rank(self) -> int:
        return len(self.type.shape)


Attrs = dict[str, Any]


@dataclass(frozen=True)
class Node:
    """One operator application. Attribute values are hashable: numbers, strings, dtypes, Exprs,
    orders, and tuples of these.
    """

    op: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    attrs: tuple[tuple[str, Any], ...] = ()
    location: str = field(default="", compare=False)

    @property
    def attributes(self) -> Attrs:
        return dict(self.attrs)


@dataclass(frozen=True)
class Graph:
    """A whole program of tensor operators, nodes in topological order."""

    name: str
    inputs: tuple[Value, ...]
    params: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]


class ComputeContext:
    """Hands out names while operators lower to stages: axes and intermediate buffers unique in the
    system.
    """

    def __init__(self) -> None:
        self._next = 0
        self._names: set[str] = set()

    def fresh(self, stem: str) -> str:
        self._next += 1
        return f"{stem}{self._next}"

    def axes(self, shape: Iterable[Expr], stem: str = "i") -> tuple[Expr, ...]:
        """One new axis for each extent."""
        return tuple(axis(self.fresh(stem), s) for s in shape)

    def buf(self, stem: str, shape: Iterable[Expr], dtype: DType) -> Buf:
        """A new intermediate buffer."""
        return Buf(self.fresh(stem + "_"), tuple(shape), dtype)


InferRule = Callable[..., "TensorType | tuple[TensorType, ...]"]
MeaningRule = Callable[..., Any]
ComputeRule = Callable[[ComputeContext, tuple[Buf, ...], tuple[Buf, ...], Attrs], "list[Stage]"]
RequireRule = Callable[[tuple[TensorType, ...], Attrs], Iterable[Expr]]
StampRule = Callable[[tuple[TensorType, ...], Attrs], str]


@dataclass(frozen=True)
class OpDef:
    """All there is to know about one operator.

    infer(types, attrs) -> the result types; raises CompileError (shapes or dtypes that do not fit).
    meaning(arrays, attrs) -> the result arrays: the definition, in NumPy (sizes in `attrs` are ints
    by then). compute(ctx, inputs, outputs, attrs) -> the stages that define `outputs` from
    `inputs`. requires(types, attrs) -> conditions on symbolic sizes, without which the stages would
    read out of bounds. stamp(types, attrs) -> what tells this definition from others of the same
    name, for cache keys: None where the name alone does, as with all that ferrule defines.
    """

    name: str
    infer: InferRule
    meaning: MeaningRule
    compute: ComputeRule
    doc: str = ""
    requires: RequireRule | None = None
    stamp: StampRule | None = None


OPDEFS: dict[str, OpDef] = {}


def opdef(name: str) -> OpDef:
    """The operator called `name`; UnsupportedError if there is none."""
    found = OPDEFS.get(name)
    if found is None:
        raise UnsupportedError(no_operator(name))
    return found


def no_operator(name: str) -> str:
    """What is said of an operator that is not defined."""
    return (
        f"there is no operator {name}: where it is one of your own, run its "
        "ferrule.define_operator before the program that has it"
    )


def graphs(graph: Graph) -> Iterator[Graph]:
    """`graph` and those inside of it."""
    yield graph
    for n in graph.nodes:
        for _, a in n.attrs:
            if isinstance(a, Graph):
                yield from graphs(a)


def definitions(graph: Graph) -> str:
    """The stamps of the operators in `graph`, and in the graphs inside of it, that have one."""
    found: list[str] = []
    for n in (n for g in graphs(graph) for n in g.nodes):
        stamp = opdef(n.op).stamp
        if stamp is not None:
            found.append(f"{n.op} {stamp(tuple(v.type for v in n.inputs), n.attributes)}")
    return "\n".join(found)


def requirements(graph: Graph) -> tuple[Requirement, ...]:
    """What has to hold for the graph's dims and is not known of them: a condition of each operator
    that has one, that no extent is negative, and the operator with its place in the user's program.
    Raises CompileError for one that never holds.
    """
    found: dict[Expr, Requirement] = {}
    for n in graph.nodes:
        for r in requirements_of(n):
            found.setdefault(r.fact, r)
    return tuple(found.values())


def requirements_of(n: Node) -> tuple[Requirement, ...]:
    """The same for one node."""
    where = f"{n.op} at {n.location}" if n.location else n.op
    rule = opdef(n.op).requires
    facts = [*rule(tuple(v.type for v in n.inputs), n.attributes)] if rule else []
    found: list[Requirement] = []
    for fact in (*facts, *(le(ZERO, d) for v in n.outputs for d in v.shape if not d.is_const)):
        known = simplify(fact)
        if known.is_const and not known.value:
            types = ", ".join(str(v.type) for v in n.inputs)
            raise CompileError(f"{where} of {types}: its sizes do not fit, it needs {fact}")
        if known is not TRUE:
            found.append(Requirement(known, where))
    return tuple(found)


class GraphBuilder:
    """Builds a Graph node by node; the only mutable thing here, alive while a frontend runs. Values
    are called `stem` and a number.
    """

    def __init__(self, name: str = "main", stem: str = "v"):
        self.name = name
        self.stem = stem
        self.inputs: list[Value] = []
        self.params: list[Value] = []
        self.nodes: list[Node] = []
        self.location = ""
        self._count = 0
        self._seen: dict[Any, tuple[Value, ...]] = {}

    def input(self, type: TensorType, name: str | None = None) -> Value:
        """A new graph input, given on every call."""
        v = Value(name or f"x{len(self.inputs)}", type)
        self.inputs.append(v)
        return v

    def param(self, type: TensorType, name: str | None = None) -> Value:
        """A new graph input whose value is known before the first call."""
        v = Value(name or f"w{len(self.params)}", type)
        self.params.append(v)
        return v

    def emit(self, op: str, /, *inputs: Value, **attrs: Any) -> Any:
        """Append `op` and return its value (a tuple of values if it has several). Equal nodes are
        emitted once.
        """
        definition = opdef(op)
        items = tuple(sorted((k, v) for k, v in attrs.items() if v is not None))
        key = _key(op, inputs, items)
        outputs = self._seen.get(key)
        if outputs is None:
            try:
                types = definition.infer(tuple(v.type for v in inputs), dict(items))
            except FerruleError:
                raise
            except (TypeError, ValueError, IndexError, KeyError) as error:
                shown = ", ".join(str(v.type) for v in inputs)
                raise CompileError(
                    f"{op}({shown}) with {dict(items)}: {error}{self._where()}"
                ) from error
            several = types if isinstance(types, tuple) else (types,)
            outputs = tuple(
                Value(f"{self.stem}{self._count + i}", t) for i, t in enumerate(several)
            )
            self._count += len(outputs)
            self.nodes.append(Node(op, inputs, outputs, items, self.location))
            self._seen[key] = outputs
        return outputs if len(outputs) > 1 else outputs[0]

    def append(self, n: Node) -> None:
        """Take over a finished node; one that equals it is not emitted again."""
        self.nodes.append(n)
        self._seen.setdefault(_key(n.op, n.inputs, tuple(sorted(n.attrs))), n.outputs)

    def inner(self, name: str) -> GraphBuilder:
        """A builder for a graph inside of this one, whose values have names apart from all here."""
        return GraphBuilder(name, f"{self.stem}{self._count}_")

    def build(self, outputs: Iterable[Value]) -> Graph:
        """The finished graph."""
        return Graph(
            self.name, tuple(self.inputs), tuple(self.params), tuple(self.nodes), tuple(outputs)
        )

    def _where(self) -> str:
        return f" (at {self.location})" if self.location else ""


def _key(op: str, inputs: tuple[Value, ...], items: tuple[tuple[str, Any], ...]) -> Any:
    """What tells a node from others; 0.0 is not -0.0."""
    return op, inputs, tuple((k, repr(v), v) for k, v in items)
