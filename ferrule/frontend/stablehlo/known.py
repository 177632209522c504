"""Sizes that a program computes: small integer tensors whose numbers follow from constants and
from the sizes of inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ferrule.base.dtype import DType
from ferrule.frontend.stablehlo.module import Constant, Operation
from ferrule.frontend.stablehlo.table import Complex, Known, as_known
from ferrule.ir.expr import Expr, as_index, call
from ferrule.ir.graph import Value
from ferrule.ir.simplify import prove_nonneg, simplify


def _each(fn: Callable[..., Any]) -> Callable[..., Known]:
    """`fn` of the numbers, simplified."""

    def whole(*arrays: Known) -> Known:
        out = np.empty(arrays[0].shape, object)
        for at in np.ndindex(out.shape):
            out[at] = _plain(fn(*(as_index(a[at]) for a in arrays)))
        return out

    return whole


def _plain(e: Expr) -> int | Expr:
    e = simplify(e)
    return int(e.attr) if e.is_const else e


_ARITHMETIC: Mapping[str, Callable[..., Known]] = {
    "stablehlo.add": _each(lambda x, y: x + y),
    "stablehlo.subtract": _each(lambda x, y: x - y),
    "stablehlo.multiply": _each(lambda x, y: x * y),
    "stablehlo.maximum": _each(lambda x, y: call("max", x, y)),
    "stablehlo.minimum": _each(lambda x, y: call("min", x, y)),
    "stablehlo.negate": _each(lambda x: -x),
}
_DIVISION = {"stablehlo.divide": "floordiv", "stablehlo.remainder": "mod"}


def fold(
    op: Operation,
    known: Sequence[Known | None],
    operands: Sequence[Any],
    shape: tuple[int, ...],
    dtype: DType,
) -> Known | None:
    """The numbers of an operation's result of `shape`; None where they are not known here. Sizes
    are taken to fit their dtype.
    """
    if op.name == "stablehlo.constant":
        value = op.attributes["value"]
        assert isinstance(value, Constant)
        return as_known(np.asarray(value.values).astype(object))
    if op.name == "stablehlo.get_dimension_size":
        x = operands[0]
        if isinstance(x, Value | Complex):
            return as_known(_plain(x.shape[int(op.attributes["dimension"])])).reshape(())
    if not known or any(k is None for k in known) or dtype.is_bool:
        return None
    given = [k for k in known if k is not None]
    if op.name in _ARITHMETIC:
        return _ARITHMETIC[op.name](*given)
    if op.name in _DIVISION:
        return _divided(_DIVISION[op.name], *given)
    if op.name == "stablehlo.convert":
        return given[0]
    if op.name == "stablehlo.reshape":
        return given[0].reshape(shape)
    if op.name == "stablehlo.concatenate":
        return as_known(np.concatenate(given, axis=int(op.attributes["dimension"])))
    if op.name == "stablehlo.broadcast_in_dim":
        return _spread(given[0], op.attributes["broadcast_dimensions"], shape)
    if op.name == "stablehlo.slice":
        names = ("start_indices", "limit_indices", "strides")
        bounds = zip(*(op.attributes[n] for n in names), strict=True)
        return given[0][tuple(slice(*b) for b in bounds)]
    return None


def _divided(name: str, x: Known, y: Known) -> Known | None:
    """Division that truncates is one that floors where no number is negative."""
    positive = all(isinstance(n, int) and n > 0 for n in y.flat)
    if not positive or not all(prove_nonneg(as_index(n)) for n in x.flat):
        return None
    return _each(lambda a, b: call(name, a, b))(x, y)


def _spread(x: Known, dims: Sequence[int], shape: tuple[int, ...]) -> Known:
    own = [1] * len(shape)
    for d, n in zip(dims, x.shape):
        own[d] = n
    return np.broadcast_to(x.reshape(own), shape)
