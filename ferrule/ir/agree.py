"""Sizes that must be equal: a frontend builds a graph whose inputs have a dim each, finds that two
of them must be one, and begins anew with what it knows by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ferrule.ir.expr import Expr, const, dims, product, substitute
from ferrule.ir.simplify import equal, poly, simplify


class Equal(Exception):
    """Two sizes must be one: `size`, a dim that an input has, is `other`."""

    def __init__(self, size: Expr, other: Expr) -> None:
        super().__init__(f"{size} is {other}")
        self.size, self.other = size, other

    def added(self, same: Mapping[str, Expr]) -> dict[str, Expr]:
        """What dims are known to be, by name, with this one."""
        now = {self.size: self.other}
        return {**{k: substitute(e, now) for k, e in same.items()}, self.size.name: self.other}


def agree(one: Sequence[Expr], other: Sequence[Expr]) -> None:
    """Have sizes be equal that must be and are not known to be, where a dim of them follows from
    the others; the conversion then begins anew. What is left to disagree, the builders refuse.
    """
    for n, m in zip(one, other):
        if not equal(n, m) and (dims(n) or dims(m)):
            difference = poly(n - m)
            for monomial, c in difference.items():
                rest = {k: v for k, v in difference.items() if k != monomial}
                size = monomial[0] if len(monomial) == 1 else const(0)
                if size.op != "dim" or any(v % c for v in rest.values()):
                    continue
                if not any(size in dims(x) for k in rest for x in k):
                    terms = (product(k) * (-v // c) for k, v in rest.items())
                    raise Equal(size, simplify(sum(terms, const(0))))
