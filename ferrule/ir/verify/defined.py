"""Definedness: no element is read before it is written, none is missed, none is written twice.

    check_defined(program)       raises CompileError before any code of the program runs

Of each function it is shown that its places lie inside their buffers, that a private buffer is read
only where the function has written it before, that two points of the grid never write one element,
and which arguments are written whole. Of the program then, that the first call which writes a
buffer writes all of it, and that it comes before every call that reads it; so `prepare` depends on
parameters alone.

Most places are shown by their form: an index that counts through a dimension without gap or repeat
(`dense`), a load whose range the simplifier knows. The others are tried: with every value of their
axes, for sizes that are constant; else for a few values of the dims around the sizes of tiles. What
has too many points to try, or depends on data, passes: the interpreters test that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ferrule.base.errors import CompileError, VerifyError
from ferrule.ir.expr import Buf, Expr, Space, dims, loads
from ferrule.ir.interp.dims import shape_of
from ferrule.ir.interp.expr import Env, eval_int
from ferrule.ir.loop import For, Function
from ferrule.ir.program import Call, Program, walk_runs
from ferrule.ir.simplify import equal, poly, prove_nonneg
from ferrule.ir.verify.accesses import Touch, accesses
from ferrule.ir.verify.program import ALWAYS_RULES, show_call
from ferrule.ir.verify.regions import LIMIT, Bools, Region, image, region
from ferrule.ir.verify.rules import check

Key = tuple[tuple[str, int], ...]  # the values of the dims and of the grid's axes
Spoilt = dict[tuple[int, Key], Bools]  # by statement
# Sizes of dims that are tried side by side. The larger ones leave as many rows as may be behind
# whole tiles of 3, 4, 6, 7, 8, 12, 14, 16 and 24.
_SIZES = (0, 1, 5, 34, 335)
_SEVERAL = (0, 1, 5, 23)  # of more than two dims
_PRIVATE = (Space.SCRATCH, Space.REG)


@dataclass(frozen=True)
class Summary:
    """What holds of a function for all sizes that were tried: which arguments it writes whole."""

    whole: frozenset[Buf]


def check_defined(program: Program, facts: Iterable[Expr] = ()) -> None:
    """Raises CompileError where an element that is read, or returned, may not have been written;
    `facts` are conditions on dims that hold at each call.
    """
    check_order(program)
    known = tuple(facts)
    functions = {f.name: (f, summary(f, known)) for f in program.functions}
    written = set(program.updates)
    for c in _calls(program):
        f, done = functions[c.function]
        for formal, actual in zip(f.bufs[: f.written], c.args):
            if actual not in written and formal not in done.whole:
                raise _defect(f"{show_call(c)} defines {actual.name} and leaves a part unwritten")
        written |= set(c.args[: f.written])


def check_order(program: Program) -> None:
    """The same for whole buffers alone: raises CompileError where a call reads one that no call
    before it writes, or `prepare` reads what `main` writes.
    """
    try:
        check(
            "program", program.name, program, ALWAYS_RULES,
            lambda: [show_call(c) for c in _calls(program)],
        )  # fmt: skip
    except VerifyError as error:
        raise _defect(str(error)) from error


def _calls(program: Program) -> list[Call]:
    runs = walk_runs((*program.prepare, *program.main))
    return [c for run in runs for phase in run.phases for c in phase]


def summary(f: Function, facts: Iterable[Expr] = ()) -> Summary:
    """What `f` writes whole. Raises CompileError where it reads or writes a wrong element."""
    found = accesses(f)
    by_buf: dict[Buf, list[Touch]] = {}
    for a in found:
        by_buf.setdefault(a.buf, []).append(a)
    whole = set(f.bufs[: f.written])
    samples = [s for s in _samples(f.dims) if _possible(f, facts, s)]
    spoilt: Spoilt = {}
    for buf, own in by_buf.items():
        private = buf.space in _PRIVATE
        marked = {at for at, _ in spoilt}
        if not marked & {a.position for a in own if a.writes} and _shown(buf, own, f, private):
            continue
        for values in samples:
            env = Env(values)
            if private:
                _try_private(f, buf, own, env, spoilt)
            elif not _try_argument(f, buf, own, env):
                whole.discard(buf)
    return Summary(frozenset(whole))


def _samples(sizes: Sequence[Expr]) -> list[dict[str, int]]:
    """Values of the dims that meet their facts."""
    out: list[dict[str, int]] = []
    for n in () if not sizes else _SIZES if len(sizes) < 3 else _SEVERAL:
        values = {}
        for k, d in enumerate(sizes):
            low, high, step = d.attr.lo, d.attr.hi, d.attr.multiple
            size = -(-max(low, n + k) // step) * step
            values[d.name] = size if high is None or size <= high else high // step * step
        if values not in out:
            out.append(values)
    return out or [{}]


def _possible(f: Function, facts: Iterable[Expr], values: Mapping[str, int]) -> bool:
    """Whether a call may have these sizes: the facts that speak of them hold, and no size is
    negative.
    """
    env = Env(values)
    speak = (c for c in facts if dims(c) <= set(f.dims))
    sizes = (n for b in f.bufs for n in b.shape)
    return all(_holds(c, env) for c in speak) and all(eval_int(n, env) >= 0 for n in sizes)


# ---- shown by form -------------------------------------------------------------------------------


def _shown(buf: Buf, own: list[Touch], f: Function, private: bool) -> bool:
    """Whether the form of the accesses shows all that is asked."""
    if not all(_is_dense(a, f, private) or _inside(a) for a in own):
        return False
    if private:
        whole = [a for a in own if a.writes and not a.combines and _is_dense(a, f, private)]
        reads = [a for a in own if not a.writes or a.combines]
        return all(any(_precedes(w, a) for w in reversed(whole)) for a in reads)
    if buf not in f.bufs[: f.written]:
        return True
    writes = [a for a in own if a.writes]
    whole = [a for a in writes if not a.combines and not a.around.conditions]
    return bool(whole) and all(_is_dense(a, f, private) for a in writes)


def _precedes(write: Touch, read: Touch) -> bool:
    """Whether a dense write of a private buffer is done, all of it, before a read: in the same
    iteration of the loops around both, and under conditions that hold for both.
    """
    conditions = write.around.conditions
    inner = {s.axis for s in write.own_loops if any(s.axis in i.axes for i in write.idx)}
    outer = [s for s in write.own_loops if s.axis not in inner]
    return (
        write.position < read.position
        and read.around.conditions[: len(conditions)] == conditions
        and not any(c.axes & inner for c in _conditions(write, True))
        and all(any(s is t for t in read.own_loops) for s in outer)
    )


def _conditions(a: Touch, private: bool) -> tuple[Expr, ...]:
    """The conditions around an access; of a private buffer, those since it came to life."""
    return a.around.conditions[a.around.conditions_before(a.buf) if private else 0 :]


def _inside(a: Touch) -> bool:
    """Whether an index is in range for all values of its axes, by the simplifier."""
    return all(
        prove_nonneg(i) and prove_nonneg(n - i - 1) for i, n in zip(a.idx, a.buf.shape, strict=True)
    )


def _is_dense(a: Touch, f: Function, private: bool) -> bool:
    """Whether an access reaches each element of its buffer for one value of its axes and no other.
    """
    extents = {} if private else {x: x.extent for x in f.grid}
    extents |= {s.axis: s.hi for s in a.own_loops if s.lo.is_const and s.lo.attr == 0}
    used = [x for i in a.idx for x in i.axes if x in extents]
    grid = () if private else f.grid
    unused = [x for x in grid if x not in used and not equal(x.extent, x.extent - x.extent + 1)]
    return (
        len(used) == len(set(used))
        and not unused
        and all(dense(i, n, extents) for i, n in zip(a.idx, a.buf.shape, strict=True))
    )


def dense(index: Expr, size: Expr, extents: Mapping[Expr, Expr]) -> bool:
    """Whether `index` counts from 0 to `size` - 1: a sum of axes times strides, where the stride of
    each is what the ones before count to (a number in mixed radix).
    """
    terms = []
    for m, c in poly(index).items():
        if len(m) != 1 or m[0] not in extents or c <= 0:
            return False
        terms.append((c, m[0]))
    reached: Expr = size - size + 1
    for c, x in sorted(terms, key=lambda t: t[0]):
        if not equal(reached, reached - reached + c):
            return False
        reached = reached * extents[x]
    return equal(reached, size)


# ---- tried ---------------------------------------------------------------------------------------


def _try_argument(f: Function, buf: Buf, own: list[Touch], env: Env) -> bool:
    """Tries the places of an argument; whether all of it is written."""
    shape = shape_of(buf, env.dims)
    done: list[Region] = []
    for a in own:
        if not a.writes and _inside(a):
            continue
        at = region(a, shape, f.grid, env, _conditions(a, False))
        if at is None:
            if a.writes and not a.combines:
                return True
            continue
        _refuse_outside(f, a, at, env)
        if a.writes and at.clashes:
            raise _defect(f"{f.name}: two points of the grid write one element of {buf.name}")
        if a.writes and not a.combines and at.certain:
            done.append(at)
    return _cover(shape, done)


def _cover(shape: tuple[int, ...], regions: list[Region]) -> bool:
    """Whether the regions together are the whole buffer."""
    if any(not r.empty and all(g.points.all() for g in r.groups) for r in regions):
        return True
    if 0 in shape:
        return True
    size = 1
    for n in shape:
        size *= n
    if size > LIMIT:
        return _cover_one_group(regions)
    total = None
    for r in regions:
        total = r.full() if total is None else total | r.full()
    return total is not None and bool(total.all())


def _cover_one_group(regions: list[Region]) -> bool:
    """Whether regions that are whole but for one group of dims, the same for all, cover that. Of
    others there are too many elements to try.
    """
    several = [[g for g in r.groups if not g.points.all()] for r in regions if not r.empty]
    parts = [g for groups in several for g in groups]
    if any(len(groups) > 1 for groups in several) or len({g.dims for g in parts}) > 1:
        return True
    if not parts:
        return False
    total = parts[0].points
    for g in parts[1:]:
        total = total | g.points
    return bool(total.all())


def _try_private(f: Function, buf: Buf, own: list[Touch], env: Env, spoilt: Spoilt) -> None:
    """Tries the places of a private buffer, for some points of the grid and of the loops outside
    of its life.
    """
    shape = shape_of(buf, env.dims)
    if not own or _product(shape) > LIMIT:
        return
    outer = own[0].around.loops[: len(own[0].around.loops) - len(own[0].own_loops)]
    for point in _points(f, [(s.axis, s.lo, s.hi) for s in outer], env):
        here = env.bind(point)
        before = own[0].around.conditions[: own[0].around.conditions_before(buf)]
        if all(loads(c) or _holds(c, here) for c in before):
            key = (*sorted(env.dims.items()), *((x.name, point[x]) for x in f.grid))
            _try_life(f, _Life(own, shape, here, spoilt, key), buf)


def _try_life(f: Function, life: _Life, buf: Buf) -> None:
    env = life.env
    for a in life.own:
        at = life.region(a, ())
        if at is not None:
            _refuse_outside(f, a, at, env)
    for a in life.own:
        if (not a.writes or a.combines) and not life.ordered(a, ()) and not life.spoils(a):
            place = ", ".join(map(str, a.idx))
            raise _defect(
                f"{f.name}: an element of {buf.name} may be read before it is written, "
                f"at {buf.name}[{place}]{_where(env)}"
            )


class _Life:
    """The accesses of a private buffer in one life of it, and the regions that were found."""

    def __init__(
        self, own: list[Touch], shape: tuple[int, ...], env: Env, spoilt: Spoilt, key: Key
    ):
        self.own, self.shape, self.env, self.spoilt, self.key = own, shape, env, spoilt, key
        self.found: dict[tuple[int, tuple[int, ...]], Region | None] = {}
        self.writes = [a for a in own if a.writes and not a.combines]

    def region(self, a: Touch, first: tuple[For, ...]) -> Region | None:
        """What `a` reaches where the loops `first` are in their first iteration."""
        fixed = tuple(s for s in first if any(s is t for t in a.own_loops))
        key = id(a), tuple(map(id, fixed))
        if key not in self.found:
            env = self.env
            for s in fixed:
                env = env.bind({s.axis: eval_int(s.lo, env)})
            self.found[key] = region(a, self.shape, (), env, _conditions(a, True))
        return self.found[key]

    def written(self, writes: list[Touch], first: tuple[For, ...]) -> Bools | None:
        """What the certain ones of `writes` reach together; None where that is not known."""
        out = np.zeros(self.shape, bool)
        for a in writes:
            r = self.region(a, first)
            if r is None:
                return None
            if r.certain:
                out |= r.full()
                wrong = self.spoilt.get((a.position, self.key))
                if wrong is not None:
                    out &= ~wrong
        return out

    def ordered(self, a: Touch, first: tuple[For, ...]) -> bool:
        """Whether what `a` reads is written before, in the text or in an earlier iteration of a
        loop around both.
        """
        mine = self.region(a, first)
        earlier = [w for w in self.writes if w.position < a.position]
        if mine is None or mine.empty:
            return True
        if any(loads(i) for i in a.idx):
            return bool(earlier)  # data decide which elements of it
        before = self.written(earlier, first)
        if before is None or not (mine.full() & ~before).any():
            return True
        ever = self.written(self.writes, first)
        if ever is not None and (mine.full() & ~ever).any():
            return False
        behind = [w for w in self.writes if w.position >= a.position]
        loop = next((s for s in a.own_loops if s not in first and _around(s, behind)), None)
        return loop is not None and self.ordered(a, (*first, loop))

    def spoils(self, a: Touch) -> bool:
        """Whether what a read finds unwritten only goes to elements of another private buffer, as
        where a row is computed in whole vectors. These are unwritten then.
        """
        place = a.copied_to
        before = self.written([w for w in self.writes if w.position < a.position], ())
        if place is None or place.buf.space not in _PRIVATE or before is None:
            return False
        shape = shape_of(place.buf, self.env.dims)
        wrong = image(a, place, shape, ~before, self.env, _conditions(a, True))
        if wrong is None:
            return False
        key = a.position, self.key
        self.spoilt[key] = wrong | self.spoilt.get(key, wrong)
        return True


def _around(loop: For, several: list[Touch]) -> bool:
    return any(loop is s for a in several for s in a.own_loops)


def _points(
    f: Function, outer: list[tuple[Expr, Expr | None, Expr]], env: Env
) -> Iterator[dict[Expr, int]]:
    """The first point, the last and the middle."""
    nest = [*((x, None, x.extent) for x in f.grid), *outer]
    seen: list[dict[Expr, int]] = []
    for how in ("first", "last", "middle"):
        point: dict[Expr, int] = {}
        for x, low, high in nest:
            if loads(high) or (low is not None and loads(low)):
                return
            here = env.bind(point)
            lo = 0 if low is None else eval_int(low, here)
            hi = eval_int(high, here)
            if lo >= hi:
                break
            point[x] = {"first": lo, "last": hi - 1, "middle": (lo + hi) // 2}[how]
        else:
            if point not in seen:
                seen.append(point)
                yield point


def _holds(c: Expr, env: Env) -> bool:
    return bool(eval_int(c, env))


def _product(shape: Sequence[int]) -> int:
    out = 1
    for n in shape:
        out *= n
    return out


def _refuse_outside(f: Function, a: Touch, at: Region, env: Env) -> None:
    if at.outside:
        what = "writes" if a.writes else "reads"
        raise _defect(f"{f.name} {what} {a.buf.name} out of bounds: {at.outside}{_where(env)}")


def _where(env: Env) -> str:
    values = ", ".join(f"{k} = {v}" for k, v in env.dims.items())
    return f", for {values}" if values else ""


def _defect(what: str) -> CompileError:
    return CompileError(f"after the pass assemble, a defect of ferrule, please report it: {what}")
