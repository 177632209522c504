"""Expr: the one scalar language, for dims, indices, bodies, bounds and guards.

    expr  = const                      a literal of some dtype
          | dim                        a symbolic size: an i64 >= 0, with facts (range, divisor)
          | axis                       an iteration variable, 0 <= axis < extent
          | arg(i)                     the i-th operand of a monoid's combine
          | load(buf, idx..)           one element of a buffer
          | select(c, a, b)            a where c holds, else b
          | cast(x) | bitcast(x)       to the node's dtype
          | bounded(i, n)              i, which must lie in [0, n): else the run reports an error
          | checked<fault>(x, c)       x, where the bool c must hold: else the run reports `fault`
          | op(x..)                    arithmetic, comparison, logic, mathematics: operators/

Meaning (every interpreter and back end obeys it):
- Integers wrap at their width; `floordiv` and `mod` round towards minus infinity, `truncdiv` and
  `rem` towards zero, `div` of integers is `truncdiv`; integers divided by zero give 0, as quotient
  and as rest, and never a trap. Shifts by the width or more give 0 (or the sign). Dims, axes and
  indices are i64 and do not overflow.
- On bools add, sub, mul, min and max are or, xor, and, and, or.
- Floats are IEEE-754. `min` and `max` propagate NaN. `round` is to nearest even. f16 and bf16 are
  storage types: they may be loaded, selected and cast, and arithmetic happens in f32.
- A cast to a float rounds to nearest even; f64 to bf16 goes by way of f32. One to bool is `x != 0`.
  One between integers keeps the low bits. One from float to integer truncates to i32, or to i64 if
  the target has 64 bits, where what does not fit and NaN become the least value, and the target
  keeps the low bits: 300 is 44 as u8, -1 is 255. u32 and u64 have their upper half as well: there
  the float less 2^31 (2^63) is truncated so, and the bit set after. This is what x86 does.
- `select` is lazy: a load in the branch that is not taken is not performed. `and` and `or` are
  strict.
- `bounded` clamps where the index is wrong, so that memory stays safe, and the program's run then
  fails. Where c does not hold `checked` still has the value x, and the run fails likewise: with one
  of `base.errors.FAULTS`. What is not evaluated (a branch that is not taken, an element that nobody
  reads) fails nothing.

Nodes are hash-consed: equal expressions are the same object, so `is` and the default hash are
structural equality, and any pure function of an expression can be memoised in the node's own
`memo`.
"""

from __future__ import annotations

import functools
import math
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from ferrule.base.dtype import DType, boolean, f32, from_storage, i64, to_storage
from ferrule.ir.facts import DimFacts as DimFacts
from ferrule.ir.facts import Space as Space
from ferrule.ir.notation import show as show
from ferrule.ir.operators import COMPARISONS, OPERATORS, Operator, typed

T = TypeVar("T")


class Expr:
    """One hash-consed node. Build nodes with the functions below, never directly.

    `axes` are those it mentions; `depth` is the number of nodes on the longest way to a leaf.
    """

    __slots__ = ("__weakref__", "args", "attr", "axes", "depth", "dtype", "memo", "op")
    op: str
    args: tuple[Expr, ...]
    attr: Any
    dtype: DType
    axes: frozenset[Expr]
    depth: int
    memo: dict[Any, Any]

    def __repr__(self) -> str:
        return show(self)

    def __reduce__(self) -> Any:
        return (rebuild_as, (self.op, self.args, self.attr, self.dtype))

    def __add__(self, other: Expr | int | float) -> Expr:
        return add(self, like(other, self))

    def __radd__(self, other: int | float) -> Expr:
        return add(like(other, self), self)

    def __sub__(self, other: Expr | int | float) -> Expr:
        return sub(self, like(other, self))

    def __rsub__(self, other: int | float) -> Expr:
        return sub(like(other, self), self)

    def __mul__(self, other: Expr | int | float) -> Expr:
        return mul(self, like(other, self))

    def __rmul__(self, other: int | float) -> Expr:
        return mul(like(other, self), self)

    def __truediv__(self, other: Expr | int | float) -> Expr:
        return call("div", self, like(other, self))

    def __rtruediv__(self, other: int | float) -> Expr:
        return call("div", like(other, self), self)

    def __floordiv__(self, other: Expr | int) -> Expr:
        return floordiv(self, like(other, self))

    def __mod__(self, other: Expr | int) -> Expr:
        return mod(self, like(other, self))

    def __neg__(self) -> Expr:
        return call("neg", self)

    @property
    def is_const(self) -> bool:
        return self.op == "const"

    @property
    def name(self) -> str:
        """The name of an axis or dim."""
        assert self.op in ("axis", "dim"), self.op
        return str(self.attr if self.op == "axis" else self.attr.name)

    @property
    def extent(self) -> Expr:
        """An axis's number of points (i64)."""
        assert self.op == "axis"
        return self.args[0]

    @property
    def value(self) -> Any:
        """A constant's Python value."""
        assert self.op == "const", self.op
        return self.attr


