"""Rules: operators of Graph that StableHLO has too, or nearly. All others are written by their
equations (`stages.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ferrule.base.dtype import DType, to_storage
from ferrule.codegen.stablehlo import scalars
from ferrule.codegen.stablehlo.stages import dot_general, sizes
from ferrule.codegen.stablehlo.writer import Shape, Tensor, Writer, array, ints
from ferrule.ir.expr import as_index
from ferrule.ir.graph import Node
from ferrule.ir.simplify import simplify

Rule = Callable[[Writer, Node, Sequence[Tensor]], "Tensor | None"]


def number(value: Any) -> int:
    """A size among the attributes."""
    return int(simplify(as_index(value)).attr)


def _shape(n: Node) -> Shape:
    return sizes(n.outputs[0].shape)


def _reshape(w: Writer, n: Node, xs: Sequence[Tensor]) -> Tensor:
    return w.reshape(xs[0], _shape(n))


def _concat(w: Writer, n: Node, xs: Sequence[Tensor]) -> Tensor:
    return w.concatenate(xs, n.attributes["axis"])


def _constant(w: Writer, n: Node, xs: Sequence[Tensor]) -> Tensor:
    attrs = n.attributes
    dtype = attrs["dtype"]
    values = np.array(attrs["values"], dtype.compute.numpy).reshape(_shape(n))
    return w.constant(to_storage(values, dtype), dtype)


def _iota(w: Writer, n: Node, xs: Sequence[Tensor]) -> Tensor | None:
    shape = _shape(n)
    return w.iota(n.attributes["axis"], n.outputs[0].dtype, shape) if shape else None


def _pad(w: Writer, n: Node, xs: Sequence[Tensor]) -> Tensor | None:
    attrs, x = n.attributes, xs[0]
    if attrs["mode"] != "constant":
        return None
    value = xs[1] if len(xs) > 1 else w.number(attrs["value"], x.dtype)
    low, high = ([number(v) for v in attrs[k]] for k in ("low", "high"))
    return w.pad(x, value, low, high, attrs.get("interior", ()))


def _dynamic_slice(w: Writer, n: Node, xs: Sequence[Tensor]) -> Tensor:
    return w.dynamic_slice(xs[0], xs[1:], _shape(n))


def _dynamic_update_slice(w: Writer, n: Node, xs: Sequence[Tensor]) -> Tensor:
    return xs[0] if 0 in xs[1].shape else w.dynamic_update_slice(xs[0], xs[1], xs[2:])


def _gather(w: Writer, n: Node, xs: Sequence[Tensor]) -> Tensor | None:
    attrs, x = n.attributes, xs[0]
    windows, dropped, batching, of_indices, starts, vector = attrs["slices"]
    cut = [number(s) for s in attrs["sizes"]]
    if any(s > m for s, m in zip(cut, x.shape, strict=True)):
        return None
    numbers = (
        f"offset_dims = {ints(windows)}, collapsed_slice_dims = {ints(dropped)}, "
        f"operand_batching_dims = {ints(batching)}, "
        f"start_indices_batching_dims = {ints(of_indices)}, start_index_map = {ints(starts)}, "
        f"index_vector_dim = {vector}"
    )
    return w.generic(
        "gather", xs,
        f"dimension_numbers = #stablehlo.gather<{numbers}>, indices_are_sorted = false, "
        f"slice_sizes = {array(cut)}",
        _shape(n), x.dtype,
    )  # fmt: skip


# ---- products ------------------------------------------------------------------------------------


def _wide(w: Writer, xs: Sequence[Tensor]) -> list[Tensor]:
    """Operands in the dtype that they are summed in."""
    return [w.convert(x, x.dtype.compute) for x in xs]


def _dot_general(w: Writer, n: Node, xs: Sequence[Tensor]) -> Tensor:
    attrs = n.attributes
    x, y = _wide(w, xs)
    out = dot_general(w, x, y, attrs["batch"], attrs["contract"], _shape(n))
    return w.convert(out, n.outputs[0].dtype)


def _conv(w: Writer, n: Node, xs: Sequence[Tensor]) -> Tensor | None:
    attrs, shape = n.attributes, _shape(n)
    x, k = _wide(w, xs)
    if 0 in (*x.shape, *k.shape, *shape):
        return None
    spatial = range(len(attrs["stride"]))
    strides, dilation, groups = attrs["stride"], attrs["dilation"], attrs["groups"]
    padding = [(number(lo), number(hi)) for lo, hi in attrs["padding"]]
    spread = [1] * len(strides)
    if attrs["transposed"]:
        k = _turned(w, k, groups)
        reach = [(k.shape[d + 2] - 1) * dilation[d] for d in spatial]
        ends = zip(reach, padding, attrs["output_padding"], strict=True)
        padding = [(r - lo, r - hi + more) for r, (lo, hi), more in ends]
        strides, spread = spread, list(strides)
    places = ", ".join(map(str, spatial))
    lead = ", " if places else ""
    numbers = (
        f"#stablehlo.conv<[b, f{lead}{places}]x[o, i{lead}{places}]->[b, f{lead}{places}]>"
    )
    pads = ", ".join(f"[{lo}, {hi}]" for lo, hi in padding)
    out = w.generic(
        "convolution", (x, k),
        f"batch_group_count = 1 : i64, dimension_numbers = {numbers}, "
        f"feature_group_count = {groups} : i64, lhs_dilation = {array(spread)}, "
        f"padding = dense<[{pads}]> : tensor<{len(padding)}x2xi64>, "
        f"rhs_dilation = {array(dilation)}, window_strides = {array(strides)}",
        shape, x.dtype,
    )  # fmt: skip
    return w.convert(out, n.outputs[0].dtype)


def _turned(w: Writer, k: Tensor, groups: int) -> Tensor:
    """The weights of a transposed convolution, [in, out of a group, ..], as those of the direct one
    of spread x: turned round, [out, in of a group, ..].
    """
    into, out, *window = k.shape
    k = w.reverse(k, list(range(2, k.rank)))
    k = w.reshape(k, (groups, into // groups, out, *window))
    k = w.transpose(k, [0, 2, 1, *range(3, k.rank)])
    return w.reshape(k, (groups * out, into // groups, *window))


# ---- windows -------------------------------------------------------------------------------------


def _max_pool(w: Writer, n: Node, xs: Sequence[Tensor]) -> Tensor | None:
    attrs = n.attributes
    if attrs["with_indices"]:
        return None
    x = xs[0]
    return _window(w, n, x, "maximum", x.dtype.min, x.dtype)


def _window(
    w: Writer, n: Node, x: Tensor, fold: str, start: Any, dtype: DType
) -> Tensor | None:
    """A fold over windows of the spatial dims; None where one would be outside of x."""
    attrs, shape = n.attributes, _shape(n)
    if 0 in (*x.shape, *shape):
        return None
    pads = [(0, 0), (0, 0)]
    for d, (lo, _) in enumerate(attrs["padding"]):
        reach = (attrs["kernel"][d] - 1) * attrs["dilation"][d] + 1
        stop = (shape[d + 2] - 1) * attrs["stride"][d] + reach
        pads.append((number(lo), stop - number(lo) - x.shape[d + 2]))
    shown = ", ".join(f"[{lo}, {hi}]" for lo, hi in pads)
    body = w.block([((), dtype)] * 2, lambda args: [w.binary(fold, *args)])
    (out,) = w.with_regions(
        "reduce_window", [x, w.number(start, dtype)],
        f"padding = dense<[{shown}]> : tensor<{x.rank}x2xi64>, "
        f"window_dilations = {array((1, 1, *attrs['dilation']))}, "
        f"window_dimensions = {array((1, 1, *attrs['kernel']))}, "
        f"window_strides = {array((1, 1, *attrs['stride']))}",
        [body], [(shape, dtype)],
    )  # fmt: skip
    return out


def _cbrt(w: Writer, n: Node, xs: Sequence[Tensor]) -> Tensor:
    (x,) = _wide(w, xs)
    return w.convert(w.unary("cbrt", x), n.outputs[0].dtype)


def _cast(w: Writer, n: Node, xs: Sequence[Tensor]) -> Tensor:
    return scalars.cast(w, xs[0], n.outputs[0].dtype)


RULES: dict[str, Rule] = {
    "reshape": _reshape, "concat": _concat, "constant": _constant, "iota": _iota, "pad": _pad,
    "dynamic_slice": _dynamic_slice, "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather, "dot_general": _dot_general, "conv": _conv, "max_pool": _max_pool,
    "cast": _cast, "cbrt": _cbrt,
}  # fmt: skip
"""Operators with a rule of their own, which may give None: then the equations are written."""
