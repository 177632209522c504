"""Sizes, and operators that make, move, join and cut tensors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ferrule.base.errors import UnsupportedError
from ferrule.frontend.tensorflow.model import Element
from ferrule.frontend.tflite.model import Operator
from ferrule.frontend.tflite.rows import written_row
from ferrule.frontend.tflite.writer import Writer, enum, operator

_SAME: Mapping[str, str] = {
    "BATCH_TO_SPACE_ND": "BatchToSpaceND", "BROADCAST_ARGS": "BroadcastArgs",
    "BROADCAST_TO": "BroadcastTo", "EXPAND_DIMS": "ExpandDims", "FILL": "Fill",
    "GATHER_ND": "GatherNd", "MATRIX_DIAG": "MatrixDiag", "MATRIX_SET_DIAG": "MatrixSetDiag",
    "RANGE": "Range", "RANK": "Rank", "REVERSE_V2": "ReverseV2", "SCATTER_ND": "ScatterNd",
    "SLICE": "Slice", "TILE": "Tile", "TRANSPOSE": "Transpose",
    "DYNAMIC_UPDATE_SLICE": "tfl.DYNAMIC_UPDATE_SLICE",
}  # fmt: skip


def _plain(lite: str, own: str) -> None:
    operator(lite, moves=True)(lambda w, op, *xs: w.add(own, *xs))


for _lite, _own in _SAME.items():
    _plain(_lite, _own)


@operator("SHAPE", moves=True)
def _shape(w: Writer, op: Operator, x: str) -> str:
    return w.add("Shape", x, out_type=Element(w.tensor(op.outputs[0]).code))


@operator("RESHAPE", moves=True)
def _reshape(w: Writer, op: Operator, x: str, *shape: str) -> str:
    given = shape[0] if shape else w.const(list(op.options.get("new_shape", ())))
    return w.add("Reshape", x, given)


@operator("SQUEEZE", moves=True)
def _squeeze(w: Writer, op: Operator, x: str) -> str:
    return w.add("Squeeze", x, squeeze_dims=tuple(map(int, op.options.get("squeeze_dims", ()))))


@operator("CONCATENATION", exact=True)
def _concat(w: Writer, op: Operator, *xs: str) -> str:
    row = written_row(w.graph, op)
    if row is not None:
        return w.add("tfl.SET_ROW", *map(w.ref, row))
    scales = [_scale(w, i) for i in (*op.inputs, *op.outputs)]
    alike = all(s == scales[-1] for s in scales)
    names = xs if alike else [w.float_of(x, i) for x, i in zip(xs, op.inputs)]
    y = w.add("ConcatV2", *names, w.const(int(op.options.get("axis", 0))))
    y = w.activated(y, op)
    return y if alike else w.bytes_of(y, op.outputs[0])


def _scale(w: Writer, place: int) -> tuple[float, int] | None:
    quant = w.tensor(place).quant
    return None if quant is None or not w.quantised(place) else (quant.factor, quant.number)


@operator("PACK", moves=True)
def _pack(w: Writer, op: Operator, *xs: str) -> str:
    return w.add("Pack", *xs, axis=int(op.options.get("axis", 0)))


@operator("UNPACK", moves=True)
def _unpack(w: Writer, op: Operator, x: str) -> list[str]:
    count = len(op.outputs)
    return w.several(count, "Unpack", x, axis=int(op.options.get("axis", 0)), num=count)


@operator("SPLIT", moves=True)
def _split(w: Writer, op: Operator, axis: str, x: str) -> list[str]:
    return w.several(len(op.outputs), "Split", axis, x, num_split=len(op.outputs))


@operator("SPLIT_V", moves=True)
def _split_v(w: Writer, op: Operator, x: str, sizes: str, axis: str) -> list[str]:
    return w.several(len(op.outputs), "SplitV", x, sizes, axis)


@operator("STRIDED_SLICE", moves=True)
def _strided(w: Writer, op: Operator, x: str, *bounds: str) -> str:
    if op.options.get("offset", False):
        raise UnsupportedError("a slice whose ends are offsets")
    names = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    masks = {n: int(op.options.get(n, 0)) for n in names}
    return w.add("StridedSlice", x, *bounds, **masks)


@operator("PAD", moves=True)
def _pad(w: Writer, op: Operator, x: str, pads: str) -> str:
    return _padded(w, op, x, pads)


def _padded(w: Writer, op: Operator, x: str, pads: str) -> str:
    """With what stands for 0 around."""
    t = w.tensor(op.outputs[0])
    if t.quant is None or not w.quantised(op.outputs[0]):
        return w.add("Pad", x, pads)
    zero = w.const(t.quant.number, {"INT8": np.int8, "UINT8": np.uint8}.get(t.type, np.int16))
    return w.add("PadV2", x, pads, zero)


@operator("PADV2", moves=True)
def _pad_v2(w: Writer, op: Operator, x: str, pads: str, value: str) -> str:
    return w.add("PadV2", x, pads, value)


@operator("MIRROR_PAD", moves=True)
def _mirror_pad(w: Writer, op: Operator, x: str, pads: str) -> str:
    return w.add("MirrorPad", x, pads, mode=enum(op, "mode", "MirrorPadMode"))


@operator("GATHER", moves=True)
def _gather(w: Writer, op: Operator, x: str, indices: str) -> str:
    axis = w.const(int(op.options.get("axis", 0)))
    return w.add("GatherV2", x, indices, axis, batch_dims=int(op.options.get("batch_dims", 0)))


@operator("EMBEDDING_LOOKUP")
def _embedding(w: Writer, op: Operator, indices: str, table: str) -> str:
    return w.add("GatherV2", table, indices, w.const(0))


@operator("ONE_HOT", moves=True)
def _one_hot(w: Writer, op: Operator, indices: str, depth: str, on: str, off: str) -> str:
    return w.add("OneHot", indices, depth, on, off, axis=int(op.options.get("axis", 0)))


@operator("REVERSE_SEQUENCE", moves=True)
def _reverse_sequence(w: Writer, op: Operator, x: str, lengths: str) -> str:
    own = {n: int(op.options.get(n, 0)) for n in ("seq_dim", "batch_dim")}
    return w.add("ReverseSequence", x, lengths, **own)


@operator("SPACE_TO_BATCH_ND", moves=True)
def _space_to_batch(w: Writer, op: Operator, x: str, block: str, pads: str) -> str:
    if w.quantised(op.inputs[0]):
        given = np.asarray(w.known(op.inputs[2]))
        rest = len(w.tensor(op.inputs[0]).shape) - len(given) - 1
        x = _padded(w, op, x, w.const([[0, 0], *given.tolist(), *[[0, 0]] * rest]))
        pads = w.const(np.zeros_like(given))
    return w.add("SpaceToBatchND", x, block, pads)


@operator("SPACE_TO_DEPTH", moves=True)
def _space_to_depth(w: Writer, op: Operator, x: str) -> str:
    return w.add("SpaceToDepth", x, block_size=int(op.options["block_size"]))


@operator("DEPTH_TO_SPACE", moves=True)
def _depth_to_space(w: Writer, op: Operator, x: str) -> str:
    return w.add("DepthToSpace", x, block_size=int(op.options["block_size"]))


def _resized(kind: str) -> None:
    def build(w: Writer, op: Operator, x: str, size: str) -> str:
        flags = {
            "align_corners": bool(op.options.get("align_corners", False)),
            "half_pixel_centers": bool(op.options.get("half_pixel_centers", False)),
        }
        return w.add(kind, x, size, **flags)

    nearest = kind == "ResizeNearestNeighbor"
    operator("RESIZE_NEAREST_NEIGHBOR" if nearest else "RESIZE_BILINEAR", moves=nearest)(build)


_resized("ResizeNearestNeighbor")
_resized("ResizeBilinear")
