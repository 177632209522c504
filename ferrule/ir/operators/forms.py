"""Forms: operators whose operands differ in dtype, or which are more than a function of them.

`ferrule.ir.interp.expr` is their meaning, since it depends on where they stand: `select` is lazy,
`bounded` and `checked` fail a run. Each has a constructor of its own in `ferrule.ir.expr`.
"""

from __future__ import annotations

from ferrule.base.dtype import DType, boolean, i64
from ferrule.ir.operators.operator import Dtypes, Operator, shown


def _chosen(op: Operator, dtypes: Dtypes, to: DType | None) -> DType:
    """select(c, a, b): a bool and two of one dtype, which is the value's."""
    c, a, b = dtypes
    if c != boolean or a != b:
        raise TypeError(f"select of {shown(dtypes)}")
    return a


def _converted(op: Operator, dtypes: Dtypes, to: DType | None) -> DType:
    """cast(x): anything, to the dtype that is written."""
    if to is None:
        raise TypeError(f"{op.name} of {shown(dtypes)} to nothing")
    return to


def _reread(op: Operator, dtypes: Dtypes, to: DType | None) -> DType:
    """bitcast(x): the same, of one width."""
    (source,) = dtypes
    if to is None or source.bits != to.bits:
        raise TypeError(f"bitcast of {source.name} to {to}: widths differ")
    return to


def _index(op: Operator, dtypes: Dtypes, to: DType | None) -> DType:
    """bounded(i, n): an index."""
    if any(d != i64 for d in dtypes):
        raise TypeError(f"bounded takes i64, i64, not {shown(dtypes)}")
    return i64


def _promised(op: Operator, dtypes: Dtypes, to: DType | None) -> DType:
    """checked(x, c): a value and a bool."""
    if dtypes[1] != boolean:
        raise TypeError(f"checked takes a value and a bool, not {shown(dtypes)}")
    return dtypes[0]


FORMS = (
    Operator("select", 3, rule=_chosen, exact=lambda c, a, b: a if c else b),
    Operator("cast", 1, rule=_converted),
    Operator("bitcast", 1, rule=_reread),
    Operator("bounded", 2, rule=_index, fails=True, of_indices=True),
    Operator("checked", 2, rule=_promised, fails=True),
)
