"""Loads: an element of a buffer at each point, by slices where indices follow axes, else a gather.

    Field        a tensor whose dims stand for axes, in the order of the equation's
    read(..)     a load as a Field

An index that is a number, an axis times a number, or a number in mixed radix of several axes, cuts
a slice (what lies outside is padded: the expression around does not use it). One that is the sum of
two axes, of which one is short, is as many slices side by side. Any other of one axis is looked at
place by place: it may be a few slices, each perhaps repeated. All else is gathered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.dtype import i64
from ferrule.codegen.stablehlo.writer import Tensor, Writer, array, ints
from ferrule.ir.expr import Expr, loads, rewrite
from ferrule.ir.interp.expr import Env, eval_expr
from ferrule.ir.simplify import coefficient, simplify

Axes = tuple[Expr, ...]
_SHORT = 16  # elements of a window that are sliced one by one
_FEW = 4  # pieces that are joined
_LONG = 1 << 16  # places that are looked at


@dataclass(frozen=True)
class Field:
    """Values at the points of `axes`: dim i of the tensor is that of axes[i]."""

    tensor: Tensor
    axes: Axes


@dataclass(frozen=True)
class Affine:
    """start + the sum of steps[k] * axes[k], within one dim of a buffer."""

    axes: Axes
    steps: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Piece:
    """start, start + step, .. of `count` places: each `each` times, and that all `times` times."""

    start: int
    step: int
    count: int
    each: int = 1
    times: int = 1


@dataclass(frozen=True)
class Pieces:
    """Places one piece after another, along the one of `axes`."""

    axes: Axes
    pieces: tuple[Piece, ...]


Cut = Affine | Pieces


def extent(axis: Expr) -> int:
    """The extent of an axis, which is a number here."""
    return int(simplify(axis.args[0]).attr)


def unbounded(e: Expr) -> Expr:
    """`e` without what it promises."""

    def visit(node: Expr) -> Expr | None:
        return node.args[0] if node.op in ("bounded", "checked") else None

    return rewrite(e, visit)


def affine(index: Expr) -> Affine | None:
    """`index` as a sum of axes, if it is one."""
    axes = tuple(sorted(index.axes, key=lambda a: str(a.attr)))
    rest, steps = index, list[int]()
    for a in axes:
        c = coefficient(index, a)
        if c is None or c.op != "const" or not c.attr:
            return None
        steps.append(int(c.attr))
        rest = rest - a * c
    rest = simplify(rest)
    if rest.op != "const":
        return None
    pairs = sorted(zip(axes, steps, strict=True), key=lambda p: -abs(p[1]))
    return Affine(tuple(a for a, _ in pairs), tuple(s for _, s in pairs), int(rest.attr))


def read(
    w: Writer, x: Tensor, index: Sequence[Expr], order: Axes, value: Callable[[Expr], Field]
) -> Field:
    """x[index..] at each point of the axes that it mentions, which stand in `order`. `value` gives
    the field of an index that is gathered.
    """
    if not x.rank:
        return Field(x, ())
    index = [simplify(unbounded(i)) for i in index]
    cuts = _cuts(index)
    gathered = [d for d, c in enumerate(cuts) if c is None]
    for d, c in enumerate(cuts):
        if c is not None:
            x = _cut(w, x, d, c)
    axes = tuple(a for c in cuts if c is not None for a in c.axes)
    shape = tuple(map(extent, axes))
    if gathered:
        field = _gather(w, x, gathered, [index[d] for d in gathered], order, value)
        lead = len(field.axes)
        whole = w.reshape(field.tensor, (*field.tensor.shape[:lead], *shape))
        return ordered(w, Field(whole, (*field.axes, *axes)), order)
    return ordered(w, Field(w.reshape(x, shape), axes), order)


def pieces(index: Expr) -> Pieces | None:
    """The places of an index of one axis, if they are a few pieces."""
    if len(index.axes) != 1 or loads(index):
        return None
    (a,) = index.axes
    n = extent(a)
    if not 1 < n <= _LONG:
        return None
    places = np.broadcast_to(eval_expr(index, Env(axes={a: np.arange(n)})), (n,))
    found = _repeated(places) or _runs(places)
    return None if found is None else Pieces((a,), found)


def _repeated(places: NDArray[Any]) -> tuple[Piece, ...] | None:
    """Places as one piece that is repeated."""
    n = places.size
    other = np.flatnonzero(places != places[0])
    each = int(other[0]) if other.size else n
    again = np.flatnonzero(places[each:] == places[0])
    period = each + int(again[0]) if again.size else n
    if n % period or period % each:
        return None
    rows = places.reshape(n // period, period // each, each)
    one = rows[0, :, 0]
    step = int(one[1] - one[0]) if one.size > 1 else 1
    right = one[0] + step * np.arange(one.size)
    if not (rows == right[None, :, None]).all():
        return None
    return (Piece(int(one[0]), step, one.size, each, n // period),)


def _runs(places: NDArray[Any]) -> tuple[Piece, ...] | None:
    """Places as pieces of equal steps, from the first on as long as they can be."""
    found, at = list[Piece](), 0
    while at < places.size:
        steps = np.diff(places[at:])
        step = int(steps[0]) if steps.size else 1
        breaks = np.flatnonzero(steps != step)
        count = 1 + (int(breaks[0]) if breaks.size else steps.size)
        start = int(places[at])
        found.append(Piece(start, step, count) if step else Piece(start, 1, 1, count))
        at += count
        if len(found) > _FEW:
            return None
    return tuple(found)


def _cuts(index: Sequence[Expr]) -> list[Cut | None]:
    """The dims that are sliced: their axes stand in no other dim, and follow one another."""
    cuts: list[Cut | None] = []
    for i in index:
        c = affine(i)
        cuts.append(c if c is not None and _sliceable(c) else pieces(i))
    while True:
        seen: dict[Expr, int] = {}
        for i in index:
            for a in i.axes:
                seen[a] = seen.get(a, 0) + 1
        shared = [
            d for d, c in enumerate(cuts) if c is not None and any(seen[a] > 1 for a in c.axes)
        ]
        if not shared:
            return cuts
        for d in shared:
            cuts[d] = None


def _sliceable(c: Affine) -> bool:
    if len(c.axes) < 2 or _radix(c):
        return True
    return len(c.axes) == 2 and min(map(extent, c.axes)) <= _SHORT


def _radix(c: Affine) -> bool:
    """Whether places are digits: each step is that of the next axis times its extent."""
    if any(s <= 0 for s in c.steps):
        return False
    after = zip(c.steps, c.steps[1:], c.axes[1:])
    return all(s == t * extent(a) for s, t, a in after)


def _cut(w: Writer, x: Tensor, d: int, c: Cut) -> Tensor:
    """`x` with dim `d` cut: of the size of all axes of `c` together, in their order."""
    if isinstance(c, Pieces):
        return w.concatenate([_piece(w, x, d, p) for p in c.pieces], d)
    if len(c.axes) < 2 or _radix(c):
        count = 1
        for a in c.axes:
            count *= extent(a)
        return strided(w, x, d, c.start, c.steps[-1] if c.steps else 1, count)
    short = 0 if extent(c.axes[0]) <= extent(c.axes[1]) else 1
    long = 1 - short
    parts = []
    for k in range(extent(c.axes[short])):
        start = c.start + k * c.steps[short]
        part = strided(w, x, d, start, c.steps[long], extent(c.axes[long]))
        at = d if short == 0 else d + 1
        parts.append(w.reshape(part, (*part.shape[:at], 1, *part.shape[at:])))
    if not parts:
        return strided(w, x, d, 0, 1, 0)
    both = w.concatenate(parts, d if short == 0 else d + 1)
    size = both.shape[d] * both.shape[d + 1]
    return w.reshape(both, (*both.shape[:d], size, *both.shape[d + 2 :]))


def _piece(w: Writer, x: Tensor, d: int, p: Piece) -> Tensor:
    x = strided(w, x, d, p.start, p.step, p.count)
    lead, rest = x.shape[:d], x.shape[d + 1 :]
    dims = [e if e < d else e + 1 if e == d else e + 2 for e in range(x.rank)]
    x = w.broadcast(x, dims, (*lead, p.times, p.count, p.each, *rest))
    return w.reshape(x, (*lead, p.times * p.count * p.each, *rest))


def strided(w: Writer, x: Tensor, d: int, start: int, step: int, count: int) -> Tensor:
    """Elements start, start + step, .. of dim `d`; what lies outside is 0."""
    size = x.shape[d]
    if count and step < 0:
        turned = strided(w, x, d, start + step * (count - 1), -step, count)
        return w.reverse(turned, [d])
    first, stop = (start, start + step * (count - 1) + 1) if count else (0, 0)
    low, high = max(0, -first), max(0, stop - size)
    if low or high:
        amounts = [[n if e == d else 0 for e in range(x.rank)] for n in (low, high)]
        x = w.pad(x, w.number(0, x.dtype), *amounts)
    starts = [first + low if e == d else 0 for e in range(x.rank)]
    stops = [stop + low if e == d else n for e, n in enumerate(x.shape)]
    return w.slice(x, starts, stops, [step if e == d and count else 1 for e in range(x.rank)])


def _gather(
    w: Writer, x: Tensor, dims: list[int], index: list[Expr], order: Axes,
    value: Callable[[Expr], Field],
) -> Field:  # fmt: skip
    """The elements of dims `dims` at their indices, before the other dims whole."""
    mentioned = frozenset().union(*(i.axes for i in index))
    fields = [value(i) for i in index]
    mentioned = mentioned.union(*(f.axes for f in fields))
    axes = tuple(a for a in order if a in mentioned)
    points = tuple(map(extent, axes))
    rest = tuple(n for d, n in enumerate(x.shape) if d not in dims)
    if any(x.shape[d] == 0 for d in dims):
        return Field(w.number(0, x.dtype, (*points, *rest)), axes)
    starts = index_vectors(w, fields, axes)
    offsets = range(len(axes), len(axes) + len(rest))
    numbers = (
        f"offset_dims = {ints(offsets)}, collapsed_slice_dims = {ints(dims)}, "
        f"start_index_map = {ints(dims)}, index_vector_dim = {len(axes)}"
    )
    sizes = array([1 if d in dims else n for d, n in enumerate(x.shape)])
    found = w.generic(
        "gather", (x, starts),
        f"dimension_numbers = #stablehlo.gather<{numbers}>, indices_are_sorted = false, "
        f"slice_sizes = {sizes}",
        (*points, *rest), x.dtype,
    )  # fmt: skip
    return Field(found, axes)


def index_vectors(w: Writer, fields: Sequence[Field], axes: Axes) -> Tensor:
    """Vectors of indices, last, at each point of `axes`."""
    points = tuple(map(extent, axes))
    parts = [w.reshape(spread(w, f, axes), (*points, 1)) for f in fields]
    return w.concatenate(parts, len(axes)) if parts else w.number(0, i64, (*points, 0))


# ---- fields --------------------------------------------------------------------------------------


def ordered(w: Writer, f: Field, order: Axes) -> Field:
    """`f` with its axes as they stand in `order`."""
    axes = tuple(a for a in order if a in f.axes)
    return Field(w.transpose(f.tensor, [f.axes.index(a) for a in axes]), axes)


def spread(w: Writer, f: Field, axes: Axes) -> Tensor:
    """`f` at each point of `axes`, which hold its own in their order."""
    return w.broadcast(f.tensor, [axes.index(a) for a in f.axes], tuple(map(extent, axes)))


def together(w: Writer, fields: Sequence[Field], order: Axes, more: Axes = ()) -> list[Field]:
    """`fields` at the points of all their axes, and of `more`."""
    every = {a for f in fields for a in f.axes}.union(more)
    axes = tuple(a for a in order if a in every)
    return [Field(spread(w, f, axes), axes) for f in fields]
