"""Regions: which elements of a buffer an access reaches, for given sizes.

The dims of a buffer fall into groups that share no axis and no condition, so that a region is the
product of a set of points for each group, and each set is found by trying every value of the
group's axes. Where a group has more values than `LIMIT` its region is not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.dtype import i64
from ferrule.base.errors import RunError
from ferrule.ir.expr import Expr, axis, const, dims, le, loads, lt, substitute
from ferrule.ir.interp.expr import Env, eval_index, eval_int
from ferrule.ir.simplify import range_of, simplify
from ferrule.ir.system import Access
from ferrule.ir.verify.accesses import Touch

LIMIT = 1 << 21  # points of one group, elements of one buffer
_CONNECTIVES = frozenset({"add", "sub", "neg", "mul", "eq", "ne", "lt", "le", "and", "or", "not"})
Bools = NDArray[np.bool_]
Range = tuple[int, int]


@dataclass(frozen=True)
class Group:
    """The points that some dims of an access reach. `clashes`: two points of the grid reach one."""

    dims: tuple[int, ...]
    points: Bools
    clashes: bool


@dataclass(frozen=True)
class Region:
    """What an access reaches: nothing where `empty`. `outside` names an index out of bounds. It is
    `certain` to be reached whatever the data are.
    """

    shape: tuple[int, ...]
    groups: tuple[Group, ...]
    empty: bool
    certain: bool
    outside: str = ""

    def full(self) -> Bools:
        """The region as one array of the buffer's shape."""
        out = np.asarray(not self.empty)
        out = np.broadcast_to(out, self.shape)
        for g in self.groups:
            order = [g.dims.index(d) for d in sorted(g.dims)]
            size = [n if d in g.dims else 1 for d, n in enumerate(self.shape)]
            out = out & g.points.transpose(order).reshape(size)
        return out

    @property
    def clashes(self) -> bool:
        return any(g.clashes for g in self.groups)


@dataclass(frozen=True)
class Bounds:
    """The range of each axis, and the conditions that keep it in bounds that vary."""

    ranges: Mapping[Expr, Range]
    conditions: tuple[Expr, ...]


def region(
    a: Touch,
    shape: tuple[int, ...],
    grid: Sequence[Expr],
    env: Env,
    conditions: Sequence[Expr],
) -> Region | None:
    """What `a` reaches in a buffer of `shape` when its own loops and the axes of `grid` take all
    their values; axes that `env` binds are fixed. None where that is not known.
    """
    bounds = _bounds(a, grid, env)
    if bounds is None:
        return None
    given = (*conditions, *bounds.conditions)
    known, data = _of_data(given, env)
    certain = not any(loads(c) for c in given)
    over = {**bounds.ranges, **data}
    if any(lo >= hi for lo, hi in bounds.ranges.values()):
        return Region(shape, (), True, certain)
    plain = [d for d, i in enumerate(a.idx) if not loads(i)]
    certain = certain and len(plain) == len(a.idx)
    grid = [g for g in grid if not any(loads(i) and _counts_along(g, i) for i in a.idx)]
    found: list[Group] = []
    outside = ""  # unless another component shows that the access is never made
    for axes, which, where in _components(a.idx, plain, known, frozenset(over), grid):
        ranges = {x: over[x] for x in axes}
        if _points(ranges) > LIMIT:
            return None
        try:
            mask, places = _evaluate(ranges, where, [a.idx[d] for d in which], env)
        except RunError:
            return None  # the run ends with this error, whatever else it reaches
        if not mask.any():
            return Region(shape, (), True, certain)
        sizes = tuple(shape[d] for d in which)
        for d, n, place in zip(which, sizes, places):
            wrong = ((place < 0) | (place >= n)) & mask
            if wrong.any() and not outside:
                value = int(np.broadcast_to(place, wrong.shape)[wrong].flat[0])
                outside = f"index {value} of dimension {d}, whose size is {n}"
        if outside:
            continue
        if np.prod(sizes, dtype=float) > LIMIT:
            return None
        found.append(_group(which, sizes, places, mask, ranges, grid))
    if outside:
        return Region(shape, (), False, certain, outside)
    return Region(shape, tuple(found), False, certain)


