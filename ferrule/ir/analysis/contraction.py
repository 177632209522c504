"""Contraction: which stages are products summed over shared axes, and the role of each axis.

A stage contracts when it sums a product of two factors over axes that both have. Its other axes
fall into batch (in both factors), m (in the left one alone) and n (in the right one alone),
whatever operator it came from: a matrix product, an einsum, a convolution (the left factor's index
is then a sum of an output and a kernel axis).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ferrule.ir.analysis.access import stride
from ferrule.ir.expr import ONE, Buf, Expr, axis, call, loads, walk
from ferrule.ir.simplify import equal, simplify
from ferrule.ir.system import Access, Compute, Reduce, Scan, Stage, substitute_stage

PRODUCTS = ("mul", "dot4")


@dataclass(frozen=True)
class ContractionDims:
    """The factors of a contraction and its axes by role. `n` is the side that lanes run along. The
    `product` is "mul" or "dot4", whose first factor is the right one where it is `turned`.
    """

    left: Expr
    right: Expr
    batch: tuple[Expr, ...]
    m: tuple[Expr, ...]
    n: tuple[Expr, ...]
    k: tuple[Expr, ...]
    product: str = "mul"
    turned: bool = False

    def swapped(self) -> ContractionDims:
        return ContractionDims(
            self.right, self.left, self.batch, self.n, self.m, self.k, self.product,
            not self.turned,
        )  # fmt: skip

    def term(self, left: Expr, right: Expr) -> Expr:
        """The product of the factors, or of what stands for them."""
        return call(self.product, *((right, left) if self.turned else (left, right)))


def contraction(st: Stage) -> ContractionDims | None:
    """The roles of a contracting stage, None for any other. The left factor is the one with the m
    axes.
    """
    roles = _product(st)
    if roles is None or not (roles.m or roles.n) or (roles.batch and not (roles.m and roles.n)):
        return None
    return roles


def depthwise(st: Stage) -> ContractionDims | None:
    """The roles of a stage that sums products over few terms for each point of a batch axis that
    lies innermost in the left factor and in the result (a depthwise convolution's channels,
    channels-last), None for any other. That axis is its n, though both factors have it.
    """
    roles = _product(st)
    if roles is None or bool(roles.m) == bool(roles.n):
        return None
    roles = roles if roles.m else roles.swapped()
    whole = [*map(Access.of, loads(roles.left)), *st.targets]
    lanes = [a for a in roles.batch if all(stride(b, idx, a) is ONE for b, idx in whole)]
    if len(lanes) != 1:
        return None
    return replace(roles, batch=tuple(a for a in roles.batch if a not in lanes), n=tuple(lanes))


def channels(st: Stage) -> ContractionDims | None:
    """The roles of a stage that is `depthwise` once its one batch axis lies innermost; that axis is
    its n. None for any other.
    """
    roles = _product(st)
    if roles is None or bool(roles.m) == bool(roles.n) or len(roles.batch) != 1:
        return None
    roles = roles if roles.m else roles.swapped()
    return replace(roles, batch=(), n=roles.batch)


def _product(st: Stage) -> ContractionDims | None:
    """The roles of a stage that sums products, whichever there are."""
    c = st.compute
    if (
        not isinstance(c.fold, Reduce)
        or c.fold.monoid.name not in ("sum", "exact_sum")
        or len(c.values) != 1
        or c.fold.init is not None
    ):
        return None
    value = c.values[0]
    if value.op not in PRODUCTS or value.dtype.kind not in "fiu" or value.dtype.size < 4:
        return None
    left, right = value.args
    if not loads(left) or not loads(right):
        return None
    k = c.fold.axes
    if not any(a in left.axes and a in right.axes for a in k):
        return None
    batch = tuple(a for a in c.axes if a in left.axes and a in right.axes)
    m = tuple(a for a in c.axes if a in left.axes and a not in right.axes)
    n = tuple(a for a in c.axes if a in right.axes and a not in left.axes)
    if len(batch) + len(m) + len(n) != len(c.axes):
        return None
    return ContractionDims(left, right, batch, m, n, k, value.op)


def operand_bufs(e: Expr) -> tuple[Buf, ...]:
    """The buffers a factor reads."""
    return tuple(dict.fromkeys(ld.attr for ld in loads(e)))


def widens(value: Expr) -> bool:
    """Whether a value is one byte of a buffer as a wider integer."""
    if value.op != "cast" or value.args[0].op != "load" or not value.dtype.is_int:
        return False
    source = value.args[0].dtype
    return source.is_int and source.size == 1 < value.dtype.size


def untangle(st: Stage) -> Stage:
    """Split each axis a that is indexed as a // c and a % c, with c dividing its extent, into a
    pair of axes.

    A flattened dimension (heads times head size, groups times channels) becomes two axes that every
    index is linear in.
    """
    for _ in range(8):
        found = _tangled(st)
        if found is None:
            return st
        a, c = found
        st = split_axis(st, a, c)
    return st


def _tangled(st: Stage) -> tuple[Expr, Expr] | None:
    bound = set(st.compute.axes) | set(st.compute.reduce_axes)
    for e in st.exprs():
        for node in walk(e):
            if node.op in ("floordiv", "mod") and node.args[0] in bound:
                a, c = node.args
                if not equal(c, a.extent) and equal((a.extent // c) * c, a.extent):
                    return a, c
    return None


def split_axis(st: Stage, a: Expr, inner: Expr) -> Stage:
    """`st` with the axis `a` replaced by an outer axis and an inner one of extent `inner`, which
    divides a's.
    """
    outer = axis(a.name + "o", simplify(a.extent // inner))
    low = axis(a.name + "i", inner)
    c = st.compute

    def expand(axes: tuple[Expr, ...]) -> tuple[Expr, ...]:
        return tuple(y for x in axes for y in ((outer, low) if x is a else (x,)))

    fold = replace(c.fold, axes=expand(c.fold.axes)) if isinstance(c.fold, Reduce) else c.fold
    widened = replace(st, compute=Compute(expand(c.axes), c.values, fold, c.where))
    new = substitute_stage(widened, {a: outer * inner + low})
    return simplify_stage(new)


def simplify_stage(st: Stage) -> Stage:
    """`st` with each expression in normal form."""
    c = st.compute
    fold = c.fold
    if isinstance(fold, (Reduce, Scan)) and fold.init is not None:
        fold = replace(fold, init=tuple(simplify(v) for v in fold.init))
    where = None if c.where is None else simplify(c.where)
    compute = Compute(
        c.axes,
        tuple(simplify(v) for v in c.values),
        fold,
        None if where is not None and where.is_const and where.attr else where,
    )
    targets = tuple(Access(b, tuple(simplify(i) for i in idx)) for b, idx in st.targets)
    when = None if st.when is None else simplify(st.when)
    return replace(
        st,
        targets=targets,
        compute=compute,
        when=None if when is not None and when.is_const and when.attr else when,
    )
