"""The meaning of an Order: which permutation puts tuples in it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.ir.interp.expr import Env, eval_expr
from ferrule.ir.system import Order

Array = NDArray[Any]


def comes_before(order: Order, one: tuple[Array, ...], other: tuple[Array, ...]) -> Array:
    """Where the tuple `one` comes before the tuple `other`; all are real values."""
    shape = np.broadcast_shapes(*(x.shape for x in (*one, *other)))
    with np.errstate(all="ignore"):
        found = eval_expr(order.before, Env(args=(*one, *other)))
    return np.broadcast_to(found, shape)


def permutation(order: Order, columns: tuple[Array, ...]) -> NDArray[np.int64]:
    """For each row of `columns`, arrays of one shape, the positions in its last dimension in the
    order of the tuples there. It is stable: a merge sort, all rows and all runs of a length at
    once.
    """
    shape = columns[0].shape
    n = shape[-1]
    rows = int(np.prod(shape[:-1]))
    flat = tuple(c.reshape(rows, n) for c in columns)
    place = np.broadcast_to(np.arange(n), (rows, n))
    width = 1
    while width < n:
        place = _merged(order, flat, place, width)
        width *= 2
    return place.reshape(shape)


def _merged(
    order: Order, columns: tuple[Array, ...], place: NDArray[np.int64], width: int
) -> NDArray[np.int64]:
    """Neighbouring runs of `width` places, each in order, as runs of twice that."""
    rows, n = place.shape
    row = np.arange(rows)[:, None]
    first = np.arange(0, n, 2 * width)
    middle, end = np.minimum(first + width, n), np.minimum(first + 2 * width, n)
    i, j = (np.broadcast_to(x, (rows, len(first))).copy() for x in (first, middle))
    out = np.empty_like(place)
    for step in range(2 * width):
        left, right = (place[row, np.minimum(x, n - 1)] for x in (i, j))
        mine, theirs = (tuple(c[row, x] for c in columns) for x in (left, right))
        from_left = (i < middle) & ((j >= end) | ~comes_before(order, theirs, mine))
        alive = first + step < end
        out[:, (first + step)[alive]] = np.where(from_left, left, right)[:, alive]
        i += from_left
        j += ~from_left
    return out
