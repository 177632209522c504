"""Which memory a tensor of an FX graph lies in, for the operators that address memory and not
elements.

    whole(node)      what the node is a view of that is all of its memory, and its order there
    beneath(node)    the views that its first operand is, where the node's operator addresses memory

Elsewhere a value is its elements, wherever they lie. `as_strided` reads what is in memory around
them, as eager lays it out; the fake tensors of tracing tell that.
"""

from __future__ import annotations

from typing import Any

_ADDRESS = frozenset(
    {
        "aten.as_strided.default",
        "aten.as_strided_copy.default",
        "aten.as_strided_scatter.default",
    }
)


def order_of(fake: Any) -> tuple[int, ...] | None:
    """The order of a tensor's dimensions in memory, outermost first; None for a row-major one, or
    one that is not dense.
    """
    shape, strides = [_likely(s) for s in fake.shape], [_likely(s) for s in fake.stride()]
    order = tuple(sorted(range(len(shape)), key=lambda d: (-strides[d], d)))
    if order == tuple(range(len(shape))) or 0 in shape:
        return None
    expected, kept = 1, [d for d in order if shape[d] != 1]
    for d in reversed(kept):
        if strides[d] != expected:
            return None
        expected *= shape[d]
    return None if kept == sorted(kept) else order


def whole(node: Any) -> tuple[Any, tuple[int, ...]] | None:
    """The first of a node and what it is a view of that is all of its memory, and the order of that
    one's dimensions there, outermost first; None where there is none.
    """
    for n in _views(node):
        order = _filling(n.meta["val"])
        if order is not None:
            return (n, order) if n.meta["val"].dtype == node.meta["val"].dtype else None
    return None


def beneath(node: Any) -> list[Any]:
    """The views between a node that addresses memory and the tensor whose memory it is: where
    PyTorch runs the node, it has to make these too. Nothing for other nodes.
    """
    return _views(node.args[0])[:-1] if str(node.target) in _ADDRESS else []


def _views(node: Any) -> list[Any]:
    """A node, what it is a view of, what that is a view of, and so on."""
    out = [node]
    while out[-1].op == "call_function" and getattr(out[-1].target, "is_view", False):
        out.append(out[-1].args[0])
    return out


def _filling(fake: Any) -> tuple[int, ...] | None:
    """The order of a tensor's dimensions in memory, None where it is not all of its memory."""
    size = fake.numel() * fake.element_size()
    if fake.storage_offset() != 0 or fake.untyped_storage().nbytes() != size:
        return None
    return tuple(range(fake.dim())) if fake.is_contiguous() else order_of(fake)


def _likely(size: Any) -> int:
    """A size as it was at the time of tracing."""
    return size if isinstance(size, int) else int(size.node.hint)