def image(
    a: Touch,
    place: Access,
    shape: tuple[int, ...],
    marked: Bools,
    env: Env,
    conditions: Sequence[Expr],
) -> Bools | None:
    """Which elements of a buffer of `shape` may get at `place` what `a` reads of the `marked` ones;
    None where that is not known.
    """
    bounds = None if any(loads(i) for i in (*a.idx, *place.idx)) else _bounds(a, (), env)
    if bounds is None:
        return None
    used = {x for i in (*a.idx, *place.idx) for x in i.axes}
    known = [c for c in (*conditions, *bounds.conditions) if not loads(c)]
    used |= {x for c in known for x in c.axes}
    ranges = {x: r for x, r in bounds.ranges.items() if x in used}
    if _points(ranges) > LIMIT:
        return None
    try:
        mask, places = _evaluate(ranges, known, (*a.idx, *place.idx), env)
    except RunError:
        return None
    for n, p in zip((*marked.shape, *shape), places, strict=True):
        mask = mask & (p >= 0) & (p < n)
    points = [np.broadcast_to(p, mask.shape)[mask] for p in places]
    wrong = marked[tuple(points[: len(a.idx)])]
    out = np.zeros(shape, bool)
    if wrong.any():
        out[tuple(p[wrong] for p in points[len(a.idx) :])] = True
    return out


def _of_data(
    conditions: Sequence[Expr], env: Env
) -> tuple[list[Expr], Mapping[Expr, Range]]:
    """Conditions in which what is read from memory is an axis of the values that it may have, with
    these axes; those without that may be any number are left out.
    """
    known: list[Expr] = []
    data: dict[Expr, tuple[Expr, Range]] = {}  # what is read: its axis, and which values
    for c in conditions:
        atoms = {e for e in _atoms(c) if loads(e)}
        ranges = {e: _values(e, env) for e in atoms}
        if any(r is None for r in ranges.values()):
            continue
        for e, r in ranges.items():
            assert r is not None
            data.setdefault(e, (axis(f"\0data{len(data)}", r[1]), r))
        known.append(substitute(c, {e: data[e][0] for e in atoms}))
    return known, dict(data.values())


def _atoms(c: Expr) -> Iterator[Expr]:
    """What a condition on integers is made of below its sums, comparisons and connectives, each
    once.
    """
    seen, stack = {c}, [c]
    while stack:
        x = stack.pop()
        if x.op in _CONNECTIVES and (x.dtype.is_int or x.dtype.is_bool):
            stack += (a for a in x.args if a not in seen)
            seen.update(x.args)
        else:
            yield x


def _values(e: Expr, env: Env) -> Range | None:
    """The integers that something read may be, if they are known to be few. Indices are i64; any
    other integer is data.
    """
    if e.dtype != i64:
        return None
    if e.op == "bounded" and not loads(e.args[1]) and not e.args[1].axes:
        return 0, eval_int(e.args[1], env)
    low, high = range_of(substitute(e, {d: const(env.dims[d.name]) for d in dims(e)}))
    return None if low is None or high is None or low < 0 else (low, high + 1)


def _points(ranges: Mapping[Expr, Range]) -> float:
    """How many points axes of these ranges have."""
    return float(np.prod([hi - lo for lo, hi in ranges.values()], dtype=float))


