"""The builder: LLVM text, written into nested regions so that nothing is computed twice or too
deep.

    region = lines of text + what is known there (memo)          the open ones form a stack
    value  = SSA name or literal, scalar type, width (0: scalar), level of the region it lives in

A pure instruction is emitted in the outermost region in which all its operands exist:
loop-invariant code leaves loops as it is written, and since a region remembers the text of each
pure instruction, common subexpressions are found by text alone. The text of an open region comes
*after* all that its parent holds so far, so appending to the parent is writing into the preheader;
`close_*` splices the child in with its branches.

A load may be hoisted out of a region only if the region does not write to its buffer and is not
conditional (`load_level`). A store forgets what was loaded from its buffer (`forget`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ferrule.codegen.llvm.types import suffix, vector_literal, vector_type
from ferrule.ir.expr import Buf
from ferrule.target.cpu import Target


class Val(NamedTuple):
    """A value: its text, scalar type, width in lanes (0: scalar) and level. Literals are scalars
    of level 0.
    """

    text: str
    type: str
    width: int = 0
    level: int = 0

    @property
    def full(self) -> str:
        """Its LLVM type."""
        return vector_type(self.type, self.width)

    @property
    def literal(self) -> bool:
        return not self.text.startswith("%") and not self.text.startswith("@")


Term = tuple[Callable[..., Val], tuple[Val, ...]]


@dataclass
class Region:
    """A piece of straight-line code with what it contains spliced in. `block` is the label its
    text ends in; `writes` are the buffers stored to anywhere inside; a `conditional` region may
    not run although its parent does.
    """

    block: str
    writes: frozenset[Buf] = frozenset()
    conditional: bool = False
    lines: list[str] = field(default_factory=list)
    memo: dict[Any, Val] = field(default_factory=dict)
    users: dict[Buf, list[Any]] = field(default_factory=dict)


class Builder:
    """Writes one function's body."""

    def __init__(self, target: Target):
        self.target = target
        self.regions: list[Region] = [Region("entry")]
        self.allocas: list[str] = []
        self.declares: dict[str, str] = {}
        self.zeros = 0
        self.terms: dict[str, Term] = {}  # by name, what instructions that add gave (isa/select)
        self._count = 0

    # ---- names and regions -----------------------------------------------------------------------

    def name(self, stem: str = "v") -> str:
        """A name no other value or label of the function has."""
        self._count += 1
        return f"{stem}{self._count}"

    @property
    def top(self) -> int:
        """The level of the innermost open region."""
        return len(self.regions) - 1

    def push(self, label: str, writes: frozenset[Buf], conditional: bool) -> Region:
        """Opens a region inside the innermost one."""
        region = Region(label, writes, conditional)
        self.regions.append(region)
        return region

    def pop(self) -> Region:
        """Ends the innermost region; its text still has to be spliced in."""
        return self.regions.pop()

    def line(self, text: str) -> None:
        """Appends an instruction at the current point."""
        self.regions[-1].lines.append("  " + text)

    def splice(self, lines: Iterable[str], block: str) -> None:
        """Appends finished text, which ends in `block`, at the current point."""
        region = self.regions[-1]
        region.lines.extend(lines)
        region.block = block

    # ---- instructions ----------------------------------------------------------------------------

    def pure(self, text: str, type: str, width: int, level: int) -> Val:
        """The value of an instruction without side effects, emitted once at `level`."""
        region = self.regions[level]
        known = region.memo.get(text)
        if known is None:
            self._count += 1
            name = f"%v{self._count}"
            region.lines.append(f"  {name} = {text}")
            known = region.memo[text] = Val(name, type, width, level)
        return known

    def splat(self, v: Val, width: int) -> Val:
        """`v` in every lane."""
        if v.width or not width:
            return v
        if v.literal:
            return Val(f"splat ({v.type} {v.text})", v.type, width, 0)
        vec = vector_type(v.type, width)
        first = self.pure(
            f"insertelement {vec} poison, {v.type} {v.text}, i64 0", v.type, width, v.level
        )
        zero = f"<{width} x i32> zeroinitializer"
        return self.pure(
            f"shufflevector {vec} {first.text}, {vec} poison, {zero}", v.type, width, v.level
        )

    def even(self, *vals: Val) -> tuple[tuple[Val, ...], int, int]:
        """The values brought to one width, that width, and the innermost of their levels."""
        width = level = 0
        for v in vals:
            width = max(width, v.width)
            level = max(level, v.level)
        if width:
            vals = tuple(v if v.width else self.splat(v, width) for v in vals)
        return vals, width, level

    def binary(self, opcode: str, a: Val, b: Val) -> Val:
        """`opcode` of two values of one type."""
        (a, b), width, level = self.even(a, b)
        return self.pure(f"{opcode} {a.full} {a.text}, {b.text}", a.type, width, level)

    def compare(self, opcode: str, a: Val, b: Val) -> Val:
        """An `icmp` or `fcmp`."""
        (a, b), width, level = self.even(a, b)
        return self.pure(f"{opcode} {a.full} {a.text}, {b.text}", "i1", width, level)

    def convert(self, opcode: str, v: Val, type: str) -> Val:
        """A conversion of each lane to the scalar type `type`."""
        if v.type == type and opcode in ("bitcast", "zext", "sext", "trunc"):
            return v
        return self.pure(
            f"{opcode} {v.full} {v.text} to {vector_type(type, v.width)}", type, v.width, v.level
        )

    def select(self, c: Val, a: Val, b: Val) -> Val:
        """`a` where `c`, else `b`."""
        if a.text == b.text and a.width == b.width:
            return a
        if c.width:
            (c, a, b), width, level = self.even(c, a, b)
        else:
            (a, b), width, level = self.even(a, b)
            level = max(level, c.level)
        text = f"select {c.full} {c.text}, {a.full} {a.text}, {b.full} {b.text}"
        return self.pure(text, a.type, width, level)

    def intrinsic(self, name: str, *vals: Val, tail: str = "", flags: str = "") -> Val:
        """`llvm.<name>` of values of one type; `tail` holds further literal operands."""
        vals, width, level = self.even(*vals)
        callee = f"llvm.{name}.{suffix(vals[0].type, width)}"
        full = vals[0].full
        operands = ", ".join(f"{full} {v.text}" for v in vals) + tail
        types = ", ".join([full] * len(vals) + [t.split()[0] for t in tail.split(", ") if t])
        self.declare(callee, full, types)
        return self.pure(f"call {flags}{full} @{callee}({operands})", vals[0].type, width, level)

    def fenced(self, v: Val) -> Val:
        """The same floats, of which LLVM knows nothing."""
        return self.intrinsic("arithmetic.fence", v)

    def declare(self, callee: str, result: str, types: str) -> None:
        """Makes the module declare a function."""
        self.declares[callee] = f"declare {result} @{callee}({types})"

    def integer(self, value: int, type: str = "i64") -> Val:
        return Val(str(value), type)

    def iota(self, width: int, step: int = 1, type: str = "i64", start: int = 0) -> Val:
        """The constant vector start, start + step, .."""
        values = [str(start + step * k) for k in range(width)]
        return Val(vector_literal(type, values), type, width, 0)

    def extract(self, v: Val, lane: int) -> Val:
        """One lane of a vector."""
        if not v.width:
            return v
        if v.literal and v.text.startswith("splat ("):
            return Val(v.text[len(f"splat ({v.type} ") : -1], v.type)
        return self.pure(f"extractelement {v.full} {v.text}, i64 {lane}", v.type, 0, v.level)

    def gather(self, vals: list[Val]) -> Val:
        """The vector of the given scalars."""
        type, width = vals[0].type, len(vals)
        out = Val("poison", type, width, 0)
        for k, v in enumerate(vals):
            level = max(out.level, v.level)
            out = self.pure(
                f"insertelement {out.full} {out.text}, {type} {v.text}, i64 {k}", type, width, level
            )
        return out

    def shuffle(self, v: Val, lanes: list[int], other: Val | None = None) -> Val:
        """The vector of the given lanes of `v`, and of `other` after them."""
        mask = "<" + ", ".join(f"i32 {k}" for k in lanes) + ">"
        second = "poison" if other is None else other.text
        text = f"shufflevector {v.full} {v.text}, {v.full} {second}, <{len(lanes)} x i32> {mask}"
        return self.pure(text, v.type, len(lanes), max(v.level, other.level if other else 0))

    # ---- memory ----------------------------------------------------------------------------------

    def load_level(self, buf: Buf, level: int) -> int:
        """The outermost level, not above `level`, at which `buf` holds the same as now and reading
        it is safe.
        """
        for k in range(self.top, level, -1):
            region = self.regions[k]
            if region.conditional or buf in region.writes:
                return k
        return level

    def effect_level(self, level: int) -> int:
        """The outermost level, not above `level`, that runs only if the current point does."""
        for k in range(self.top, level, -1):
            if self.regions[k].conditional:
                return k
        return level

    def remember(self, buf: Buf, key: Any, level: int) -> None:
        """Notes that what is known under `key` depends on the contents of `buf`."""
        self.regions[level].users.setdefault(buf, []).append(key)

    def forget(self, buf: Buf) -> None:
        """`buf` was written: what was read from it is out of date."""
        for region in self.regions:
            for key in region.users.pop(buf, ()):
                region.memo.pop(key, None)

    def alloca(self, type: str, count: int, align: int) -> Val:
        """Stack memory for `count` elements, reserved once on entry."""
        name = f"%{self.name('m')}"
        self.allocas.append(f"  {name} = alloca [{count} x {type}], align {align}")
        return Val(name, "ptr")

    def zero_page(self, size: int) -> Val:
        """The address of at least `size` bytes of zeros."""
        self.zeros = max(self.zeros, size)
        return Val("@ferrule.zeros", "ptr")
