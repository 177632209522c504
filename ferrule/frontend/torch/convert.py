"""FX to Graph: ATen nodes through the table, sympy sizes as Exprs, PyTorch dtypes as ours."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any

from ferrule import ops
from ferrule.base.dtype import DType, boolean, i64
from ferrule.base.errors import CompileError, FerruleError, UnsupportedError
from ferrule.frontend.torch.bodies import Body
from ferrule.frontend.torch.memory import order_of, whole
from ferrule.frontend.torch.rules import control as torch_control
from ferrule.frontend.torch.rules import index as torch_aten_index
from ferrule.frontend.torch.rules import math as torch_aten_math
from ferrule.frontend.torch.rules import nn as torch_aten_nn
from ferrule.frontend.torch.rules import reduce as torch_aten_reduce
from ferrule.frontend.torch.rules import rnn as torch_rnn
from ferrule.frontend.torch.rules import sort as torch_aten_sort
from ferrule.frontend.torch.rules import view as torch_aten_view
from ferrule.frontend.torch.sizes import Ranges, SymbolicSizes, float_value
from ferrule.frontend.torch.table import ATEN, HIGHER, Context, dtype_of
from ferrule.ir.expr import Expr, dims
from ferrule.ir.graph import Graph, GraphBuilder, Node, TensorType, Value, tensor

CLAIMS = frozenset(
    {
        "aten._assert_tensor_metadata.default",
        "aten.sym_constrain_range.default",
        "aten.sym_constrain_range_for_size.default",
    }
)  # what tracing took for granted: nothing to run

TABLES = (
    torch_control,
    torch_aten_index,
    torch_aten_math,
    torch_aten_nn,
    torch_aten_reduce,
    torch_aten_sort,
    torch_aten_view,
    torch_rnn,
)  # imported for what they register
_SYMBOLIC = ("SymInt", "SymFloat", "SymBool")


def fakes(node: Any) -> tuple[Any, ...]:
    """What a node gives, as fake tensors; several where it gives several."""
    value = node.meta.get("val")
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def is_size(node: Any) -> bool:
    """Whether a node is arithmetic on sizes, not on tensors."""
    value = node.meta.get("val")
    return isinstance(value, int | float | bool) or type(value).__name__ in _SYMBOLIC


def rule_for(node: Any) -> Any:
    """The table's rule for a node, None if there is none."""
    name = str(node.target)
    return ATEN.get(name) or HIGHER.get(name)


def why_not(node: Any) -> str | None:
    """Why a node can't be converted, as far as its operator and dtypes tell; None if it can."""
    if node.target is operator.getitem:
        return None
    if rule_for(node) is None:
        return "ferrule has no meaning for it"
    if any(v is not None and not hasattr(v, "dtype") for v in fakes(node)):
        return "it gives a number, and no tensor"
    for value in (*fakes(node), *(v for n in node.all_input_nodes for v in fakes(n))):
        reason = _strange(value) if hasattr(value, "dtype") else None
        if reason is not None:
            return reason
    return None


def _strange(fake: Any) -> str | None:
    """Why a tensor can't be a Value; None if it can."""
    try:
        dtype_of(fake.dtype)
    except UnsupportedError as error:
        return str(error)
    if str(fake.layout) != "torch.strided" or fake.is_quantized:
        return f"a tensor of layout {fake.layout} is not supported"
    if fake.device.type != "cpu":
        return f"a tensor on {fake.device} is not supported"
    if any(_unbacked(s) for s in fake.shape):
        return "its size depends on data"
    return None


def _unbacked(size: Any) -> bool:
    return not isinstance(size, int) and any(
        str(s).startswith("u") for s in size.node.expr.free_symbols
    )


