"""A signature of a TensorFlow program as a Graph: each operator by its rule, functions in place of
their calls.

Only what the results need is built. Sizes that a program computes (`Shape` and arithmetic on it)
are followed beside the graph, so that what `Reshape` and the like are given is an Expr over the
sizes of inputs. An unknown size of an input is a dim of its own, unless the program needs it to be
another one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.dtype import DType
from ferrule.base.errors import CompileError, FerruleError, UnsupportedError
from ferrule.frontend.tensorflow import rules as _rules  # fills the table  # noqa: F401
from ferrule.frontend.tensorflow.census import check_effects, missing
from ferrule.frontend.tensorflow.known import fold, held_in
from ferrule.frontend.tensorflow.model import Function, Node, Port, SavedModel, Signature
from ferrule.frontend.tensorflow.table import (
    RULES,
    Context,
    Known,
    Rule,
    Val,
    Variable,
    tensor_of,
)
from ferrule.ir.agree import Equal
from ferrule.ir.expr import Expr, dim
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor

_KNOWN_ELEMENTS = 64
_DEPTH = 100
_MALFORMED = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)
"""What rules raise for attributes and operands that no operator of TensorFlow has."""
Read = Callable[[str], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Conversion:
    """A graph, the arrays of its params in storage form, and what the program is given and gives:
    the inputs and outputs of the signature in the order of the graph's.
    """

    graph: Graph
    params: tuple[NDArray[Any], ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def convert(
    program: SavedModel, signature: Signature, read: Read, name: str = "main",
    extra: Mapping[str, Rule] | None = None,
) -> Conversion:  # fmt: skip
    """A signature of a program. `read` gives the array of a variable, in storage form, by the node
    that makes it; `extra` are rules for operators that have none here. Raises UnsupportedError for
    operators that ferrule lacks, all in one, and CompileError with the operator and its place.
    """
    known = {**RULES, **(extra or {})}
    check_effects(program, signature)
    same: dict[str, Expr] = {}
    while True:
        try:
            return Converter(program, name, read, known, same).whole(signature)
        except Equal as found:
            same = found.added(same)
        except _NoRule:
            raise UnsupportedError(missing(program, signature, known)) from None


class _NoRule(Exception):
    """An operator that the table lacks."""


@dataclass
class Converter:
    """Builds one graph; the state of a conversion."""

    program: SavedModel
    name: str
    read_array: Read
    rules: Mapping[str, Rule]
    same: Mapping[str, Expr] = field(default_factory=dict)  # what dims of inputs are known to be
    depth: int = 0
    params: list[NDArray[Any]] = field(default_factory=list)
    numbers: dict[Value, Known] = field(default_factory=dict)
    held: dict[int, tuple[Any, Value]] = field(default_factory=dict)
    variables: dict[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.b = GraphBuilder(self.name)

    def whole(self, signature: Signature) -> Conversion:
        """The graph of a signature."""
        nodes, env = self.program.nodes, dict[str, tuple[Val, ...]]()
        for port in signature.inputs:
            env[port.value.partition(":")[0]] = (self.input(port),)
        found = self.values(nodes, [p.value for p in signature.outputs], self.b, env)
        for port, v in zip(signature.outputs, found):
            if not isinstance(v, Value):
                raise UnsupportedError(f"the output {port.name!r} is {type(v).__name__}, no tensor")
        graph = self.b.build([v for v in found if isinstance(v, Value)])
        return Conversion(graph, tuple(self.params), signature.inputs, signature.outputs)

    def input(self, port: Port) -> Value:
        """An input of the graph."""
        if port.shape is None:
            raise UnsupportedError(f"the input {port.name!r} is of any rank: give its shape")
        stem = "d_" + re.sub(r"\W", "_", port.name, flags=re.ASCII)
        sizes = [self.size(f"{stem}_{d}") if n < 0 else n for d, n in enumerate(port.shape)]
        name, taken = stem[2:], {v.name for v in self.b.inputs}
        own = name if name not in taken and re.fullmatch(r"[A-Za-z]\w*", name) else f"x{len(taken)}"
        apart = f"{own}_" if re.match(r"[vw]\d", own) else own  # the builder calls values so
        return self.b.input(tensor(sizes, port.dtype), apart)

    def size(self, name: str) -> Expr:
        """The size of an input's dimension."""
        return self.same.get(name) or dim(name, 1)

    # ---- values ----------------------------------------------------------------------------------

    def values(
        self, nodes: Mapping[str, Node], names: Sequence[str], b: GraphBuilder,
        env: dict[str, tuple[Val, ...]],
    ) -> tuple[Val, ...]:  # fmt: skip
        """The values of that names, built with `b`; `env` has what nodes and arguments are."""
        waiting = [n.partition(":")[0] for n in reversed(names)]
        begun: set[str] = set()
        while waiting:
            name = waiting[-1]
            if name in env:
                waiting.pop()
                continue
            node = nodes.get(name)
            if node is None:
                raise CompileError(f"the program has no value {name!r}")
            sources = [n.partition(":")[0] for n in node.operands]
            open_ = [n for n in sources if n not in env]
            if not open_:
                env[name] = self.node(node, b, [self.pick(nodes, n, env) for n in node.operands])
                waiting.pop()
                continue
            if name in begun:
                raise CompileError(f"{node.op} {name!r} reads what it makes")
            begun.add(name)
            waiting += reversed(open_)
        return tuple(self.pick(nodes, n, env) for n in names)

    def pick(
        self, nodes: Mapping[str, Node], name: str, env: Mapping[str, tuple[Val, ...]]
    ) -> Val:
        """The value of a name: "node", "node:1" or "node:values:1"."""
        stem, *rest = name.split(":")
        place = int(rest[-1]) if rest and rest[-1].isdigit() else 0
        node = nodes.get(stem)
        if len(rest) == 2 and node is not None:
            outputs = self.rules[node.op].outputs if node.op in self.rules else ()
            place += outputs.index(rest[0]) if rest[0] in outputs else 0
        found = env[stem]
        if place >= len(found):
            raise CompileError(f"the program has no value {name!r}")
        return found[place]

    def node(self, node: Node, b: GraphBuilder, operands: Sequence[Val]) -> tuple[Val, ...]:
        """The results of an operator. Errors name it and its place."""
        found = self.rules.get(node.op)
        if found is None:
            raise _NoRule
        cx = Context(
            b, node, self.partly, self.tell, self.call, self.function, self.param, self.read
        )
        b.location = node.name
        try:
            out = found.build(cx, *operands)
            results: tuple[Val, ...] = out if isinstance(out, tuple) else (out,)
            self.follow(cx, operands, results)
        except FerruleError as error:
            if isinstance(error.__cause__, FerruleError):
                raise  # an operator inside of this one is named already
            raise type(error)(f"{node.op} {node.name!r}: {error}") from error
        except _MALFORMED as error:
            said = f"{node.op} {node.name!r} of {len(operands)} operands does not fit"
            raise CompileError(f"{said}: {type(error).__name__}: {error}") from error
        return results

    def follow(self, cx: Context, operands: Sequence[Val], results: Sequence[Val]) -> None:
        """Keep the numbers of small results that follow from known ones."""
        if any(isinstance(v, Value) and v in self.numbers for v in results):
            return
        shapes = [_small(v) for v in results]
        if not results or any(s is None for s in shapes):
            return
        known = [self.partly(x) for x in operands]
        if not any(k is not None for k in known):
            return
        found = fold(cx, known, operands, [s for s in shapes if s is not None])
        for v, numbers in zip(results, found or ()):
            numbers = held_in(tensor_of(v).dtype, numbers)
            some = not numbers.size or any(n is not None for n in numbers.flat)
            if isinstance(v, Value) and some:
                self.numbers[v] = numbers

    # ---- what rules ask for ----------------------------------------------------------------------

    def partly(self, v: Any) -> Known | None:
        return self.numbers.get(v) if isinstance(v, Value) else None

    def tell(self, v: Value, numbers: Known) -> Value:
        if v not in self.numbers:
            self.numbers[v] = numbers
        return v

    def function(self, name: str) -> Function:
        found = self.program.functions.get(name)
        if found is None:
            raise UnsupportedError(f"the program has no function {name!r}")
        return found

    def call(self, name: str, b: GraphBuilder, given: Sequence[Val]) -> tuple[Val, ...]:
        """What a function of the program returns."""
        f = self.function(name)
        if len(f.arguments) != len(given):
            raise CompileError(f"{name} takes {len(f.arguments)} arguments, not {len(given)}")
        self.depth += 1
        if self.depth > _DEPTH:
            raise UnsupportedError(f"{name} is called more than {_DEPTH} calls deep")
        out = self.values(f.nodes, f.results, b, {n: (x,) for n, x in zip(f.arguments, given)})
        self.depth -= 1
        return out

    def param(self, array: NDArray[Any], dtype: DType) -> Value:
        """An array that is known before the first run."""
        if id(array) not in self.held:
            self.params.append(np.asarray(array, order="C"))
            self.held[id(array)] = array, self.b.param(tensor(array.shape, dtype))
        return self.held[id(array)][1]

    def read(self, variable: Variable) -> Value:
        """The tensor that a variable holds."""
        name = variable.node
        if name not in self.variables:
            dtype = self.program.nodes[name].attrs["dtype"].dtype
            self.variables[name] = self.param(self.read_array(name), dtype)
        return self.variables[name]


def _small(v: Val) -> tuple[int, ...] | None:
    """The shape of a tensor whose numbers may be worth following."""
    if not isinstance(v, Value) or not all(n.is_const for n in v.shape):
        return None
    shape = tuple(int(n.value) for n in v.shape)
    return shape if np.prod(shape, dtype=np.int64) <= _KNOWN_ELEMENTS else None
