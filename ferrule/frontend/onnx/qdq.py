"""Quantised models in the QDQ form, run in integers.

    Quantize(Conv(Dequantize(x), Dequantize(w), Dequantize(bias)))  ->  QLinearConv
    Quantize(MatMul(Dequantize(x), Dequantize(w)))                  ->  QLinearMatMul
    Quantize(Gemm(..))                                              ->  QGemm

and the same with a Relu before the Quantize, which is a maximum with the zero point after it. The
product must have no other reader. What does not fit stays as it is, and runs in floats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ferrule.frontend.onnx.model import Array, Body, Op
from ferrule.frontend.onnx.table import MICROSOFT

_PRODUCTS = ("Conv", "MatMul", "Gemm")


@dataclass(frozen=True)
class _Scope:
    """What a pattern looks at: who makes each value, how often it is read, what is constant."""

    made: Mapping[str, Op]
    readers: Mapping[str, int]
    constants: Mapping[str, Array]

    def source(self, name: str, kind: str) -> Op | None:
        """The node of a kind that makes a value, if one does."""
        op = self.made.get(name)
        return op if op is not None and op.type == kind and not op.domain else None

    def private(self, name: str) -> bool:
        """Whether a value has one reader."""
        return self.readers.get(name, 0) == 1

    def number(self, name: str) -> Array | None:
        """A value that is known."""
        return self.constants.get(name)


def fuse(body: Body) -> Body:
    """`body` with what fits the patterns replaced."""
    if not any(op.type == "QuantizeLinear" for op in body.ops):
        return body
    readers = Counter(n for op in body.ops for n in op.reads)
    readers.update(p.name for p in body.outputs)
    made = {o: op for op in body.ops for o in op.outputs if o}
    scope = _Scope(made, readers, body.constants)
    replaced: dict[int, list[Op]] = {}
    dropped: set[int] = set()
    for op in body.ops:
        found = _match(scope, op) if op.type == "QuantizeLinear" and not op.domain else None
        if found is not None:
            replaced[id(op)], gone = found
            dropped.update(map(id, gone))
    ops = [new for op in body.ops if id(op) not in dropped for new in replaced.get(id(op), [op])]
    return replace(body, ops=_used(ops, body))


def _used(ops: list[Op], body: Body) -> tuple[Op, ...]:
    """`ops` without Dequantize nodes that nobody reads any more."""
    wanted = {p.name for p in body.outputs} | {n for op in ops for n in op.reads}
    return tuple(
        op for op in ops if op.type != "DequantizeLinear" or any(o in wanted for o in op.outputs)
    )


def _match(s: _Scope, quantize: Op) -> tuple[list[Op], list[Op]] | None:
    """(the nodes in place of `quantize`, the nodes that go with it)."""
    if len(quantize.inputs) < 3 or not quantize.inputs[2] or not _single(s, quantize.inputs[1]):
        return None
    value = quantize.inputs[0]
    relu = s.source(value, "Relu")
    gone = [] if relu is None else [relu]
    inner = value if relu is None else relu.inputs[0]
    core = next((op for k in _PRODUCTS if (op := s.source(inner, k)) is not None), None)
    if core is None or not s.private(value) or not s.private(inner):
        return None
    result = quantize.outputs[0] if relu is None else f"{quantize.outputs[0]}/linear"
    fused = _fused(s, core, quantize, result)
    if fused is None:
        return None
    out = [fused]
    if relu is not None:
        names = (result, quantize.inputs[2])
        out.append(Op("Max", "", max(quantize.version, 13), names, quantize.outputs))
    return out, [core, *gone]


def _fused(s: _Scope, core: Op, quantize: Op, result: str) -> Op | None:
    operands = [s.source(n, "DequantizeLinear") for n in core.inputs]
    if any(d is None or len(d.inputs) < 3 or not d.inputs[2] for d in operands[:2]):
        return None
    x, w = operands[0], operands[1]
    assert x is not None
    assert w is not None
    if not _single(s, x.inputs[1]) or not _fits(s, core, w):
        return None
    bias = ""
    if len(core.inputs) > 2 and core.inputs[2]:
        found = _bias(s, operands[2], x, w)
        if found is None:
            return None
        bias = found
    scale, zero = quantize.inputs[1:3]
    given = (*x.inputs[:3], *w.inputs[:3])
    if core.type == "MatMul":
        return Op("QLinearMatMul", "", 21, (*given, scale, zero), (result,), {}, core.name)
    if core.type == "Conv":
        names = (*given, scale, zero, *((bias,) if bias else ()))
        return Op("QLinearConv", "", 10, names, (result,), core.attrs, core.name)
    if core.attrs.get("beta", 1.0) != 1.0 or core.attrs.get("alpha", 1.0) != 1.0:
        return None
    names = (*given, bias, scale, zero)
    return Op("QGemm", MICROSOFT, 1, names, (result,), core.attrs, core.name)


def _single(s: _Scope, scale: str) -> bool:
    """Whether a scale is known to be one for all."""
    known = s.number(scale)
    return known is not None and known.size == 1


def _fits(s: _Scope, core: Op, w: Op) -> bool:
    """Whether the weights have one scale, or one an output channel."""
    scale, weights = s.number(w.inputs[1]), s.number(w.inputs[0])
    if scale is None or w.attrs.get("block_size", 0):
        return False
    if scale.size == 1:
        return True
    if weights is None or scale.ndim != 1:
        return False
    axis = int(w.attrs.get("axis", 1)) % weights.ndim
    if core.type == "Conv":
        return axis == 0
    turned = core.type == "Gemm" and bool(core.attrs.get("transB", 0))
    return axis == (0 if turned else weights.ndim - 1)


def _bias(s: _Scope, d: Op | None, x: Op, w: Op) -> str | None:
    """The i32 bias, if its scale is the product of the others'."""
    if d is None:
        return None
    bias, own = s.number(d.inputs[0]), s.number(d.inputs[1])
    one, other = s.number(x.inputs[1]), s.number(w.inputs[1])
    if bias is None or own is None or one is None or other is None or bias.dtype != np.int32:
        return None
    zero = s.number(d.inputs[2]) if len(d.inputs) > 2 and d.inputs[2] else None
    if zero is not None and zero.any():
        return None
    wanted = one.reshape(()).astype(np.float64) * other.astype(np.float64).reshape(-1)
    close = np.allclose(own.astype(np.float64).reshape(-1), wanted, rtol=1e-4, atol=0)
    return d.inputs[0] if close else None
