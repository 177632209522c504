"""What an entry of the tables of instructions is: a meaning and a spelling, side by side.

    instruction = name | meaning | features that it needs | lanes | spelling

After Exo's `@instr` (Ikarashi et al., "Exocompilation for Productive Programming of Hardware
Accelerators", PLDI 2022). The meaning is an Expr over `arg(0)`, `arg(1)`, .. for one lane, so the
interpreter says what the instruction computes, and tests hold the native code against it. An entry
with `lanes` is for vectors of so many, one without for any number and for scalars: LLVM cuts these
as it needs.

A spelling is how LLVM writes it:

    Call         an intrinsic of one width, with the types of its operands and with constant ones
    Intrinsic    one of LLVM's own for all types and widths, such as `llvm.fma`
    Conversion   an instruction of LLVM's between element types, such as `fpext`
    Masked       an access of the lanes that a mask names, which `memory.py` puts in its place

The meaning of an access is over `element(dtype)`, what lies in memory for the lane: of a load its
value, of a store what lies there afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from ferrule.base.dtype import DType, boolean
from ferrule.codegen.llvm.builder import Builder, Val
from ferrule.codegen.llvm.types import ssa_type, suffix
from ferrule.ir.expr import Buf, Expr, arg, axis, const, load, select
from ferrule.target.cpu import Target


@dataclass(frozen=True)
class Call:
    """`operands` are written as in LLVM, `{k}` for operand k: "<8 x i32> {0}", "i32 4". Those of
    other types than the values have are their bits, and so are results. Lanes of the result
    beyond the instruction's own are dropped.
    """

    callee: str
    result: str
    operands: tuple[str, ...]

    def emit(self, b: Builder, vals: tuple[Val, ...], lanes: int, type: str) -> Val:
        types = [o.rpartition(" ")[0] for o in self.operands]
        b.declare(self.callee, self.result, ", ".join(types))
        level = max(v.level for v in vals)
        texts = [v.text for v in vals]
        for full, operand in zip(types, self.operands):
            if operand.endswith("}"):
                k = int(operand[len(full) + 2 : -1])
                texts[k] = _bits(b, vals[k], full).text
        given = ", ".join(o.format(*texts) for o in self.operands)
        width = lanes_of(self.result)
        out = b.pure(
            f"call {self.result} @{self.callee}({given})", element_of(self.result), width, level
        )
        out = out if width == lanes else b.shuffle(out, list(range(lanes)))
        return b.convert("bitcast", out, type)


@dataclass(frozen=True)
class Intrinsic:
    """`llvm.NAME` of operands of one type, which its result has too."""

    name: str

    def emit(self, b: Builder, vals: tuple[Val, ...], lanes: int, type: str) -> Val:
        return b.intrinsic(self.name, *vals)


@dataclass(frozen=True)
class Conversion:
    """`opcode` of each lane, whose bits are a `source`, to a `result`."""

    opcode: str
    source: str
    result: str

    def emit(self, b: Builder, vals: tuple[Val, ...], lanes: int, type: str) -> Val:
        (v,) = vals
        out = b.convert(self.opcode, b.convert("bitcast", v, self.source), self.result)
        return b.convert("bitcast", out, type)


@dataclass(frozen=True)
class Masked:
    """`llvm.masked.ACCESS` of elements side by side, of `size` bytes each."""

    access: str

    def text(self, b: Builder, ptr: Val, mask: Val, v: Val, size: int) -> str:
        """The instruction; `v` is what a load gives for the other lanes, or what a store writes."""
        callee = f"llvm.masked.{self.access}.{suffix(v.type, v.width)}.p0"
        at = f"ptr {ptr.text}, i32 {size}, {mask.full} {mask.text}"
        if self.access == "load":
            b.declare(callee, v.full, f"ptr, i32 immarg, {mask.full}, {v.full}")
            return f"call {v.full} @{callee}({at}, {v.full} {v.text})"
        b.declare(callee, "void", f"{v.full}, ptr, i32 immarg, {mask.full}")
        return f"call void @{callee}({v.full} {v.text}, {at})"


@dataclass(frozen=True)
class Instruction:
    """An entry. `needs` are LLVM's names of features, all of which it needs (`base/features.py`);
    `lanes` None is any number.
    """

    name: str
    meaning: Expr
    needs: tuple[str, ...]
    lanes: int | None
    spelling: Call | Intrinsic | Conversion | Masked

    def runs_on(self, target: Target) -> bool:
        return all(name in target.extensions for name in self.needs)

    def emit(self, b: Builder, *vals: Val) -> Val:
        """The instruction on values that have its lanes, or are the same for all lanes."""
        assert not isinstance(self.spelling, Masked)
        vals, width, _ = b.even(*vals)
        return self.spelling.emit(b, vals, width, ssa_type(self.meaning.dtype))


LANE = axis("lane", 64)


@cache
def element(dtype: DType) -> Expr:
    """What lies in memory for a lane, in the meaning of an access."""
    return load(Buf("memory", (LANE.extent,), dtype), LANE)


@cache
def masked_load(dtype: DType) -> Expr:
    """The lane's element where its mask holds, else zero: nothing is read there."""
    return select(arg(0, boolean), element(dtype), const(0, dtype))


@cache
def masked_store(dtype: DType) -> Expr:
    """What lies in memory after a value was written where the mask holds."""
    return select(arg(0, boolean), arg(1, dtype), element(dtype))


def lanes_of(full: str) -> int:
    """How many lanes a type has as LLVM writes it, 0 for a scalar."""
    return int(full[1:].partition(" ")[0]) if full.startswith("<") else 0


def element_of(full: str) -> str:
    """The type of one lane."""
    return full.strip("<>").rpartition(" ")[2]


def _bits(b: Builder, v: Val, full: str) -> Val:
    """`v`, or its bits as another type."""
    if v.full == full:
        return v
    text = f"bitcast {v.full} {v.text} to {full}"
    return b.pure(text, element_of(full), lanes_of(full), v.level)
