"""FX to Graph: ATen nodes through the table, sympy sizes as Exprs, PyTorch dtypes as ours."""
from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from ferrule import ops
from ferrule.base.dtype import DType
from ferrule.base.errors import CompileError, FerruleError, UnsupportedError
from ferrule.frontend import torch_aten_math, torch_aten_nn, torch_aten_view
from ferrule.frontend.torch_table import ATEN, Context, dtype_of
from ferrule.ir.expr import Expr, call, const, dim, dims, floordiv, mod
from ferrule.ir.graph import Graph, GraphBuilder, TensorType, Value, tensor
from ferrule.ir.simplify import simplify

TABLES = (torch_aten_math, torch_aten_nn, torch_aten_view)  # imported for what they register
_LEAST_SIZE = 2


class Sizes:
    """Symbolic sizes of one capture: sympy expressions as Exprs, each symbol a dim with its range."""

    def __init__(self) -> None:
        self._dims: dict[str, Expr] = {}

    def expr(self, size: Any) -> Expr:
        """An int or SymInt as an Expr. Raises UnsupportedError for arithmetic that has no Expr."""
        if isinstance(size, int):
            return const(size)
        node = size.node
        return simplify(self._sympy(node.expr, node.shape_env))

    def tensor(self, fake: Any) -> TensorType:
        """The type of a fake tensor."""
        return tensor([self.expr(s) for s in fake.shape], dtype_of(fake.dtype))

    def _sympy(self, e: Any, env: Any) -> Expr:
        name = type(e).__name__
        if e.is_Integer:
            return const(int(e))
        if e.is_Symbol:
            return self._dim(e, env)
        args = [self._sympy(a, env) for a in e.args] if name != "Pow" else []
        if name in ("Add", "Mul", "Max", "Min"):
            out = args[0]
            for a in args[1:]:
                out = call({"Add": "add", "Mul": "mul", "Max": "max", "Min": "min"}[name], out, a)
            return out
        if name in ("FloorDiv", "CleanDiv", "IntTrueDiv", "PythonMod", "Mod", "ModularIndexing"):
            if name == "ModularIndexing":
                return mod(floordiv(args[0], args[1]), args[2])
            return (mod if "Mod" in name else floordiv)(args[0], args[1])
        if name == "Pow" and e.args[1].is_Integer and int(e.args[1]) > 0:
            base = self._sympy(e.args[0], env)
            out = base
            for _ in range(int(e.args[1]) - 1):
                out = call("mul", out, base)
            return out
        raise UnsupportedError(f"the size {e} uses {name}, which has no meaning here")

    def _dim(self, symbol: Any, env: Any) -> Expr:
        name = str(symbol)
        found = self._dims.get(name)
        if found is None:
            lo, hi = _LEAST_SIZE, None
            bounds = env.var_to_range.get(symbol) if env is not None else None
            if bounds is not None:
                lo = int(bounds.lower) if bounds.lower.is_Integer else 0
                hi = int(bounds.upper) if bounds.upper.is_Integer and bounds.upper < 2**40 else None
            found = self._dims[name] = dim(name, max(lo, 0), hi)
        return found


def fakes(node: Any) -> tuple[Any, ...]:
    """What a node gives, as fake tensors; several where it gives several."""
    value = node.meta.get("val")
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def is_size(node: Any) -> bool:
    """Whether a node is arithmetic on sizes, not on tensors."""
    value = node.meta.get("val")
    return isinstance(value, int | float | bool) or type(value).__name__ in ("SymInt", "SymFloat", "SymBool")


def rule_for(node: Any) -> Any:
    """The table's rule for a node, None if there is none."""
    return ATEN.get(str(node.target))


def why_not(node: Any) -> str | None:
    """Why a node can't be converted, as far as its operator and dtypes tell; None if it can."""
    if node.target is operator.getitem:
        return None
    if rule_for(node) is None:
        return "ferrule has no meaning for it"
    for value in (*fakes(node), *(v for n in node.all_input_nodes for v in fakes(n))):
        if hasattr(value, "dtype"):
            try:
                dtype_of(value.dtype)
            except UnsupportedError as error:
                return str(error)
            if str(value.layout) != "torch.strided" or getattr(value, "is_quantized", False):
                return f"a tensor of layout {value.layout} is not supported"
        if hasattr(value, "shape") and any("u" in str(getattr(s, "node", "")) and _unbacked(s) for s in value.shape):
            return "its size depends on data"
    return None


def _unbacked(size: Any) -> bool:
    return any(str(s).startswith("u") for s in size.node.expr.free_symbols)


