"""What every verifier is made of: a table of rules, and errors that show the equations around the
fault.

A rule is a sentence that must hold, and a function that yields each `Fault` against it. `check`
runs a table and raises VerifyError for the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.base.errors import VerifyError
from ferrule.ir.expr import Expr

_AROUND = 2  # equations shown before and behind the faulty one


@dataclass(frozen=True)
class Fault:
    """What is wrong, and at which equation (its place in the list that the level shows; None: in
    none).
    """

    what: str
    at: int | None = None


@dataclass(frozen=True)
class Rule:
    """`says` must hold; `faults(x)` yields where it doesn't."""

    says: str
    faults: Callable[[Any], Iterable[Fault]]


def check(
    kind: str, name: str, x: Any, rules: Iterable[Rule], shown: Callable[[], Sequence[str]]
) -> None:
    """Raises VerifyError for the first fault of `x`; `shown()` are its equations as text."""
    for rule in rules:
        for fault in rule.faults(x):
            lines = _excerpt(shown(), fault.at)
            raise VerifyError(
                "\n".join([f"{kind} {name}: {fault.what}", f"  rule: {rule.says}", *lines])
            )


def _excerpt(equations: Sequence[str], at: int | None) -> Iterator[str]:
    if at is None:
        return
    for k in range(max(0, at - _AROUND), min(len(equations), at + _AROUND + 1)):
        mark = "->" if k == at else "  "
        for line in equations[k].split("\n"):
            yield f"  {mark} {line}"
            mark = "  "


def names(axes: Iterable[Expr]) -> str:
    """Axes or dims, for messages."""
    return ", ".join(sorted(a.name for a in axes)) or "none"


def leaves(e: Expr) -> Iterator[Expr]:
    """The dims, axes, loads and operands in `e`, those in the extents of axes left out."""
    stack = [e]
    while stack:
        node = stack.pop()
        if node.op in ("dim", "axis", "load", "arg"):
            yield node
        if node.op != "axis":
            stack.extend(node.args)


def repeated(items: Iterable[Any]) -> list[Any]:
    """What comes more than once."""
    seen: set[Any] = set()
    twice = []
    for x in items:
        if x in seen:
            twice.append(x)
        seen.add(x)
    return twice
