"""Operators: the table of what an Expr may compute, a record for each.

    OPERATORS     functions of operands of one dtype, by name: what `ferrule.ir.expr.call` takes
    FORMS         select, casts and promises, which have constructors of their own
    RECORDS       both
    typed         the dtype of a value, or what is wrong with the operands

The type rules, the NumPy meaning, costs, symbols and algebraic facts all stand in these records.
Who needs them elsewhere derives them from here.
"""

from __future__ import annotations

from ferrule.base.dtype import DType, boolean
from ferrule.ir.operators import arithmetic, forms, logic, mathematics, words
from ferrule.ir.operators.operator import Operator as Operator

OPERATORS: dict[str, Operator] = {
    op.name: op
    for op in (*arithmetic.ARITHMETIC, *logic.LOGIC, *mathematics.MATHEMATICS, *words.WORDS)
}
FORMS: dict[str, Operator] = {op.name: op for op in forms.FORMS}
RECORDS: dict[str, Operator] = {**OPERATORS, **FORMS}

_BOOLS = [op for op in OPERATORS.values() if op.result == boolean]
COMPARISONS = frozenset(op.name for op in _BOOLS if op.arity == 2)
PREDICATES = frozenset(op.name for op in _BOOLS if op.arity == 1)
LOGIC = frozenset(n for n, op in OPERATORS.items() if op.bools is not None and op.floats is None)
PROMISES = frozenset(n for n, op in RECORDS.items() if op.fails)


def typed(name: str, dtypes: tuple[DType, ...], to: DType | None = None) -> DType:
    """The dtype of the value of `name` on operands of `dtypes`; `to` is the one written with a
    cast. Raises ValueError for no operator of so many operands, TypeError for wrong dtypes.
    """
    op = RECORDS.get(name)
    if op is None or op.arity != len(dtypes):
        raise ValueError(f"{name} is no operator of {len(dtypes)} arguments")
    return op.rule(op, dtypes, to)
