"""Rows that a loop writes: what the converter makes of lists of tensors.

    concat(slice(x, 0, [i, -1..]), row, slice(x, [i + 1, 0..], -1))     x with row at i

The sizes of both slices depend on data, and that of the whole does not.
"""

from __future__ import annotations

import numpy as np

from ferrule.frontend.tflite.model import Operator, SubGraph


def written_row(g: SubGraph, op: Operator) -> tuple[int, int, int] | None:
    """The places of (x, i, row) where a concatenation is that; None for another."""
    if len(op.inputs) != 3 or int(op.options.get("axis", 0)) != 0:
        return None
    before, behind = (_made_by(g, op.inputs[k], "SLICE") for k in (0, 2))
    if before is None or behind is None or before.inputs[0] != behind.inputs[0]:
        return None
    row = g.tensors[op.inputs[1]]
    place, after = _first(g, before.inputs[2], -1), _first(g, behind.inputs[1], 0)
    whole = _is_all(g, before.inputs[1], 0) and _is_all(g, behind.inputs[2], -1)
    if not whole or place is None or after is None or not row.shape or row.shape[0] != 1:
        return None
    one = _made_by(g, after, "ADD")
    if one is None:
        return None
    others = [n for n in one.inputs if n != place]
    counts = len(others) == 1 and _is_all(g, others[0], 1)
    return (before.inputs[0], place, op.inputs[1]) if counts else None


def _made_by(g: SubGraph, place: int, name: str) -> Operator | None:
    """The operator of a name that makes a tensor."""
    found = (op for op in g.operators if place in op.outputs)
    op = next(found, None)
    return op if op is not None and op.name == name else None


def _is_all(g: SubGraph, place: int, number: int) -> bool:
    """Whether all elements of a tensor are known to be a number."""
    data = g.tensors[place].data
    return data is not None and bool((np.asarray(data) == number).all())


def _first(g: SubGraph, place: int, rest: int) -> int | None:
    """The tensor that a vector begins with whose other numbers are `rest`."""
    joined = _made_by(g, place, "CONCATENATION")
    if joined is None or len(joined.inputs) != 2:
        return None
    if not _is_all(g, joined.inputs[1], rest):
        return None
    view = _made_by(g, joined.inputs[0], "RESHAPE")
    return None if view is None else view.inputs[0]
