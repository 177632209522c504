"""Operator: all that is known of one operator of the scalar language, in one record.

    Operator("min", 2, floats=np.minimum, ints=np.minimum, bools=np.logical_and, exact=min, ..)

The meaning is NumPy's, on arrays of one dtype: `floats`, `ints` and `bools` are the functions for
the dtypes of that kind, and None where the operator has no meaning. f16 and bf16 are computed in
f32. `exact` is the same on Python's integers, bools being 0 and 1: it is for sizes and for folding
constants.

A type rule takes the operator, the dtypes of its operands and the dtype that is written with it
(of casts). It gives the dtype of the value, or raises a TypeError that says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

from ferrule.base.dtype import DType

Meaning = Callable[..., Any]
Dtypes = tuple[DType, ...]
TypeRule = Callable[["Operator", Dtypes, "DType | None"], DType]


def shown(dtypes: Dtypes, between: str = ", ") -> str:
    """Dtypes as text."""
    return between.join(d.name for d in dtypes)


def alike(op: Operator, dtypes: Dtypes, to: DType | None = None) -> DType:
    """Operands of one dtype; the value has it too, unless the operator has a `result`."""
    if any(d != dtypes[0] for d in dtypes):
        raise TypeError(f"{op.name} of {shown(dtypes, ' and ')}: dtypes must agree")
    return op.result or dtypes[0]


@dataclass(frozen=True, eq=False, slots=True)
class Operator:
    """One operator, known by its name. `flops` is what it costs beside an addition, on f32."""

    name: str
    arity: int
    flops: int = 1
    _: KW_ONLY

    # Types.
    rule: TypeRule = alike
    result: DType | None = None  # the dtype of the value; None: that of the operands
    bits: int | None = None  # the width that integers must have

    # Meaning.
    floats: Meaning | None = None
    ints: Meaning | None = None
    bools: Meaning | None = None
    exact: Callable[..., int] | None = None
    wide: bool = False  # on f32 it is computed in f64 and rounded once
    fails: bool = False  # evaluating it may fail the run

    # Text: how tightly it binds, and its symbol between two operands. Python has the same symbols.
    infix: tuple[int, str] | None = None

    # Algebra.
    folds: str = ""  # the kinds of dtype on which its constructor may use what follows
    commutative: bool = False
    unit: int | None = None  # of integers: x op unit is x; all bits are -1, on bool too
    float_unit: float | None = None  # of floats, with its sign
    collapse: tuple[int, int] | None = None  # (k, c): x op k is c, on integers
    idempotent: bool = False  # x op x is x
    cancels: bool = False  # x op x is 0, on integers
    involution: bool = False  # twice is nothing
    opposite: str | None = None  # the operator that holds where this one does not
    divides: bool = False  # its second operand is a divisor, which may be 0
    of_indices: bool = False  # of indices it is an index: it cannot overflow

    def meaning(self, dtype: DType) -> Meaning | None:
        """The NumPy function on operands of `dtype`; None where there is none."""
        if self.bits is not None and self.bits != dtype.bits:
            return None
        kind = dtype.kind
        return self.floats if kind == "f" else self.bools if kind == "b" else self.ints