@dataclass(frozen=True)
class Buf:
    """A named array. `layout` lists the dimensions from outermost to innermost in memory (None: as
    in `shape`).
    """

    name: str
    shape: tuple[Expr, ...]
    dtype: DType
    space: Space = Space.GLOBAL
    layout: tuple[int, ...] | None = field(default=None)

    def __hash__(self) -> int:
        return hash(self.name)

    def __getitem__(self, idx: Any) -> Expr:
        return load(self, *(idx if isinstance(idx, tuple) else (idx,)))

    @property
    def order(self) -> tuple[int, ...]:
        return self.layout if self.layout is not None else tuple(range(len(self.shape)))

    @property
    def strides(self) -> tuple[Expr, ...]:
        """Distance in elements between neighbours along each dimension."""
        out: list[Expr] = [ONE] * len(self.shape)
        step = ONE
        for d in reversed(self.order):
            out[d] = step
            step = mul(step, self.shape[d])
        return tuple(out)

    @property
    def size(self) -> Expr:
        """Number of elements."""
        return product(self.shape)


_table: weakref.WeakValueDictionary[Any, Expr] = weakref.WeakValueDictionary()
_lock = threading.Lock()
_NO_AXES: frozenset[Expr] = frozenset()


def _intern(op: str, args: tuple[Expr, ...], attr: Any, dtype: DType, key: Any = None) -> Expr:
    table_key = (op, args, attr if key is None else key, dtype)
    node = _table.get(table_key)
    if node is not None:
        return node
    node = Expr()
    node.op, node.args, node.attr, node.dtype, node.memo = op, args, attr, dtype, {}
    if op == "axis":
        node.axes, node.depth = frozenset((node,)), 1
    else:
        axes, depth = _NO_AXES, 0
        for a in args:
            if a.axes and a.axes is not axes:
                axes = axes | a.axes if axes else a.axes
            if a.depth > depth:
                depth = a.depth
        node.axes, node.depth = axes, depth + 1
    with _lock:
        return _table.setdefault(table_key, node)


def rebuild_as(op: str, args: tuple[Expr, ...], attr: Any, dtype: DType) -> Expr:
    """A node exactly as given, unfolded: for what was a node before (pickled, or written as text).
    """
    return const(attr, dtype) if op == "const" else _intern(op, args, attr, dtype)


# ---- leaves --------------------------------------------------------------------------------------


def const(value: Any, dtype: DType = i64) -> Expr:
    """A literal, rounded or wrapped to `dtype`. There is one NaN, without a sign: its order and
    its bits do not depend on who made it first.
    """
    if dtype.kind == "f":
        value = float(value)
        if value != value:
            return _intern("const", (), math.nan, dtype, "nan")
        with np.errstate(over="ignore"):
            value = float(from_storage(to_storage(value, dtype), dtype))
        return _intern("const", (), value, dtype, value.hex())
    if dtype.kind == "b":
        return _intern("const", (), bool(value), dtype, bool(value))
    value = int(value)
    span = 1 << dtype.bits
    value &= span - 1
    if dtype.kind == "i" and value >= span >> 1:
        value -= span
    return _intern("const", (), value, dtype)


ZERO, ONE = const(0), const(1)
TRUE, FALSE = const(True, boolean), const(False, boolean)


