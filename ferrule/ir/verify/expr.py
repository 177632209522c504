"""The rules of single expressions: what each operator takes."""

from __future__ import annotations

from collections.abc import Callable

from ferrule.base.dtype import DType, boolean, i64
from ferrule.base.errors import FAULTS
from ferrule.ir.expr import Expr, walk
from ferrule.ir.interp.scalar import supports
from ferrule.ir.operators import OPS, result_of

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
    if OPS.get(n.op) != len(n.args):
        return f"{n.op} is no operator of {len(n.args)} arguments"
    dtype = n.args[0].dtype
    if any(a.dtype != dtype for a in n.args):
        return f"{n.op} of {_dtypes(n.args)}: dtypes must agree"
    if not supports(n.op, dtype):
        return f"{n.op} has no meaning on {dtype.name}"
    result = result_of(n.op, dtype)
    return None if n.dtype == result else f"{n.op} gives {result.name}, not {n.dtype.name}"


def _takes(*dtypes: DType) -> NodeRule:
    def rule(n: Expr) -> str | None:
        if tuple(a.dtype for a in n.args) == dtypes:
            return None
        return f"{n.op} takes {', '.join(d.name for d in dtypes)}, not {_dtypes(n.args)}"

    return rule


def _load(n: Expr) -> str | None:
    if len(n.args) != len(n.attr.shape):
        return f"{n.attr.name} takes {len(n.attr.shape)} indices, not {len(n.args)}"
    if any(a.dtype != i64 for a in n.args):
        return f"indices are i64, not {_dtypes(n.args)}"
    return None if n.dtype == n.attr.dtype else f"{n.attr.name} holds {n.attr.dtype.name}"


def _select(n: Expr) -> str | None:
    c, a, b = n.args
    if c.dtype != boolean or not a.dtype == b.dtype == n.dtype:
        return f"select of {_dtypes(n.args)}"
    return None


def _bitcast(n: Expr) -> str | None:
    return None if n.args[0].dtype.bits == n.dtype.bits else "bitcast between different widths"


def _checked(n: Expr) -> str | None:
    if n.args[1].dtype != boolean or n.args[0].dtype != n.dtype:
        return f"checked of {_dtypes(n.args)} gives {n.dtype.name}"
    return None if n.attr in FAULTS else f"{n.attr} is no fault; there are {', '.join(FAULTS)}"


def _fine(n: Expr) -> None:
    return None


RULES: dict[str, tuple[NodeRule, ...]] = {
    "const": (_fine,), "dim": (_fine,), "arg": (_fine,), "cast": (_fine,),
    "axis": (_takes(i64),), "load": (_load,), "select": (_select,), "bitcast": (_bitcast,),
    "bounded": (_takes(i64, i64),), "checked": (_checked,),
}  # fmt: skip