class FxConverter:
    """Converts nodes one by one; values of earlier nodes are in `env`. With an `outer` one it
    converts to a graph inside of that one's, which `b` builds.
    """

    def __init__(
        self, name: str, ranges: Ranges | None = None, outer: FxConverter | None = None,
        b: GraphBuilder | None = None,
    ):  # fmt: skip
        self.b = b or GraphBuilder(name)
        self.sizes: SymbolicSizes = outer.sizes if outer else SymbolicSizes(ranges)
        self.env: dict[Any, Any] = {}
        self.input_orders: list[tuple[int, ...] | None] = []
        self._names: set[str] = set()

    def input(self, node: Any) -> None:
        """A node whose value the program is given on each call: as it lies in memory, so that a
        channels-last image or a transposed matrix need not be copied.
        """
        t, order = self._type(node.meta["val"]), order_of(node.meta["val"])
        self.input_orders.append(order)
        if order is None:
            self.env[node] = self.b.input(t, self._name(node))
            return
        lying = self.b.input(tensor([t.shape[d] for d in order], t.dtype), self._name(node))
        back = [order.index(d) for d in range(len(order))]
        self.env[node] = ops.transpose(self.b, lying, back)

    def param(self, node: Any) -> None:
        """A node whose value is known before the first call."""
        self.env[node] = self.b.param(self._type(node.meta["val"]), self._name(node))

    def body(self, node: Any, body: Body) -> None:
        """A node that gives an operator a graph to call: rules get it as a function of a builder
        and operands, which gives the results of that graph inside of this one.
        """
        self.env[node] = lambda b, given: FxConverter(b.name, outer=self, b=b).called(body, given)

    def called(self, body: Body, given: Sequence[Any]) -> list[Value]:
        """The results of a body's graph on operands. Raises FerruleError where one of its nodes
        can't be converted, or an operand is not as it was traced.
        """
        nodes, operands = body.plan.graph.nodes, iter(given)
        for n in nodes:
            if n.op == "placeholder":
                self.env[n] = self._traced(n, next(operands))
            elif n.op == "get_attr":
                held = body.plan.attributes[n]
                if not isinstance(held, Body):
                    raise UnsupportedError(f"its body holds {n.target}")
                self.body(n, held)
            elif n.op == "call_function" and not is_size(n) and str(n.target) not in CLAIMS:
                if (why := why_not(n)) is not None:
                    raise UnsupportedError(f"{n.target} in its body: {why}")
                self.node(n)
        found = [self.env.get(r) for r in body.plan.results if r is not None]
        if not all(isinstance(v, Value) for v in found):
            raise UnsupportedError("its body gives what is no tensor")
        return found  # type: ignore[return-value]

    def _traced(self, placeholder: Any, x: Any) -> Any:
        """An operand, which has to be of the type that a body was traced with."""
        fake = placeholder.meta["val"]
        if not isinstance(x, Value):
            return x
        if not hasattr(fake, "dtype") or _strange(fake) or self._type(fake) != x.type:
            raise UnsupportedError(f"its body was traced for another operand than {x.type}")
        return x

    def node(self, node: Any) -> None:
        """Emit what a call_function node stands for. Raises FerruleError with the operator and the
        user's line.
        """
        if node.target is operator.getitem:
            self.env[node] = self.env[node.args[0]][node.args[1]]
            return
        self.b.location = location(node)
        types = tuple(None if v is None else self._type(v) for v in fakes(node))
        cx = Context(
            self.b,
            tuple(t for t in types if t is not None),
            lambda: self._common(node),
            lambda: self._memory(node.args[0]),
        )
        try:
            out = rule_for(node)(
                cx,
                *(self._argument(a) for a in node.args),
                **{k: self._argument(v) for k, v in node.kwargs.items()},
            )
        except FerruleError as error:
            raise type(error)(f"{node.target}: {error}{self._where()}") from error
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise CompileError(
                f"{node.target}: {type(error).__name__}: {error}{self._where()}"
            ) from error
        results = list(out) if isinstance(out, tuple) else [out]
        if len(results) != len(cx.results):
            raise CompileError(f"{node.target} gave {len(results)} of {len(cx.results)} results")
        fixed = tuple(None if t is None else self._fitted(results.pop(0), t, node) for t in types)
        self.env[node] = fixed if isinstance(node.meta["val"], tuple | list) else fixed[0]

    def _where(self) -> str:
        return f" (at {self.b.location})" if self.b.location else ""

    def _type(self, fake: Any) -> TensorType:
        return tensor([self.sizes.expr(s) for s in fake.shape], dtype_of(fake.dtype))

    def _name(self, node: Any) -> str:
        """A node's name as that of a graph input; the builder's own values are called v0, v1, .."""
        name = f"{node.name}_" if node.name[:1] == "v" and node.name[1:].isdigit() else node.name
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def _fitted(self, v: Value, t: TensorType, node: Any) -> Value:
        """A rule's result in the dtype and shape that ATen states."""
        v = ops.cast(self.b, v, t.dtype)
        if v.shape == t.shape:
            return v
        if v.rank != t.rank or any(
            a.is_const and b.is_const for a, b in zip(v.shape, t.shape, strict=True) if a is not b
        ):
            raise CompileError(f"{node.target} gave {v.type} where {t} was expected{self._where()}")
        return ops.reshape(self.b, v, t.shape)

    def _argument(self, a: Any) -> Any:
        if isinstance(a, list | tuple):
            return [self._argument(x) for x in a]
        if type(a).__name__ == "Node":
            return self.env[a] if a in self.env else self._number(a)
        return self.sizes.expr(a) if type(a).__name__ == "SymInt" else a

    def _number(self, node: Any) -> Any:
        """A node that gives a number: itself where it is known, an Expr of sizes, or a 0-d value
        for a float or a comparison of sizes.
        """
        value = node.meta.get("val")
        if isinstance(value, int | float | bool):
            return value
        if type(value).__name__ == "SymInt":
            e = self.sizes.expr(value)
            return int(e.attr) if e.is_const else e
        if type(value).__name__ == "SymBool":
            return ops.full(self.b, (), self.sizes.expr(value), boolean)
        if type(value).__name__ == "SymFloat":
            return float_value(self.b, node, self._argument)
        raise UnsupportedError(f"the argument {node.name} is a {type(value).__name__}")

    def _memory(self, node: Any) -> tuple[Value, tuple[int, ...], Any] | None:
        """What `Context.memory` tells of an operand."""
        found = whole(node)
        if found is None or found[0] not in self.env:
            return None
        return self.env[found[0]], found[1], self._argument(node.meta["val"].storage_offset())

    def _common(self, node: Any) -> DType:
        """The dtype that the first two operands promote to (torch.result_type)."""
        import torch

        pair = [x.meta["val"] if type(x).__name__ == "Node" else x for x in node.args[:2]]
        like = {
            "SymInt": 1,
            "SymFloat": 1.0,
            "SymBool": True,
        }  # reading a symbolic number would make it a constant
        return dtype_of(torch.result_type(*[like.get(type(x).__name__, x) for x in pair]))

    def build(self, outputs: Iterable[Any]) -> tuple[Graph, list[tuple[int, ...] | None]]:
        """The graph of what was converted, with the values of `outputs` as its results, and the
        order of each in memory.

        An output whose order is not row-major is transposed into that order. A dim that no input
        has as a bare size becomes an integer input of its name.
        """
        nodes = list(outputs)
        orders = [order_of(n.meta["val"]) for n in nodes]
        results = [
            self.env[n] if o is None else ops.transpose(self.b, self.env[n], o)
            for n, o in zip(nodes, orders, strict=True)
        ]
        graph = self.b.build(results)
        used = _needed(graph)
        known = {s for v in graph.inputs for s in v.shape}
        needed: set[Expr] = set()
        every = tuple(_every(used))
        for v in (*graph.inputs, *graph.outputs, *(o for n in every for o in n.outputs)):
            for s in v.shape:
                needed |= dims(s)
        for n in every:
            for _, a in n.attrs:
                needed |= {d for e in _exprs(a) for d in dims(e)}
        extra = [
            Value(d.name, tensor((), i64)) for d in sorted(needed - known, key=lambda d: d.name)
        ]
        return Graph(graph.name, (*graph.inputs, *extra), graph.params, used, graph.outputs), orders