def dim(name: str, lo: int = 0, hi: int | None = None, multiple: int = 1) -> Expr:
    """A symbolic size with its facts."""
    return _intern("dim", (), DimFacts(name, lo, hi, multiple), i64)


def axis(name: str, extent: Expr | int) -> Expr:
    """An iteration variable: 0 <= axis < extent. Names are unique within a kernel."""
    return _intern("axis", (extent if isinstance(extent, Expr) else const(extent),), name, i64)


def arg(index: int, dtype: DType) -> Expr:
    """Operand `index` of a monoid's combine: 0..n-1 the accumulated tuple, n..2n-1 the new one."""
    return _intern("arg", (), index, dtype)


# ---- inner nodes ---------------------------------------------------------------------------------


def like(value: Expr | int | float | bool, other: Expr) -> Expr:
    """`value` as an Expr; a Python number takes the dtype of `other`. Raises TypeError for a
    fraction as an integer.
    """
    if isinstance(value, Expr):
        return value
    if isinstance(value, float) and other.dtype.is_int and not value.is_integer():
        raise TypeError(f"the number {value} is none of {other.dtype}")
    return const(value, other.dtype)


def as_index(value: Expr | int) -> Expr:
    return value if isinstance(value, Expr) else const(value)


def load(buf: Buf, *idx: Expr | int) -> Expr:
    """Element `idx` of `buf`."""
    if len(idx) != len(buf.shape):
        raise ValueError(f"load of {buf.name} takes {len(buf.shape)} indices, got {len(idx)}")
    return _intern("load", tuple(as_index(i) for i in idx), buf, buf.dtype)


def select(c: Expr, a: Expr, b: Expr) -> Expr:
    """`a` where the bool `c` holds, else `b`; lazy in its loads."""
    if c.op == "const":
        return a if c.attr else b
    if a is b:
        return a
    dtype = a.dtype
    if dtype is not b.dtype and dtype != b.dtype:
        typed("select", (c.dtype, dtype, b.dtype))
    return _intern("select", (c, a, b), None, dtype)


def cast(x: Expr, dtype: DType) -> Expr:
    """`x` converted to `dtype`."""
    if x.dtype == dtype:
        return x
    if x.op == "const" and not (x.dtype.kind == "f" and dtype.kind in "iu"):
        return const(x.attr, dtype)
    return _intern("cast", (x,), None, dtype)


def bitcast(x: Expr, dtype: DType) -> Expr:
    """The bits of `x` read as `dtype` of the same width."""
    if x.dtype == dtype:
        return x
    return _intern("bitcast", (x,), None, typed("bitcast", (x.dtype,), dtype))


def bounded(index: Expr, extent: Expr | int) -> Expr:
    """`index`, promised to lie in [0, extent); the run fails with an index error where it does not.
    """
    n = as_index(extent)
    if index.op == "const" and n.op == "const" and 0 <= index.attr < n.attr:
        return index
    return _intern("bounded", (index, n), None, i64)


def checked(x: Expr, c: Expr, fault: str) -> Expr:
    """`x`, promised that the bool `c` holds; the run fails with `fault` where it does not."""
    return x if c is TRUE else _intern("checked", (x, c), fault, x.dtype)


def call(op: str, *args: Expr) -> Expr:
    """`op` of OPERATORS applied to `args`, which agree in dtype; the result's dtype follows from
    the operator.
    """
    record = OPERATORS.get(op)
    if record is None or record.arity != len(args):
        raise ValueError(f"{op} is no operator of {len(args)} arguments")
    dtype = args[0].dtype
    for a in args:
        if a.dtype is not dtype and a.dtype != dtype:
            typed(op, tuple(x.dtype for x in args))
    if dtype is i64 and op in _FOLDING:
        return _FOLDING[op](*args)
    return _intern(op, args, None, record.result or dtype)


def _raw(op: str, a: Expr, b: Expr) -> Expr:
    return _intern(op, (a, b), None, a.dtype)