class Converter:
    """Converts nodes one by one; values of earlier nodes are in `env`."""

    def __init__(self, name: str, sizes: Sizes):
        self.b, self.sizes = GraphBuilder(name), sizes
        self.env: dict[Any, Any] = {}

    def input(self, node: Any) -> None:
        """A node whose value the program is given on each call."""
        self.env[node] = self.b.input(self.sizes.tensor(node.meta["val"]), node.name)

    def param(self, node: Any) -> None:
        """A node whose value is known before the first call."""
        self.env[node] = self.b.param(self.sizes.tensor(node.meta["val"]), node.name)

    def node(self, node: Any) -> None:
        """Emit what a call_function node stands for. Raises FerruleError with the operator and the user's line."""
        if node.target is operator.getitem:
            self.env[node] = self.env[node.args[0]][node.args[1]]
            return
        self.b.location = location(node)
        types = tuple(self.sizes.tensor(v) for v in fakes(node) if v is not None)
        cx = Context(self.b, types, lambda: self._common(node))
        try:
            out = rule_for(node)(cx, *(self._argument(a) for a in node.args),
                                 **{k: self._argument(v) for k, v in node.kwargs.items()})
        except FerruleError as error:
            raise type(error)(f"{node.target}: {error} (at {self.b.location})") from error
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise CompileError(f"{node.target}: {type(error).__name__}: {error} (at {self.b.location})") from error
        several = out if isinstance(out, tuple) else (out,)
        fixed = tuple(self._fitted(v, t, node) for v, t in zip(several, types, strict=False))
        self.env[node] = fixed if isinstance(node.meta["val"], tuple | list) else fixed[0]

    def _fitted(self, v: Value, t: TensorType, node: Any) -> Value:
        """A rule's result in the dtype and shape that ATen states."""
        v = ops.cast(self.b, v, t.dtype)
        if v.shape == t.shape:
            return v
        if v.rank != t.rank or any(a.is_const and b.is_const for a, b in zip(v.shape, t.shape, strict=True) if a is not b):
            raise CompileError(f"{node.target} gave {v.type} where {t} was expected")
        return ops.reshape(self.b, v, t.shape)

    def _argument(self, a: Any) -> Any:
        if isinstance(a, list | tuple):
            return [self._argument(x) for x in a]
        if type(a).__name__ == "Node":
            if a in self.env:
                return self.env[a]
            value = a.meta.get("val")
            if isinstance(value, int | float | bool):
                return value
            if type(value).__name__ == "SymInt":
                e = self.sizes.expr(value)
                return int(e.attr) if e.is_const else e
            raise UnsupportedError(f"the argument {a.name} is a {type(value).__name__}")
        if type(a).__name__ == "SymInt":
            return self.sizes.expr(a)
        return a

    def _common(self, node: Any) -> DType:
        """The dtype that the first two operands promote to (torch.result_type)."""
        import torch

        pair = [x.meta["val"] if type(x).__name__ == "Node" else x for x in node.args[:2]]
        pair = [int(x) if type(x).__name__ == "SymInt" else x for x in pair]
        return dtype_of(torch.result_type(*pair))

    def build(self, outputs: Iterable[Any]) -> Graph:
        """The graph of what was converted, with the values of `outputs` as its results.

        A dim that no input has as a bare size becomes an integer input of its name.
        """
        graph = self.b.build([self.env[n] for n in outputs])
        known = {s for v in graph.inputs for s in v.shape}
        needed: set[Expr] = set()
        for v in (*graph.inputs, *graph.outputs, *(o for n in graph.nodes for o in n.outputs)):
            for s in v.shape:
                needed |= dims(s)
        for n in graph.nodes:
            for _, a in n.attrs:
                needed |= {d for e in _exprs(a) for d in dims(e)}
        extra = [Value(d.name, tensor((), dtype_of("torch.int64"))) for d in sorted(needed - known, key=lambda d: d.name)]
        return Graph(graph.name, (*graph.inputs, *extra), graph.params, graph.nodes, graph.outputs)


def _exprs(a: Any) -> Iterable[Expr]:
    if isinstance(a, Expr):
        yield a
    elif isinstance(a, tuple):
        for x in a:
            yield from _exprs(x)


def location(node: Any) -> str:
    """The last line of the user's program that a node comes from, as file:line."""
    trace = node.meta.get("stack_trace") or ""
    lines = [x.strip() for x in trace.splitlines() if x.strip().startswith("File ")]
    if not lines:
        return ""
    parts = lines[-1].split('"')
    number = lines[-1].split("line ")[-1].split(",")[0]
    return f"{parts[1].rsplit('/', 1)[-1]}:{number}" if len(parts) > 1 else ""