def _needed(graph: Graph) -> tuple[Node, ...]:
    """The nodes that the graph's outputs depend on: an operator may give results that nobody
    reads.
    """
    wanted, kept = set(graph.outputs), list[Node]()
    for n in reversed(graph.nodes):
        if not wanted.isdisjoint(n.outputs):
            wanted.update(n.inputs)
            kept.append(n)
    return tuple(reversed(kept))


def _every(nodes: Iterable[Node]) -> Iterable[Node]:
    """Nodes, and those of the graphs inside of them."""
    for n in nodes:
        yield n
        for _, a in n.attrs:
            if isinstance(a, Graph):
                yield from _every(a.nodes)


def _exprs(a: Any) -> Iterable[Expr]:
    if isinstance(a, Expr):
        yield a
    elif isinstance(a, tuple):
        for x in a:
            yield from _exprs(x)


def location(node: Any) -> str:
    """The module of the user's program that a node comes from, by its path, and the last line, as
    file:line; what of these is known.
    """
    within = list((node.meta.get("nn_module_stack") or {}).values())
    path = _ROOT.sub("", str(within[-1][0])) if within else ""
    return ", ".join(x for x in (path, _line(node.meta.get("stack_trace") or "")) if x)


_ROOT = re.compile(r"^L\['\w+'\]\.?|^L__self___?")  # what Dynamo calls the module itself


def _line(trace: str) -> str:
    lines = [x.strip() for x in trace.splitlines() if x.strip().startswith("File ")]
    if not lines:
        return ""
    parts = lines[-1].split('"')
    number = lines[-1].split("line ")[-1].split(",")[0]
    return f"{parts[1].rsplit('/', 1)[-1]}:{number}" if len(parts) > 1 else ""