def _folding(op: Operator) -> Callable[[Expr, Expr], Expr]:
    """The constructor of a binary operator that folds by its laws, on the kinds it names."""
    name, kinds, exact, unit, divides = op.name, op.folds, op.exact, op.unit, op.divides
    commutative, idempotent, cancels = op.commutative, op.idempotent, op.cancels
    at, value = op.collapse or (None, None)
    assert exact is not None

    def build(a: Expr, b: Expr) -> Expr:
        dtype = a.dtype
        if dtype is not b.dtype and dtype != b.dtype:
            typed(name, (dtype, b.dtype))
        if dtype.kind in kinds:
            if b.op == "const":
                by = b.attr
                if a.op == "const":
                    if by or not divides:
                        return const(exact(a.attr, by), dtype)
                elif by == unit:
                    return a
                elif by == at:
                    return const(value, dtype)
            elif commutative and a.op == "const" and a.attr == unit:
                return b
            if a is b:
                if idempotent:
                    return a
                if cancels:
                    return const(0, dtype)
        return _intern(name, (a, b), None, dtype)

    return build


_product = _folding(OPERATORS["mul"])


def mul(a: Expr, b: Expr) -> Expr:
    """a * b: a constant goes last, and x * 1.0 is x."""
    if a.op == "const":
        a, b = b, a
    if b.op == "const" and b.attr == 1.0 and b.dtype.kind == "f" and a.dtype == b.dtype:
        return a
    return _product(a, b)


_FOLDING = {name: _folding(op) for name, op in OPERATORS.items() if op.folds} | {"mul": mul}
add, sub = _FOLDING["add"], _FOLDING["sub"]
floordiv, mod = _FOLDING["floordiv"], _FOLDING["mod"]
minimum, maximum = _FOLDING["min"], _FOLDING["max"]


def compare(op: str, a: Expr, b: Expr) -> Expr:
    """A bool; `gt` and `ge` are accepted and turned round."""
    if op in ("gt", "ge"):
        op, a, b = ("lt" if op == "gt" else "le"), b, a
    if a.op == "const" and b.op == "const":
        exact = OPERATORS[op].exact
        assert exact is not None
        return const(exact(a.attr, b.attr), boolean)
    return call(op, a, b)


def lt(a: Expr, b: Expr | int) -> Expr:
    return compare("lt", a, like(b, a))


def le(a: Expr, b: Expr | int) -> Expr:
    return compare("le", a, like(b, a))


def eq(a: Expr, b: Expr | int) -> Expr:
    return compare("eq", a, like(b, a))


def both(*conditions: Expr) -> Expr:
    """The conjunction of bools; TRUE when there are none."""
    return functools.reduce(lambda a, b: joined("and", a, b), conditions, TRUE)


def either(*conditions: Expr) -> Expr:
    """The disjunction of bools; FALSE when there are none."""
    return functools.reduce(lambda a, b: joined("or", a, b), conditions, FALSE)


def joined(op: str, a: Expr, b: Expr) -> Expr:
    """`and` or `or` of two bools, folded."""
    unit, absorbing = _ENDS[op]
    if a is unit or b is absorbing:
        return b
    return a if b is unit or a is absorbing or a is b else call(op, a, b)


_ENDS = {
    name: (const(op.unit, boolean), const(op.collapse[1], boolean))
    for name, op in OPERATORS.items()
    if op.bools is not None and op.idempotent and op.collapse is not None
}


def conjuncts(c: Expr | None) -> tuple[Expr, ...]:
    """The terms of a conjunction, from left to right."""
    out, stack = list[Expr](), [] if c is None else [c]
    while stack:
        term = stack.pop()
        if term.op == "and" and term.dtype == boolean:
            stack += term.args[::-1]
        elif term is not TRUE:
            out.append(term)
    return tuple(out)


def product(factors: tuple[Expr, ...] | list[Expr]) -> Expr:
    out = ONE
    for f in factors:
        out = mul(out, f)
    return out


def ceildiv(a: Expr, b: Expr | int) -> Expr:
    b = as_index(b)
    return floordiv(add(a, sub(b, ONE)), b)


def fconst(value: float, dtype: DType = f32) -> Expr:
    return const(value, dtype)


# ---- walking and rewriting -----------------------------------------------------------------------


