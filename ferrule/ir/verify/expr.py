"""The rules of single expressions: what each operator takes."""

from __future__ import annotations

from collections.abc import Callable

from ferrule.base.dtype import i64
from ferrule.base.errors import FAULTS
from ferrule.ir.expr import Expr, walk
from ferrule.ir.interp.scalar import supports
from ferrule.ir.operators import OPERATORS, typed

NodeRule = Callable[[Expr], str | None]


def fault_of(e: Expr) -> str | None:
    """What is wrong with the dtypes and operands in `e`; None if nothing is."""
    if "fault" not in e.memo:
        found = (_node_fault(n) for n in walk(e))
        e.memo["fault"] = next((f for f in found if f is not None), None)
    found_fault: str | None = e.memo["fault"]
    return found_fault


def _node_fault(n: Expr) -> str | None:
    for rule in RULES.get(n.op, (_operator,)):
        fault = rule(n)
        if fault is not None:
            return f"{fault}, in {n}"
    return None


def _dtypes(args: tuple[Expr, ...]) -> str:
    return ", ".join(a.dtype.name for a in args)


def _operator(n: Expr) -> str | None:
    try:
        result = typed(n.op, tuple(a.dtype for a in n.args), n.dtype)
    except (TypeError, ValueError) as error:
        return str(error)
    if n.op in OPERATORS and not supports(n.op, n.args[0].dtype):
        return f"{n.op} has no meaning on {n.args[0].dtype.name}"
    return None if n.dtype == result else f"{n.op} gives {result.name}, not {n.dtype.name}"


def _axis(n: Expr) -> str | None:
    fine = len(n.args) == 1 and n.args[0].dtype == i64
    return None if fine else f"axis takes i64, not {_dtypes(n.args)}"


def _load(n: Expr) -> str | None:
    if len(n.args) != len(n.attr.shape):
        return f"{n.attr.name} takes {len(n.attr.shape)} indices, not {len(n.args)}"
    if any(a.dtype != i64 for a in n.args):
        return f"indices are i64, not {_dtypes(n.args)}"
    return None if n.dtype == n.attr.dtype else f"{n.attr.name} holds {n.attr.dtype.name}"


def _checked(n: Expr) -> str | None:
    return None if n.attr in FAULTS else f"{n.attr} is no fault; there are {', '.join(FAULTS)}"


def _fine(n: Expr) -> None:
    return None


RULES: dict[str, tuple[NodeRule, ...]] = {
    "const": (_fine,), "dim": (_fine,), "arg": (_fine,), "axis": (_axis,), "load": (_load,),
    "checked": (_operator, _checked),
}  # fmt: skip
