"""Points: an Expr at all points of an equation's axes, as StableHLO tensors.

Each value is computed at the points of the axes that it depends on, and no others: a Field. Axes
are `iota`, loads are slices or gathers (`loads.py`), and a select is not lazy, since no load fails.
"""

from __future__ import annotations

from ferrule.base.dtype import i64
from ferrule.base.errors import CompileError
from ferrule.codegen.stablehlo import loads, scalars
from ferrule.codegen.stablehlo.loads import Axes, Field, extent
from ferrule.codegen.stablehlo.writer import Tensor, Writer
from ferrule.ir.expr import DEEP, Buf, Expr, walk
from ferrule.ir.simplify import range_of


class Points:
    """Evaluates Exprs over the axes `order` on the tensors of buffers; `given` are the `arg`s."""

    def __init__(
        self, w: Writer, order: Axes, bufs: dict[Buf, Tensor], given: tuple[Tensor, ...] = ()
    ) -> None:
        self.w, self.order, self.bufs, self.given = w, order, bufs, given
        self._done: dict[Expr, Field] = {}

    def value(self, e: Expr) -> Field:
        """`e` at the points of its axes. Raises CompileError for a size that is not fixed, and
        UnsupportedError for an operator that StableHLO lacks.
        """
        found = self._done.get(e)
        if found is None:
            if e.depth > DEEP:
                self._from_below(e)
            found = self._done[e] = self._value(e)
        return found

    def _from_below(self, e: Expr) -> None:
        """Evaluates what `e` needs, arguments first: no level waits for another."""

        def unknown(node: Expr) -> bool:
            return node.op not in ("load", "axis") and node not in self._done

        for node in walk(e, unknown):
            if node is not e and node not in self._done:
                self._done[node] = self._value(node)

    def at(self, e: Expr, axes: Axes) -> Tensor:
        """`e` at each point of `axes`."""
        return loads.spread(self.w, self.value(e), axes)

    def _value(self, e: Expr) -> Field:
        w = self.w
        if e.op == "const":
            return Field(w.number(e.attr, e.dtype), ())
        if e.op == "arg":
            x = self.given[e.attr]
            return Field(x, self.order[: x.rank])
        if e.op == "axis":
            return Field(w.iota(0, i64, (extent(e),)), (e,))
        if e.op == "dim":
            raise CompileError(f"the size {e} is not fixed")
        if e.op == "load":
            return self._load(e)
        if e.op in ("bounded", "checked"):
            return self.value(e.args[0])
        fields = loads.together(w, [self.value(a) for a in e.args], self.order)
        xs, axes = [f.tensor for f in fields], fields[0].axes
        if e.op == "select":
            return Field(w.select(*xs), axes)
        if e.op == "cast":
            return Field(scalars.cast(w, xs[0], e.dtype), axes)
        if e.op == "bitcast":
            return Field(w.bitcast(xs[0], e.dtype), axes)
        plain = _PLAIN.get(e.op)
        if plain is not None and e.dtype == i64 and _whole(e):
            return Field(w.binary(plain, *xs), axes)
        return Field(scalars.apply(w, e.op, *xs), axes)

    def _load(self, e: Expr) -> Field:
        x = self.bufs.get(e.attr)
        if x is None:
            raise CompileError(f"{e.attr.name} is read before it is defined")
        return loads.read(self.w, x, e.args, self.order, self.value)


_PLAIN = {"floordiv": "divide", "mod": "remainder"}


def _whole(e: Expr) -> bool:
    """Whether a quotient is of a number that is not negative by one above 0."""
    x, y = e.args
    low = range_of(x)[0]
    return y.op == "const" and y.attr > 0 and low is not None and low >= 0