def rebuild(e: Expr, args: tuple[Expr, ...]) -> Expr:
    """`e` with other arguments, folded by the constructors."""
    op = e.op
    if op == "load":
        return _intern("load", args, e.attr, e.dtype)
    if op in OPERATORS:
        return compare(op, *args) if op in COMPARISONS else call(op, *args)
    if op == "select":
        return select(*args)
    if op == "cast":
        return cast(args[0], e.dtype)
    if op == "bounded":
        return bounded(*args)
    if op == "checked":
        return checked(args[0], args[1], e.attr)
    if op == "bitcast":
        return bitcast(args[0], e.dtype)
    return _intern(op, args, e.attr, e.dtype)


DEEP = 32  # levels of an expression that a function may go down by calling itself


def walk(e: Expr, enters: Callable[[Expr], bool] | None = None) -> Iterator[Expr]:
    """Each distinct node of `e`, arguments before users; not what lies below nodes that `enters`
    refuses, unless another way leads to it.
    """
    seen: set[Expr] = set()
    stack: list[tuple[Expr, bool]] = [(e, False)]
    while stack:
        node, done = stack.pop()
        if done:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            if enters is None or enters(node):
                stack.extend((a, False) for a in reversed(node.args) if a not in seen)


def bottom_up(e: Expr, key: str, fn: Callable[[Expr], T]) -> T:
    """`fn(e)`, remembered as `key` in the node. `fn` may ask for the same of the node's arguments:
    their turn came first.
    """
    if key not in e.memo:
        for node in walk(e, lambda node: key not in node.memo):
            if key not in node.memo:
                node.memo[key] = fn(node)
    found: T = e.memo[key]
    return found


def rewrite(e: Expr, fn: Callable[[Expr], Expr | None]) -> Expr:
    """`e` rebuilt bottom-up; `fn` gets each rebuilt node and returns its replacement, or None to
    keep it.
    """
    done: dict[Expr, Expr] = {}
    for node in walk(e):
        args = tuple(done[a] for a in node.args)
        new = node if args == node.args else rebuild(node, args)
        done[node] = fn(new) or new
    return done[e]


def substitute(e: Expr, mapping: Mapping[Expr, Expr]) -> Expr:
    """`e` with axes (or other leaves) replaced. When all keys are axes, subtrees without them are
    shared untouched.
    """
    if not mapping:
        return e
    keys = frozenset(mapping)
    only_axes = all(k.op == "axis" for k in keys)

    def stays(node: Expr) -> bool:
        if only_axes and (not node.axes or node.axes.isdisjoint(keys)):
            return True
        return not node.args or node.op == "axis"

    done = dict(mapping)
    stack = [] if e in done or stays(e) else [e]
    while stack:
        node = stack[-1]
        waiting = [a for a in node.args if a not in done and not stays(a)]
        if waiting:
            stack += waiting
            continue
        stack.pop()
        if node not in done:
            args = tuple([done.get(a, a) for a in node.args])
            done[node] = node if args == node.args else rebuild(node, args)
    return done.get(e, e)


def loads(e: Expr) -> tuple[Expr, ...]:
    """The distinct loads in `e`, inner ones before the loads that index with them."""
    return bottom_up(e, "loads", _loads)


def _loads(e: Expr) -> tuple[Expr, ...]:
    below = [found for a in e.args if (found := loads(a))]
    if len(below) > 1:
        below = [tuple(dict.fromkeys(x for found in below for x in found))]
    inner = below[0] if below else ()
    return (*inner, e) if e.op == "load" else inner


def promises(e: Expr) -> frozenset[Expr]:
    """The `bounded` indices in `e`."""
    found = e.memo.get("promises")
    if found is None:
        found = e.memo["promises"] = frozenset(n for n in walk(e) if n.op == "bounded")
    return found


def dims(e: Expr) -> frozenset[Expr]:
    """The symbolic dims `e` mentions, those in axis extents and buffer shapes included."""
    found = e.memo.get("dims")
    if found is None:
        nodes = list(walk(e))
        inner = (dims(s) for n in nodes if n.op == "load" for s in n.attr.shape)
        found = e.memo["dims"] = frozenset(n for n in nodes if n.op == "dim").union(*inner)
    return found
