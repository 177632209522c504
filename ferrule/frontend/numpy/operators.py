"""Python's operators on traced arrays and symbolic sizes, each by its ufunc.

Importing this module defines them. On a size, arithmetic with integers gives a size and a
comparison with one a bool, where it is known.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ferrule.base.errors import InputTypeError
from ferrule.frontend.numpy.array import (
    Operand,
    Size,
    Traced,
    call_ufunc,
    expr_of,
    kind_of,
    size_of,
)


def _operator(ufunc: np.ufunc, swap: bool = False) -> Callable[[Traced, Operand], Any]:
    """A Python operator: its ufunc, whose result is weak where both operands are."""

    def apply(self: Traced, other: Operand) -> Any:
        if isinstance(other, str | bytes | dict | None):
            return NotImplemented
        operands = (other, self) if swap else (self, other)
        out = call_ufunc(ufunc, operands)
        if all(isinstance(kind_of(x), type) for x in operands) and out.value.dtype.kind in "fi":
            out.weak = float if out.value.dtype.is_float else int
        return out

    return apply


def _power(self: Traced, other: Operand) -> Any:
    """x ** y; for the small numbers that NumPy's operator knows too, and for 3, without pow. In f16
    two products would round twice.
    """
    plain = _operator(np.power)
    if self.weak or type(other) not in (int, float):
        return plain(self, other)
    if other == 2 and (type(other) is int or self.dtype.kind == "f"):
        return call_ufunc(np.square, (self,))
    if self.dtype.kind != "f" or other not in (0.5, 1, 3, -1):
        return plain(self, other)
    if other == 3 and self.dtype == np.float16:
        return plain(self, other)
    if other == 3:
        return self * call_ufunc(np.square, (self,))
    rules = {0.5: np.sqrt, 1: np.positive, -1: np.reciprocal}
    return call_ufunc(rules[other], (self,))


def _in_place(ufunc: np.ufunc) -> Callable[[Traced, Operand], Any]:
    """`x += y`: writes into x, in its dtype; a 0-d array or number is replaced instead."""
    binary = _operator(ufunc)

    def apply(self: Traced, other: Operand) -> Any:
        out = binary(self, other)
        if self.ndim == 0 or out is NotImplemented:
            return out
        if not np.can_cast(out.dtype, self.dtype, "same_kind"):
            raise InputTypeError(
                f"{ufunc.__name__} in place gives {out.dtype}, which does not fit into "
                f"{self.dtype}: convert with astype first"
            )
        self[...] = out
        return self

    return apply


def _unary(ufunc: np.ufunc) -> Callable[[Traced], Any]:
    def apply(self: Traced) -> Any:
        out = call_ufunc(ufunc, (self,))
        out.weak = self.weak
        return out

    return apply


def _divmod(self: Traced, other: Operand) -> Any:
    return self // other, self % other


def _hash(self: Size) -> int:
    return hash(self.expr)


def _sized(name: str, plain: Callable[[Traced, Operand], Any]) -> Callable[[Size, Any], Any]:
    """Arithmetic or comparison of a size with a size or an integer; else as for any array."""

    def apply(self: Size, other: Any) -> Any:
        if not isinstance(other, Size) and type(other) is not int:
            return plain(self, other)
        if name in _RELATIONS:
            return self.decide(name, other)
        left, right = self.expr, expr_of(other)
        left, right = (right, left) if name.startswith("r") else (left, right)
        out = getattr(operator, name.removeprefix("r"))(left, right)
        return size_of(self.tape, out)

    return apply


_BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide,
    "floordiv": np.floor_divide, "mod": np.remainder, "pow": np.power, "matmul": np.matmul,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "lshift": np.left_shift,
    "rshift": np.right_shift,
}  # fmt: skip
_RELATIONS = {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "eq": np.equal, "ne": np.not_equal,
}  # fmt: skip
for _name, _ufunc in _BINARY.items():
    setattr(Traced, f"__{_name}__", _operator(_ufunc))
    setattr(Traced, f"__r{_name}__", _operator(_ufunc, swap=True))
    setattr(Traced, f"__i{_name}__", _in_place(_ufunc))
for _name, _ufunc in _RELATIONS.items():
    setattr(Traced, f"__{_name}__", _operator(_ufunc))
    setattr(Size, f"__{_name}__", _sized(_name, _operator(_ufunc)))
for _name in ("add", "sub", "mul", "floordiv", "mod"):
    setattr(Size, f"__{_name}__", _sized(_name, _operator(_BINARY[_name])))
    setattr(Size, f"__r{_name}__", _sized(f"r{_name}", _operator(_BINARY[_name], swap=True)))
for _name, _ufunc in {
    "neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert
}.items():  # fmt: skip
    setattr(Traced, f"__{_name}__", _unary(_ufunc))
for _class, _name, _rule in (
    (Traced, "__pow__", _power),
    (Traced, "__divmod__", _divmod),
    (Size, "__hash__", _hash),
):
    setattr(_class, _name, _rule)
