"""Instructions found by what they mean.

    apply(b, op, dtype, vals)        an operator of Expr by an instruction of its own, else None
    instruction(target, meaning, n)  the entry that means this for n lanes, else None
    fitted(b, meaning, v)            the same for any number of lanes, cut or filled up

`apply` knows meanings of two forms, for any operator `op`:

    op(arg(0), .., arg(n))
    arg(0) + op(arg(1), .., arg(n))

One of the second form adds to an accumulator. It stands for `op` alone with an accumulator of
zeros; where that is added to something, the instruction is written anew with this as the
accumulator, and the first one is dead.
"""

from __future__ import annotations

from functools import cache

from ferrule.base.dtype import DType
from ferrule.base.features import ARM, RISCV, WASM, X86
from ferrule.codegen.llvm.builder import Builder, Val
from ferrule.codegen.llvm.isa import arm, riscv, wasm, x86
from ferrule.codegen.llvm.isa.instruction import Instruction
from ferrule.codegen.llvm.types import constant, ssa_type
from ferrule.ir.expr import Expr, add, arg, call
from ferrule.ir.operators import OPERATORS
from ferrule.target.cpu import Target

TABLES = {
    **dict.fromkeys(X86, x86.INSTRUCTIONS),
    **dict.fromkeys(ARM, arm.INSTRUCTIONS),
    **dict.fromkeys(RISCV, riscv.INSTRUCTIONS),
    **dict.fromkeys(WASM, wasm.INSTRUCTIONS),
}
"""The instructions of each architecture. Where two mean the same the first has precedence."""


def apply(b: Builder, op: str, dtype: DType, vals: list[Val]) -> Val | None:
    """`op` of values of `dtype` as one instruction; None where the target has none."""
    if op == "add" and b.terms and (found := _accumulated(b, *vals)) is not None:
        return found
    if op not in _OPERATORS:
        return None
    width = max(v.width for v in vals)
    entry = instruction(b.target, _alone(op, dtype, len(vals)), width)
    if entry is not None:
        return entry.emit(b, *vals)
    entry = instruction(b.target, _added(op, dtype, len(vals)), width)
    if entry is None:
        return None
    result = entry.meaning.dtype
    out = entry.emit(b, Val(constant(0, result), ssa_type(result)), *vals)
    b.terms[out.text] = (entry.emit, tuple(vals))
    return out


def _accumulated(b: Builder, x: Val, y: Val) -> Val | None:
    """x + y where one of them is of an instruction that adds."""
    for one, other in ((x, y), (y, x)):
        term = b.terms.get(one.text)
        if term is not None:
            emit, operands = term
            return emit(b, other, *operands)
    return None


def instruction(target: Target, meaning: Expr, width: int) -> Instruction | None:
    """The first entry that means `meaning` for vectors of `width` lanes (0: a scalar)."""
    for entry in entries(target, meaning):
        if entry.lanes is None or entry.lanes == width:
            return entry
    return None


@cache
def entries(target: Target, meaning: Expr) -> tuple[Instruction, ...]:
    """All entries of the target that mean `meaning`."""
    table = TABLES.get(target.architecture, ())
    return tuple(i for i in table if i.meaning is meaning and i.runs_on(target))


def fitted(b: Builder, meaning: Expr, v: Val) -> Val | None:
    """An instruction of one operand on a value of any width, which is cut in halves or filled up;
    None where the target has none.
    """
    found = instruction(b.target, meaning, v.width)
    if found is not None:
        return found.emit(b, v)
    widths = sorted(i.lanes for i in entries(b.target, meaning) if i.lanes)
    if not widths:
        return None
    if v.width > widths[-1]:
        half = v.width // 2
        low = _fitted(b, meaning, b.shuffle(v, list(range(half))))
        high = _fitted(b, meaning, b.shuffle(v, list(range(half, 2 * half))))
        return b.shuffle(low, list(range(v.width)), high)
    if not v.width:
        full = f"<{widths[0]} x {v.type}>"
        text = f"insertelement {full} zeroinitializer, {v.type} {v.text}, i64 0"
        return b.extract(_fitted(b, meaning, b.pure(text, v.type, widths[0], v.level)), 0)
    longer = next(n for n in widths if n >= v.width)
    padded = b.shuffle(v, [min(k, v.width - 1) for k in range(longer)])
    return b.shuffle(_fitted(b, meaning, padded), list(range(v.width)))


def _fitted(b: Builder, meaning: Expr, v: Val) -> Val:
    out = fitted(b, meaning, v)
    assert out is not None
    return out


@cache
def _alone(op: str, dtype: DType, count: int) -> Expr:
    return call(op, *(arg(k, dtype) for k in range(count)))


@cache
def _added(op: str, dtype: DType, count: int) -> Expr:
    term = call(op, *(arg(k + 1, dtype) for k in range(count)))
    return add(arg(0, term.dtype), term)


def _operators() -> frozenset[str]:
    """The operators that occur in a meaning of either form."""
    nodes = {e for table in TABLES.values() for i in table for e in (i.meaning, *i.meaning.args)}
    return frozenset(e.op for e in nodes if e.op in OPERATORS and e.args[0].op == "arg") - {"add"}


_OPERATORS = _operators()
