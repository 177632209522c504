"""Accesses: every place that a function reads or writes, with the loops and conditions around it.

    access = buf[idx..], at a position in the text, inside loops, under conditions

A load in a branch of a `select` is performed under the select's condition. A store by a monoid
reads its targets first. What stands in a `while` may not run, as if its flag were a condition;
later runs of it read no more than the first one does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ferrule.ir.expr import Buf, Expr, call, conjuncts, load, loads
from ferrule.ir.loop import Alloc, For, Function, If, Stmt, Store, While
from ferrule.ir.system import Access

_COMPARISONS = ("eq", "ne", "lt", "le")
_MOST = 4096  # expressions of one statement, each on its path through selects, that are looked at


@dataclass(frozen=True)
class Around:
    """What stands around a statement: the loops, outermost first, and the conditions; and how many
    of both there were where each private buffer came to life.
    """

    loops: tuple[For, ...] = ()
    conditions: tuple[Expr, ...] = ()
    born: tuple[tuple[Buf, int, int], ...] = ()

    def loops_before(self, buf: Buf) -> int:
        """How many loops stand around the whole life of `buf`; none around that of an argument."""
        return next((n for b, n, _ in reversed(self.born) if b == buf), 0)

    def conditions_before(self, buf: Buf) -> int:
        """The same for conditions."""
        return next((n for b, _, n in reversed(self.born) if b == buf), 0)

    def under(self, *conditions: Expr) -> Around:
        found = tuple(c for e in conditions for c in conjuncts(e))
        return replace(self, conditions=(*self.conditions, *found))


@dataclass(frozen=True)
class Touch:
    """One place in a function. `position` numbers the statements in order of the text; `combines`
    says that the element is read before it is written. What a load reads goes to `copied_to`, and
    nowhere else, where that is a place.
    """

    buf: Buf
    idx: tuple[Expr, ...]
    position: int
    around: Around
    writes: bool
    combines: bool = False
    copied_to: Access | None = None

    @property
    def own_loops(self) -> tuple[For, ...]:
        """The loops around the access in which its buffer lives."""
        return self.around.loops[self.around.loops_before(self.buf) :]


def accesses(f: Function) -> tuple[Touch, ...]:
    """The accesses of `f` in order of the text; in a statement the reads come first."""
    out: list[Touch] = []
    _block(f.body, Around(), out, [0])
    return tuple(out)


def _block(body: tuple[Stmt, ...], around: Around, out: list[Touch], count: list[int]) -> None:
    for s in body:
        count[0] += 1
        at = count[0]
        if isinstance(s, Alloc):
            life = (s.buf, len(around.loops), len(around.conditions))
            around = replace(around, born=(*around.born, life))
        elif isinstance(s, For):
            out += _reads((s.lo, s.hi), around, at)
            _block(s.body, replace(around, loops=(*around.loops, s)), out, count)
        elif isinstance(s, If):
            out += _reads((s.cond,), around, at)
            _block(s.body, around.under(s.cond), out, count)
            _block(s.orelse, around.under(call("not", s.cond)), out, count)
        elif isinstance(s, While):
            flag = load(s.flag)
            out += _reads((flag,), around, at)
            _block(s.body, around.under(flag), out, count)
        elif isinstance(s, Store):
            combines = s.monoid is not None
            single = None if combines or len(s.targets) > 1 else s.targets[0]
            out += _reads(s.values, around, at, single)
            out += _reads(tuple(i for _, idx in s.targets for i in idx), around, at)
            out += (Touch(b, idx, at, around, True, combines) for b, idx in s.targets)


def _reads(
    exprs: tuple[Expr, ...], around: Around, at: int, target: Access | None = None
) -> Iterator[Touch]:
    """The loads of expressions, each under the conditions of the selects on the way to it, but for
    those that tell nothing of its index. The values go to `target`.
    """
    seen: set[tuple[Expr, tuple[Expr, ...]]] = set()
    stack: list[tuple[Expr, tuple[Expr, ...]]] = [(e, ()) for e in exprs if loads(e)]
    while stack and len(seen) < _MOST:
        e, path = stack.pop()
        if (e, path) in seen or not loads(e):
            continue
        seen.add((e, path))
        if e.op == "load":
            place = target if e.attr.dtype.is_float else None
            yield Touch(e.attr, e.args, at, around.under(*path), False, copied_to=place)
        if e.op == "select":
            c, yes, no = e.args
            then = (*path, *(t for t in conjuncts(c) if _is_of_indices(t)))
            otherwise = (*path, call("not", c)) if _is_of_indices(c) else path
            stack += [(c, path), (yes, then), (no, otherwise)]
        else:
            stack += [(a, path) for a in e.args]


def _is_of_indices(c: Expr) -> bool:
    """Whether a condition depends on no data, or compares integers that it reads with indices."""
    return not loads(c) or (bool(c.axes) and c.op in _COMPARISONS and c.args[0].dtype.is_int)