def _bounds(a: Touch, grid: Sequence[Expr], env: Env) -> Bounds | None:
    """The ranges of the axes that are not fixed; one whose bounds vary has the widest, and
    conditions. None where bounds depend on data, or on more points than can be tried.
    """
    nest: list[tuple[Expr, Expr | None, Expr]] = [
        (x, None, x.extent) for x in grid if x not in env.axes
    ]
    nest += [(s.axis, s.lo, s.hi) for s in a.own_loops if s.axis not in env.axes]
    ranges: dict[Expr, Range] = {}
    conditions: list[Expr] = []
    for x, low, high in nest:
        ends = []
        for e, pick in ((low, np.min), (high, np.max)):
            if e is None or e.is_const:
                ends.append(0 if e is None else int(e.attr))
                continue
            if loads(e):
                return None
            over = {y: ranges[y] for y in e.axes if y in ranges}
            if _points(over) > LIMIT:
                return None
            _, (value,) = _evaluate(over, [], [e], env)
            ends.append(int(pick(value)) if value.size else 0)
            if over:
                conditions.append(le(e, x) if e is low else lt(x, e))
        ranges[x] = (ends[0], ends[1])
    return Bounds(ranges, tuple(conditions))


def _counts_along(x: Expr, index: Expr) -> bool:
    """Whether an index is an axis and a number that is the same for all points, maybe of data."""
    return x in index.axes and not simplify(index - x).axes


def _components(
    idx: tuple[Expr, ...],
    plain: list[int],
    conditions: list[Expr],
    free: frozenset[Expr],
    grid: Sequence[Expr],
) -> list[tuple[list[Expr], list[int], list[Expr]]]:
    """(axes, dims, conditions) that have to do with each other, axes in order of name; conditions
    alone first, since where one never holds nothing is reached.
    """
    parts: list[tuple[set[Expr], list[int], list[Expr]]] = []
    items: list[tuple[frozenset[Expr], list[int], list[Expr]]] = [
        (idx[d].axes & free, [d], []) for d in plain
    ]
    items += [(c.axes & free, [], [c]) for c in conditions]
    items += [(frozenset((g,)), [], []) for g in grid if g in free]
    for axes, which, where in items:
        touching = [p for p in parts if not p[0].isdisjoint(axes)]
        parts = [p for p in parts if all(p is not t for t in touching)]
        merged = (set(axes), list(which), list(where))
        for t in touching:
            merged[0].update(t[0])
            merged[1].extend(t[1])
            merged[2].extend(t[2])
        parts.append(merged)
    found = [(sorted(a, key=lambda x: x.name), sorted(d), w) for a, d, w in parts]
    return sorted(found, key=lambda part: bool(part[1]))


def _evaluate(
    ranges: Mapping[Expr, Range], conditions: Sequence[Expr], values: Sequence[Expr], env: Env
) -> tuple[Bools, list[NDArray[Any]]]:
    """Where the conditions hold, over the product of the ranges, and the values there."""
    count = len(ranges)
    here = {
        x: np.arange(lo, hi).reshape([-1 if k == j else 1 for j in range(count)])
        for k, (x, (lo, hi)) in enumerate(ranges.items())
    }
    inner = env.bind(here)
    mask = np.ones([hi - lo for lo, hi in ranges.values()], bool)
    for c in conditions:
        mask &= np.asarray(eval_index(c, inner), bool)
    return mask, [np.asarray(eval_index(v, inner)) for v in values]


def _group(
    dims: list[int],
    sizes: tuple[int, ...],
    places: list[NDArray[Any]],
    mask: Bools,
    ranges: Mapping[Expr, Range],
    grid: Sequence[Expr],
) -> Group:
    flat = np.zeros(mask.shape, np.int64)
    for n, place in zip(sizes, places):
        flat = flat * n + place
    reached = flat[mask]
    points = np.zeros(int(np.prod(sizes, dtype=np.int64)), bool)
    points[reached] = True
    clashes, number = False, np.zeros(mask.shape, np.int64)
    for k, (x, (lo, hi)) in enumerate(ranges.items()):
        if x in grid:
            step = np.arange(hi - lo).reshape([-1 if k == j else 1 for j in range(len(ranges))])
            number = number * (hi - lo) + step
    if number.any():
        owner = np.zeros(points.size, np.int64)
        owner[reached] = number[mask]
        clashes = bool((owner[reached] != number[mask]).any())
    return Group(tuple(dims), points.reshape(sizes), clashes)
