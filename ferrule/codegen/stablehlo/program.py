"""Graph to StableHLO: the text of a module whose function @main is the graph.

    stablehlo_text(graph, sizes, arrays)

@main takes the graph's inputs and then its params, in their order, and gives its outputs. A param
whose array is known may be a constant instead. Sizes are numbers: each dim is given one.

Operators have rules (`operators.py`, `control.py`) or are written by their equations (`stages.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from ferrule.base.errors import CompileError, FerruleError, InputError
from ferrule.codegen.stablehlo import control, operators, stages
from ferrule.codegen.stablehlo.sizes import dims_of, fixed
from ferrule.codegen.stablehlo.writer import Tensor, Writer, needed
from ferrule.ir.expr import Buf
from ferrule.ir.graph import ComputeContext, Graph, Node, Value, opdef, requirements

Array = NDArray[Any]


def stablehlo_text(
    graph: Graph,
    sizes: Mapping[str, int] | None = None,
    arrays: Sequence[Array] | None = None,
    names: Sequence[str] | None = None,
) -> str:
    """`graph` for these `sizes` of its dims as StableHLO text. Without `arrays` params are
    arguments behind the inputs; with them, an array in storage form each, they are constants.
    `names` are those of the arguments, by default what the graph calls them.

    Raises InputError where a dim has no size, GuardError and CompileError for sizes that the graph
    does not take, UnsupportedError for an operator of elements that StableHLO lacks.
    """
    missing = [d.attr.name for d in dims_of(graph) if d.attr.name not in (sizes or {})]
    if missing:
        raise InputError(
            f"the sizes {', '.join(missing)} are symbolic, and StableHLO is written for numbers: "
            f"give sizes, as in sizes={{{missing[0]!r}: 4}}, or fix the shapes of the inputs"
        )
    graph = fixed(graph, sizes or {})
    requirements(graph)
    w = Writer()
    given = [*graph.inputs, *(() if arrays is not None else graph.params)]
    names = _names(names or [v.name for v in given])
    arguments = [
        Tensor(name, stages.sizes(v.shape), v.dtype) for name, v in zip(names, given, strict=True)
    ]
    values = dict(zip(given, arguments, strict=True))
    for v, array in zip(graph.params, arrays or ()):
        values[v] = w.constant(array, v.dtype)
    out = _Inlined(w, ComputeContext()).outputs(graph, values)
    shown = ", ".join(f"{t.name}: {t.type}" for t in arguments)
    types = ", ".join(t.type for t in out)
    returned = f" {', '.join(t.name for t in out)} : {types}" if out else ""
    return "\n".join([
        f"module @{re.sub(r'[^A-Za-z0-9_]', '_', graph.name) or 'main'} {{",
        f"  func.func public @main({shown}) -> ({types}) {{",
        *needed(w.lines, out),
        f"    return{returned}",
        "  }",
        "}",
        "",
    ])  # fmt: skip


def _names(wanted: Sequence[str]) -> list[str]:
    """What arguments are called, as far as MLIR allows it: each apart, and none a number, which is
    what other values are called.
    """
    found = list[str]()
    for name in wanted:
        stem = re.sub(r"[^A-Za-z0-9_.$-]", "_", name)
        stem = stem if re.match(r"[A-Za-z_$.-]", stem) else f"arg_{stem}"
        name, k = f"%{stem}", 1
        while name in found:
            name, k = f"%{stem}.{k}", k + 1
        found.append(name)
    return found


class _Inlined:
    """Writes graphs into the open block."""

    def __init__(self, w: Writer, ctx: ComputeContext) -> None:
        self.w, self.ctx = w, ctx

    def inline(self, graph: Graph, given: Sequence[Tensor]) -> Sequence[Tensor]:
        """A graph inside of another, with these inputs."""
        return self.outputs(graph, dict(zip(graph.inputs, given, strict=True)))

    def outputs(self, graph: Graph, values: dict[Value, Tensor]) -> list[Tensor]:
        """The outputs of a graph whose inputs and params have `values`."""
        needed = _needed(graph)
        for n in graph.nodes:
            if n in needed:
                found = self._written(n, [values[v] for v in n.inputs])
                values.update(zip(n.outputs, found, strict=True))
        return [values[v] for v in graph.outputs]

    def _written(self, n: Node, xs: Sequence[Tensor]) -> Sequence[Tensor]:
        try:
            found = self._node(n, xs)
        except FerruleError as error:
            where = f"{n.op} at {n.location}" if n.location else n.op
            raise type(error)(f"{where}: {error}") from error
        for v, x in zip(n.outputs, found, strict=True):
            if x.shape != stages.sizes(v.shape) or x.dtype != v.dtype:
                raise CompileError(f"{n.op} was written as {x.type}, and gives {v.type}")
        return found

    def _node(self, n: Node, xs: Sequence[Tensor]) -> Sequence[Tensor]:
        if n.op in control.CONTROL:
            return control.CONTROL[n.op](self.w, n, xs, self.inline)
        rule = operators.RULES.get(n.op)
        found = rule(self.w, n, xs) if rule is not None else None
        return self._equations(n, xs) if found is None else [found]

    def _equations(self, n: Node, xs: Sequence[Tensor]) -> Sequence[Tensor]:
        # operands have names of their own here: one may be given twice
        ins = tuple(Buf(f"{k}:{v.name}", v.shape, v.dtype) for k, v in enumerate(n.inputs))
        outs = tuple(Buf(v.name, v.shape, v.dtype) for v in n.outputs)
        bufs = dict(zip(ins, xs, strict=True))
        for st in opdef(n.op).compute(self.ctx, ins, outs, n.attributes):
            stages.write_stage(self.w, st, bufs)
        return [bufs[b] for b in outs]


def _needed(graph: Graph) -> set[Node]:
    """The nodes that an output depends on."""
    maker = {v: n for n in graph.nodes for v in n.outputs}
    found, waiting = set[Node](), list(graph.outputs)
    while waiting:
        n = maker.get(waiting.pop())
        if n is not None and n not in found:
            found.add(n)
            waiting += n.inputs
    return found
