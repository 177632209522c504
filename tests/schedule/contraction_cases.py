"""Contractions as small frozen cases: each makes a graph, its arrays, and what NumPy gives in f64.

A case is plain numbers and words, so that it goes to another process as JSON and a failure prints
as what makes it again.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule import ops
from ferrule.base.dtype import DType, f32, from_name, from_storage, to_storage
from ferrule.ir.expr import dim
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor

Array = NDArray[Any]
Pair = tuple[Value, Array]

PROLOGUES = ("none", "relu", "scale", "cast", "add")
EPILOGUES = ("none", "bias", "gelu", "residual", "bias_relu", "softmax", "layer_norm")
POINTWISE = EPILOGUES[:5]
TOLERANCE = {"f64": 1e-11, "f32": 3e-5, "f16": 8e-3, "bf16": 6e-2}
"""The largest error over the largest value expected."""


@dataclass(frozen=True)
class Matmul:
    """A product [batch] m x k by [batch] k x n. `turned` says which operands lie transposed,
    `constant` which of them are parameters, `shared` that b has no batch.
    """

    m: int
    n: int
    k: int
    batch: int = 0
    shared: bool = False
    turned: str = ""
    constant: str = ""
    dtype: str = "f32"
    prologue: str = "none"
    epilogue: str = "none"
    symbolic: bool = False
    target: str = "host"
    blocking: int = 0

    def make(self, t: Maker) -> Pair:
        lead = (self.batch,) if self.batch else ()
        a = self._operand(t, "a", (*lead, self.m, self.k))
        b = self._operand(t, "b", (*(() if self.shared else lead), self.k, self.n))
        a = prologue(t, self.prologue, a, self.dtype)
        y = ops.matmul(t.b, a[0], b[0]), a[1] @ b[1]
        return epilogue(t, self.epilogue, y)

    def _operand(self, t: Maker, name: str, shape: tuple[int, ...]) -> Pair:
        constant = name in self.constant
        wanted = "f16" if self.prologue == "cast" and name == "a" else self.dtype
        if name not in self.turned:
            return t.tensor(shape, wanted, constant, self._symbols(name, shape))
        order = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
        lying = tuple(shape[i] for i in order)
        symbols = tuple(self._symbols(name, shape)[i] for i in order)
        value, array = t.tensor(lying, wanted, constant, symbols)
        return ops.transpose(t.b, value, order), array.swapaxes(-1, -2)

    def _symbols(self, name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
        if not self.symbolic or name in self.constant:
            return ("",) * len(shape)
        fixed = bool(self.constant) and not self.shared
        lead = ("" if fixed else "batch",) * (len(shape) - 2)
        return (*lead, "m", "") if name == "a" else (*lead, "", "n" if not self.constant else "")


@dataclass(frozen=True)
class Conv:
    """A convolution of a batch of images; sizes by spatial dim. `channels` are those of a group, in
    and out; `last` says that the image lies channels-last and so does the result.
    """

    batch: int
    channels: tuple[int, int]
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1
    transposed: bool = False
    last: bool = False
    dtype: str = "f32"
    prologue: str = "none"
    epilogue: str = "none"
    target: str = "host"
    blocking: int = 0

    def make(self, t: Maker) -> Pair:
        into, out = self.channels
        shape = (self.batch, into * self.groups, *self.size)
        first = (into * self.groups, out) if self.transposed else (out * self.groups, into)
        w = t.tensor((*first, *self.kernel), self.dtype, True)
        forward = (0, len(shape) - 1, *range(1, len(shape) - 1))
        back = (0, *range(2, len(shape)), 1)
        wanted = "f16" if self.prologue == "cast" else self.dtype
        if self.last:
            value, array = t.tensor(tuple(shape[i] for i in back), wanted, False)
            x = ops.transpose(t.b, value, forward), array.transpose(forward)
        else:
            x = t.tensor(shape, wanted, False)
        x = prologue(t, self.prologue, x, self.dtype)
        y = self._product(t, x, w)
        y = epilogue(t, self.epilogue, y, axis=1)
        return (ops.transpose(t.b, y[0], back), y[1].transpose(back)) if self.last else y

    def _product(self, t: Maker, x: Pair, w: Pair) -> Pair:
        value = ops.conv(
            t.b, x[0], w[0], stride=self.stride, padding=self.padding, dilation=self.dilation,
            groups=self.groups, transposed=self.transposed,
        )  # fmt: skip
        if not self.transposed:
            return value, correlate(x[1], w[1], self)
        spread = np.zeros(
            (*x[1].shape[:2], *((n - 1) * s + 1 for n, s in zip(self.size, self.stride)))
        )
        spread[(..., *(slice(None, None, s) for s in self.stride))] = x[1]
        parts = np.split(w[1], self.groups)  # [channels in, channels out, kernel..] a group
        flipped = np.flip(np.concatenate([p.swapaxes(0, 1) for p in parts]), self._axes)
        reach = [(k - 1) * d for k, d in zip(self.kernel, self.dilation)]
        padding = tuple((r - low, r - high) for r, (low, high) in zip(reach, self.padding))
        dense = Conv(
            self.batch, self.channels, spread.shape[2:], self.kernel, (1,) * len(self.size),
            padding, self.dilation, self.groups,
        )  # fmt: skip
        return value, correlate(spread, flipped, dense)

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(2, 2 + len(self.size)))


@dataclass(frozen=True)
class Attention:
    """Attention of `heads` heads that share `kv_heads` of keys; `mask` is none, causal or added."""

    batch: int
    heads: int
    kv_heads: int
    rows: int
    keys: int
    head: int
    mask: str = "none"
    dtype: str = "f32"
    symbolic: bool = False
    target: str = "host"
    blocking: int = 0

    def make(self, t: Maker) -> Pair:
        names = ("", "", "rows", "") if self.symbolic else ("",) * 4
        others = ("", "", "keys", "") if self.symbolic else ("",) * 4
        keys = (self.batch, self.kv_heads, self.keys, self.head)
        shape = (self.batch, self.heads, self.rows, self.head)
        q = t.tensor(shape, self.dtype, False, names)
        k, v = (t.tensor(keys, self.dtype, False, others) for _ in range(2))
        scale = 1 / math.sqrt(self.head)
        mask = self._mask(t, names, others)
        value = ops.attention(
            t.b, q[0], k[0], v[0], mask and mask[0], scale=scale, causal=self.mask == "causal",
            grouped=self.heads != self.kv_heads,
        )  # fmt: skip
        wide_k, wide_v = (np.repeat(x[1], self.heads // self.kv_heads, 1) for x in (k, v))
        scores = q[1] @ wide_k.swapaxes(-1, -2) * scale
        scores = scores if mask is None else scores + mask[1]
        if self.mask == "causal":
            scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
        return value, softmax(scores) @ wide_v

    def _mask(self, t: Maker, names: tuple[str, ...], others: tuple[str, ...]) -> Pair | None:
        if self.mask != "added":
            return None
        symbols = ("", "", names[2], others[2])
        return t.tensor((self.batch, 1, self.rows, self.keys), self.dtype, False, symbols)


Case = Matmul | Conv | Attention
KINDS: dict[str, type[Any]] = {"Matmul": Matmul, "Conv": Conv, "Attention": Attention}


@dataclass
class Maker:
    """Collects what a case is made of: the builder, and the arrays of inputs and params."""

    b: GraphBuilder = field(default_factory=lambda: GraphBuilder("case"))
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    inputs: list[Array] = field(default_factory=list)
    params: list[Array] = field(default_factory=list)

    def tensor(
        self, shape: tuple[int, ...], dtype: str, constant: bool, symbols: tuple[str, ...] = ()
    ) -> Pair:
        """A random tensor and its values in f64; `symbols` names the dims that are symbolic."""
        element = from_name(dtype)
        stored = to_storage(self.rng.standard_normal(shape), element)
        names = symbols or ("",) * len(shape)
        sizes = [dim(s) if s else n for n, s in zip(shape, names, strict=True)]
        given = self.b.param if constant else self.b.input
        (self.params if constant else self.inputs).append(stored)
        return given(tensor(sizes, element)), from_storage(stored, element).astype(np.float64)


@dataclass(frozen=True)
class Made:
    """A case as a graph with its arrays (in storage form) and the expected result."""

    graph: Graph
    inputs: list[Array]
    params: list[Array]
    expected: Array
    dtype: DType


def make(case: Case) -> Made:
    """The graph and the arrays of a case."""
    t = Maker()
    value, expected = case.make(t)
    return Made(t.b.build((value,)), t.inputs, t.params, expected, value.dtype)


def to_data(case: Case) -> dict[str, Any]:
    """A case as JSON data."""
    return {"kind": type(case).__name__, **asdict(case)}


def from_data(data: dict[str, Any]) -> Case:
    """The case that `to_data` has written."""
    kind = KINDS[data["kind"]]
    values = {name: _tuples(x) for name, x in data.items() if name != "kind"}
    case: Case = kind(**values)
    return case


def _tuples(x: Any) -> Any:
    return tuple(_tuples(v) for v in x) if isinstance(x, list) else x


def prologue(t: Maker, name: str, x: Pair, dtype: str) -> Pair:
    """What stands before a factor; `cast` widens an f16 operand to `dtype`."""
    value, array = x
    if name == "relu":
        return ops.relu(t.b, value), np.maximum(array, 0)
    if name == "scale":
        return ops.mul(t.b, value, ops.scalar(t.b, 0.5, value.dtype)), array * 0.5
    if name == "cast":
        return ops.cast(t.b, value, from_name(dtype)), array
    if name == "add":
        return ops.add(t.b, value, value), array + array
    return x


def epilogue(t: Maker, name: str, y: Pair, axis: int = -1) -> Pair:
    """What stands after a product, by rows of its `axis`, which are columns or channels."""
    value, array = y
    width, dtype = array.shape[axis], value.dtype.name
    if name.startswith("bias"):
        bias, numbers = t.tensor((width,), dtype, True)
        shape = tuple(width if d == axis % array.ndim else 1 for d in range(array.ndim))
        value = ops.add(t.b, value, ops.reshape(t.b, bias, shape))
        array = array + numbers.reshape(shape)
        return (value, array) if name == "bias" else prologue(t, "relu", (value, array), dtype)
    if name == "gelu":
        return ops.gelu(t.b, value), gelu(array)
    if name == "residual":
        return ops.add(t.b, ops.tanh(t.b, value), value), np.tanh(array) + array
    if name == "softmax":
        return ops.softmax(t.b, value, axis), softmax(array, axis)
    if name == "layer_norm":
        mean, var = array.mean(-1, keepdims=True), array.var(-1, keepdims=True)
        return ops.layer_norm(t.b, value), (array - mean) / np.sqrt(var + 1e-5)
    return y


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2)))


def softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def correlate(x: Array, w: Array, c: Conv) -> Array:
    """The convolution of `c`, not transposed, tap by tap. Negative padding cuts off."""
    for d, (low, high) in enumerate(c.padding, 2):
        x = np.take(x, range(max(0, -low), x.shape[d] - max(0, -high)), d)
    x = np.pad(x, [(0, 0), (0, 0), *((max(0, a), max(0, b)) for a, b in c.padding)])
    reach = [(k - 1) * d for k, d in zip(c.kernel, c.dilation)]
    sizes = [(n - r - 1) // s + 1 for n, r, s in zip(x.shape[2:], reach, c.stride)]
    y = np.zeros((x.shape[0], w.shape[0], *sizes))
    into, out = c.channels
    for tap in product(*map(range, c.kernel)):
        at = [
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, c.dilation, sizes, c.stride)
        ]
        for g in range(c.groups):
            own = slice(g * out, (g + 1) * out)
            part = x[(slice(None), slice(g * into, (g + 1) * into), *at)]
            y[:, own] += np.einsum("nc...,oc->no...", part, w[(own, slice(None), *tap)])
    return y


def difference(found: Array, case: Case, made: Made) -> str | None:
    """How `found` (in storage form) differs from what is expected, or None."""
    if found.shape != made.expected.shape:
        return f"the result has the shape {found.shape}, not {made.expected.shape}"
    got = from_storage(found, made.dtype).astype(np.float64)
    scale = max(1.0, float(np.abs(made.expected).max(initial=0.0)))
    wide = made.dtype is f32 and _low(case)
    slack = TOLERANCE["f16" if wide else made.dtype.name] * scale
    wrong = ~(np.abs(got - made.expected) <= slack)
    if not wrong.any():
        return None
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    return (
        f"element {list(at)} of {list(got.shape)} is {got[at]}, expected {made.expected[at]}; "
        f"{int(wrong.sum())} of {got.size} differ"
    )


def _low(case: Case) -> bool:
    """Whether a result in f32 went through numbers of less precision."""
    return case.dtype in ("f16", "bf16")
