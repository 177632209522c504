"""Expressions as Triton tiles: the text that computes an Expr at every point of some blocks.

    tile = text of rank len(domain), size 1 along dimensions in which it does not differ, or scalar

A domain is an ordered tuple of blocked axes. `in_x` says which points of the block of `x` exist.
A load is masked by them, for the axes that its address mentions, and by the guards it stands
under: the stage's `where` and the conditions of the selects around it, which are lazy. What a
masked point holds is unspecified; folds and stores mask their values.
"""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ferrule.base.errors import UnsupportedError
from ferrule.codegen.triton import ops
from ferrule.codegen.triton.plan import Along, Block, Plan
from ferrule.ir.analysis.access import offset
from ferrule.ir.expr import ZERO, Buf, Expr, call, conjuncts, loads, walk
from ferrule.ir.operators import OPERATORS
from ferrule.ir.simplify import prove_nonneg
from ferrule.ir.system import Monoid

Domain = tuple[Along, ...]
Guards = tuple[Expr, ...]
LONGEST = 72  # an expression of more characters gets a name


class Names:
    """Python identifiers, each given once."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def fresh(self, stem: str) -> str:
        """`stem` as an identifier, numbered where it is taken."""
        base = re.sub(r"\W", "_", stem, flags=re.ASCII)
        base = base if base[:1].isalpha() or base[:1] == "_" else f"_{base}"
        name, number = base, 1
        while name in self._taken or keyword.iskeyword(name):
            number += 1
            name = f"{base}_{number}"
        self._taken.add(name)
        return name


@dataclass
class Writer:
    """The text of one kernel as it grows; `bufs`, `dims` and `blocks` are names in it.

    `axes` are the points of each blocked axis, `masks` which of them exist, `tiles` the scratch
    tiles, `folds` the combining functions by monoid.
    """

    plan: Plan
    names: Names
    bufs: dict[Buf, str]
    dims: dict[Expr, str]
    blocks: dict[Block, str]
    axes: dict[Expr, str] = field(default_factory=dict)
    masks: dict[Expr, str] = field(default_factory=dict)
    tiles: dict[Buf, str] = field(default_factory=dict)
    folds: dict[Monoid, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    depth: int = 1

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def named(self, stem: str, text: str) -> str:
        """A fresh variable that holds `text`."""
        name = self.names.fresh(stem)
        self.line(f"{name} = {text}")
        return name

    @contextmanager
    def indented(self, head: str) -> Iterator[None]:
        """What is written inside is the body of `head`."""
        self.line(head)
        self.depth += 1
        yield
        self.depth -= 1

    def shape(self, dims: Iterable[Along], domain: Domain) -> str:
        """The shape of a tile of `domain` that differs along `dims` alone."""
        held = set(dims)
        sizes = [self.blocks[d.block] if d in held else "1" for d in domain]
        return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"

    def spread(self, name: str, have: Domain, domain: Domain) -> str:
        """The tile `name`, whose dimensions are `have`, as one of `domain`."""
        order = sorted(range(len(have)), key=lambda i: domain.index(have[i]))
        if order != list(range(len(have))):
            name = f"tl.trans({name}, {', '.join(map(str, order))})"
        if len(have) in (0, len(domain)):
            return name
        return f"{name}[{', '.join(':' if d in have else 'None' for d in domain)}]"


class Values:
    """The values of one domain, each node of an expression computed once."""

    def __init__(self, writer: Writer, domain: Domain, guards: Guards, roots: Iterable[Expr]):
        self.out = writer
        self.domain = domain
        self.guards = guards
        self._memo: dict[tuple[Expr, Guards], str] = {}
        self._by_axis = {d.axis: d for d in domain}
        uses: Counter[Expr] = Counter(a for e in set(roots) for n in walk(e) for a in n.args)
        self._shared = {e for e, n in uses.items() if n > 1}

    def dims_of(self, *exprs: Expr) -> Domain:
        """The dimensions along which one of `exprs` differs."""
        found = {d for e in exprs for d in self.out.plan.dims_of(e, self.domain)}
        return tuple(d for d in self.domain if d in found)

    def value(self, e: Expr, guards: Guards | None = None) -> str:
        """The text of `e` where `guards` hold (those of the domain by default)."""
        held = (self.guards if guards is None else guards) if loads(e) else ()
        text = self._memo.get((e, held))
        if text is None:
            text = self._node(e, held)
            if e.op == "load" or (e.args and (e in self._shared or len(text) > LONGEST)):
                text = self.name(e.op, text)
            self._memo[e, held] = text
        return text

    def name(self, stem: str, text: str) -> str:
        """`text` as a variable, if it is not one."""
        return text if text.isidentifier() else self.out.named(stem, _bare(text))

    def whole(self, text: str, dims: Domain) -> str:
        """`text`, which differs along `dims`, as a tile of the whole domain."""
        if dims == self.domain:
            return text
        return f"tl.broadcast_to({text}, {self.out.shape(self.domain, self.domain)})"

    def tile(self, e: Expr) -> str:
        """`e` as a tile of the whole domain."""
        if e.is_const and self.domain:
            return ops.full(e.value, e.dtype, self.out.shape(self.domain, self.domain))
        return self.whole(self.value(e), self.dims_of(e))

    def mask(self, dims: Iterable[Along], guards: Guards) -> str:
        """Where the points along `dims` exist and `guards` hold; empty where that is everywhere."""
        parts = [self.out.spread(self.out.masks[d.axis], (d,), self.domain) for d in dims]
        parts += [self.value(g, guards[:i]) for i, g in enumerate(guards)]
        return " & ".join(parts)

    def _node(self, e: Expr, guards: Guards) -> str:
        if e.op == "const":
            return ops.full(e.value, e.dtype)
        if e.op == "dim":
            return self.out.dims[e]
        if e.op == "axis":
            have = (self._by_axis[e],) if e in self._by_axis else ()
            return self.out.spread(self.out.axes[e], have, self.domain)
        if e.op == "load":
            return self._load(e, guards)
        if e.op == "select":
            return self._select(e, guards)
        if e.op == "cast":
            return ops.convert(self.value(e.args[0], guards), e.args[0].dtype, e.dtype)
        if e.op == "bitcast":
            return ops.reinterpret(self.value(e.args[0], guards), e.dtype)
        if e.op not in OPERATORS:
            raise UnsupportedError(f"Triton code has no {e.op}")
        return self._call(e, guards)

    def _call(self, e: Expr, guards: Guards) -> str:
        plain = e.op in LITERAL and e.args[0].dtype.bits != 16
        args = [self._operand(e, a, guards, plain) for a in e.args]
        if e.op in ops.REPEATING:
            args = [self.name(e.op, a) for a in args]
        op = e.op
        if op in ROUNDING and e.dtype.is_int and all(prove_nonneg(a) for a in e.args):
            op = ROUNDING[op]
        return ops.apply(op, e.args[0].dtype, args)

    def _operand(self, e: Expr, a: Expr, guards: Guards, plain: bool) -> str:
        """An operand; a plain number where its sibling gives it its dtype."""
        if plain and a.is_const and not all(x.is_const for x in e.args):
            return ops.literal(a.value, a.dtype)
        return self.value(a, guards)

    def _select(self, e: Expr, guards: Guards) -> str:
        c, a, b = e.args
        yes = self.value(a, (*guards, *conjuncts(c)) if loads(a) else guards)
        no = self.value(b, (*guards, call("not", c)) if loads(b) else guards)
        return f"tl.where({self.value(c, guards)}, {yes}, {no})"

    def _load(self, e: Expr, guards: Guards) -> str:
        buf: Buf = e.attr
        if buf in self.out.plan.rows:
            row = tuple(self._by_axis[i] for i in e.args)
            return self.out.spread(self.out.tiles[buf], (*self.out.plan.grid, *row), self.domain)
        at, dims = self.address(buf, e.args, guards, self.dims_of(*guards))
        mask = self.mask(dims, guards)
        other = f", mask={mask}, other=0" if mask else ""
        return f"tl.load({at}{other})"

    def address(
        self, buf: Buf, idx: tuple[Expr, ...], guards: Guards, least: Domain
    ) -> tuple[str, Domain]:
        """The pointers to `buf[idx]`, as a tile that differs along `least` at least, and the
        dimensions that the address mentions.
        """
        place = offset(buf, idx)
        dims = self.dims_of(place)
        name = self.out.bufs[buf]
        joined = tuple(d for d in self.domain if d in dims or d in least)
        if joined == dims and place is ZERO:
            return name, dims
        if joined == dims:
            return f"{name} + {self.value(place, guards)}", dims
        shape = self.out.shape(joined, self.domain)
        if place.is_const:
            return f"{name} + {ops.full(place.value, place.dtype, shape)}", dims
        return f"{name} + tl.broadcast_to({self.value(place, guards)}, {shape})", dims


LITERAL = frozenset({
    "add", "sub", "mul", "eq", "ne", "lt", "le", "and", "or", "xor", "min", "max", "floordiv",
    "mod", "rem", "truncdiv", "shl", "shr", "div",
})  # fmt: skip
ROUNDING = {"floordiv": "truncdiv", "mod": "rem"}  # the same for what is not negative


def _bare(text: str) -> str:
    """`text` without a pair of parentheses around all of it."""
    if not text.startswith("("):
        return text
    level = 0
    for i, c in enumerate(text):
        level += (c == "(") - (c == ")")
        if level == 0:
            return text[1:-1] if i == len(text) - 1 else text
    return text


def combine_text(monoid: Monoid, name: str) -> str:
    """A Triton function that combines two tuples of the monoid's values."""
    count = monoid.arity

    def text(e: Expr) -> str:
        if e.op == "arg":
            return f"{'a' if e.attr < count else 'b'}{e.attr % count}"
        if e.op == "const":
            return ops.full(e.value, e.dtype)
        if e.op == "select":
            c, a, b = map(text, e.args)
            return f"tl.where({c}, {a}, {b})"
        if e.op == "cast":
            return ops.convert(text(e.args[0]), e.args[0].dtype, e.dtype)
        if e.op not in OPERATORS:
            raise UnsupportedError(f"Triton code has no {e.op} in a fold")
        return ops.apply(e.op, e.args[0].dtype, [text(a) for a in e.args])

    args = ", ".join(f"{side}{i}" for side in "ab" for i in range(count))
    result = ", ".join(text(e) for e in monoid.combine)
    return f"@triton.jit\ndef {name}({args}):\n    return {result}\n"
