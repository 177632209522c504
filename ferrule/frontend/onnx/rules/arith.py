"""Host rules for small arithmetic: they fold what is computed from constants while building."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ferrule.frontend.onnx.model import Array
from ferrule.frontend.onnx.rules.cast import converted
from ferrule.frontend.onnx.table import Attributes, element_type, host


@host("Cast")
def _cast(a: Attributes, x: Array) -> Array:
    saturate, mode = bool(a.int("saturate", 1)), a.text("round_mode", "up")
    return converted(x, element_type(a.int("to")), saturate, mode)


@host("CastLike")
def _cast_like(a: Attributes, x: Array, y: Array) -> Array:
    return converted(x, y.dtype, bool(a.int("saturate", 1)), a.text("round_mode", "up"))


@host("BitCast")
def _bit_cast(a: Attributes, x: Array) -> Array:
    return x.view(element_type(a.int("to")))


def _binary(name: str, fn: Callable[[Array, Array], Any]) -> None:
    @host(name, since=7)
    def rule(a: Attributes, x: Array, y: Array) -> Array:
        return np.asarray(fn(x, y), x.dtype)


def _divided(x: Array, y: Array) -> Array:
    if x.dtype.kind in "iu":
        safe = np.where(y == 0, 1, y)
        return np.where(np.sign(x) * np.sign(y) < 0, -(abs(x) // abs(safe)), abs(x) // abs(safe))
    return np.asarray(x / y)


_binary("Add", np.add)
_binary("Sub", np.subtract)
_binary("Mul", np.multiply)
_binary("Div", _divided)


def _compare(name: str, fn: Callable[[Array, Array], Any], since: int) -> None:
    @host(name, since=since)
    def rule(a: Attributes, x: Array, y: Array) -> Array:
        return np.asarray(fn(x, y), bool)


_compare("Less", np.less, 7)
_compare("Greater", np.greater, 7)
_compare("LessOrEqual", np.less_equal, 12)
_compare("GreaterOrEqual", np.greater_equal, 12)
_compare("And", np.logical_and, 7)
_compare("Or", np.logical_or, 7)
_compare("Xor", np.logical_xor, 7)


@host("Not")
def _not(a: Attributes, x: Array) -> Array:
    return np.logical_not(x)


@host("Floor")
def _floor(a: Attributes, x: Array) -> Array:
    return np.floor(x)


@host("Ceil")
def _ceil(a: Attributes, x: Array) -> Array:
    return np.ceil(x)


@host("Neg")
def _neg(a: Attributes, x: Array) -> Array:
    return np.negative(x)


@host("Min", since=8)
def _min(a: Attributes, *xs: Array) -> Array:
    out = xs[0]
    for x in xs[1:]:
        out = np.minimum(out, x)
    return out


@host("Max", since=8)
def _max(a: Attributes, *xs: Array) -> Array:
    out = xs[0]
    for x in xs[1:]:
        out = np.maximum(out, x)
    return out
