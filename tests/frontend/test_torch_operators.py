"""Each ATen rule against eager, by the definitions of the operators it builds (nothing is
compiled).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.frontend.tools import graphs

x34, y34, x234 = torch.randn(3, 4), torch.randn(3, 4), torch.randn(2, 3, 4)
pos = torch.rand(3, 4) + 0.1
ints, more = torch.randint(-9, 9, (3, 4)), torch.randint(1, 9, (3, 4))
bools, halves = torch.rand(3, 4) > 0.5, torch.randn(3, 4).half()
brains, bytes_ = torch.randn(3, 4).bfloat16(), torch.randint(0, 255, (3, 4), dtype=torch.uint8)
image, frames = torch.randn(2, 4, 7, 6), torch.randn(2, 4, 9)
index = torch.tensor([[0, 2], [1, 1]])
nan = float("nan")

Case = tuple[str, Callable[..., Any], tuple[torch.Tensor, ...]]

ARITHMETIC: list[Case] = [
    ("add alpha", lambda x, y: torch.add(x, y, alpha=2), (x34, y34)),
    ("add mixed", lambda x, y: x + y, (x34, ints)),
    ("add int float", lambda x: x + 1.5, (ints,)),
    ("add half float", lambda x, y: x + y, (halves, x34)),
    ("add half scalar", lambda x: x * 2.5 + 1, (halves,)),
    ("bf16", lambda x: torch.tanh(x) * x, (brains,)),
    ("bool plus int", lambda x: x + 1, (bools,)),
    ("bytes wrap", lambda x: x * 3 + 7, (bytes_,)),
    ("rsub", lambda x: 2 - x, (x34,)),
    ("int division", lambda x, y: x / y, (ints, more)),
    ("floor division", lambda x, y: (x // y, torch.div(x, y, rounding_mode="trunc")), (ints, more)),
    (
        "float floor division",
        lambda x, y: (x // y, torch.div(x, y, rounding_mode="trunc")),
        (x34, pos),
    ),
    ("remainder", lambda x, y: (x % y, torch.fmod(x, y)), (ints, more)),
    ("powers", lambda x: (x**2, x**0.5, x**-1, x**3.7, 2.0**x), (pos,)),
    ("pow tensor", lambda x, y: x**y, (pos, y34)),
    ("integer power", lambda x: x**3, (ints,)),
    ("bitwise", lambda x, y: (x & y, x | y, x ^ y, ~x, x << 2, x >> 1), (ints, more)),
    ("logical", lambda x, y: (x & y, ~x, torch.logical_xor(x, y)), (bools, bools.flip(0))),
    ("logical of floats", lambda x: (torch.logical_not(x), torch.logical_and(x, x)), (x34,)),
    ("compare", lambda x, y: (x < y, x <= y, x > 0, x >= 1.5, x == y, x != 3), (x34, ints)),
    ("compare int with float", lambda x: (x > 1.5, x == 2.0), (ints,)),
    ("where", lambda c, x: (torch.where(c, x, 0.0), torch.where(c, x, x.double())), (bools, x34)),
    ("clamp", lambda x: (x.clamp(-1, 1), x.clamp(min=0), x.clamp_max(0.5)), (x34,)),
    ("clamp int", lambda x: (x.clamp(-1, 2), x.clamp(min=0.5)), (ints,)),
    ("lerp", lambda x, y: torch.lerp(x, y, 0.3), (x34, y34)),
    (
        "addcmul",
        lambda x, y, z: (torch.addcmul(x, y, z, value=2), torch.addcdiv(x, y, z)),
        (x34, y34, pos),
    ),
    ("maximum", lambda x, y: (torch.maximum(x, y), torch.minimum(x, y)), (x34, y34)),
    ("casts", lambda x: (x.int(), x.double(), x.half(), x.bool(), x.to(torch.uint8)), (pos * 9,)),
    ("masked fill", lambda x, m: x.masked_fill(m, -1.0), (x34, bools)),
    ("broadcast", lambda x, y: x + y[:, :1] + y[0], (x234, y34)),
]

UNARY = [
    "abs",
    "ceil",
    "floor",
    "round",
    "trunc",
    "sqrt",
    "rsqrt",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "atanh",
    "erf",
    "erfc",
    "erfinv",
    "sigmoid",
    "neg",
    "sign",
    "reciprocal",
    "square",
    "isnan",
    "isinf",
    "isfinite",
    "lgamma",
    "digamma",
    "logit",
]
SPECIAL = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1.0, -2.5, 1e-40])
TOTAL = ["sign", "abs", "relu", "signbit", "isnan", "sigmoid", "exp", "round", "sqrt", "digamma"]
ACTIVATIONS = [
    "relu",
    "gelu",
    "silu",
    "elu",
    "selu",
    "mish",
    "softplus",
    "hardtanh",
    "hardswish",
    "hardsigmoid",
    "relu6",
    "leaky_relu",
    "logsigmoid",
    "softsign",
    "tanhshrink",
    "softshrink",
    "hardshrink",
    "celu",
]

REDUCTIONS: list[Case] = [
    (
        "sum",
        lambda x: (x.sum(), x.sum(1), x.sum((0, 2), keepdim=True), x.sum(dtype=torch.float64)),
        (x234,),
    ),
    ("sum of bools", lambda x: (x.sum(), x.sum(0)), (bools,)),
    ("sum of ints", lambda x: (x.sum(1), x.int().sum(1), x.prod(1)), (ints,)),
    ("mean", lambda x: (x.mean(), x.mean(-1, keepdim=True)), (x234,)),
    ("extrema", lambda x: (x.amax(1), x.amin((0, 1)), x.max(), x.min()), (x234,)),
    ("max dim", lambda x: (*x.max(1), *x.min(-1, keepdim=True)), (x234,)),
    ("argmax", lambda x: (x.argmax(), x.argmax(1), x.argmin(-1, keepdim=True)), (x234,)),
    ("any all", lambda x: (x.any(), x.all(1), x.any(0, keepdim=True)), (bools,)),
    ("any of floats", lambda x: (x.any(), x.all(1)), (x34,)),
    (
        "var",
        lambda x: (x.var(), x.var(1), x.std(1, correction=0), *torch.var_mean(x, -1, keepdim=True)),
        (x234,),
    ),
    ("sort", lambda x: (*x.sort(1), *torch.sort(x, dim=0, descending=True, stable=True)), (x234,)),
    ("sort of turned", lambda x: (*x.mT.sort(1), x.argsort(0), x.msort()), (x234,)),
    ("sort of integers", lambda x: (x.sort(0)[0], x.sort(1, True)[0]), (ints,)),
    ("sort of halves", lambda x, y: (x.sort(0)[0], y.sort(1, True)[0]), (halves, brains)),
    ("topk", lambda x: (*x.topk(2), *x.topk(2, 0, False), *x.topk(0, 1), *x.topk(3, 1)), (x234,)),
    ("kthvalue", lambda x: (*x.kthvalue(2, 1), *x.kthvalue(1, 0, keepdim=True)), (x234,)),
    (
        "medians",
        lambda x: (*x.median(1), x.median(), *x.nanmedian(2, keepdim=True), x.nanmedian()),
        (x234,),
    ),
    (
        "medians beside NaN",
        lambda x: (*x.median(1), x.median(), x.nanmedian(1)[0], x.nanmedian(), *x.sort(0)),
        (torch.tensor([[3.0, nan, 1, nan], [nan] * 4, [4, 1, 2, 3]]),),
    ),
    ("quantile", lambda x: torch.quantile(x, 0.3, dim=1), (x234,)),
    ("scalars in order", lambda x: (*x.sum().sort(), *x.sum().topk(1), *x.sum().median(0)), (x34,)),
    ("scans", lambda x: (x.cumsum(1), x.cumprod(-1), x.logcumsumexp(0)), (x234,)),
    ("cummax", lambda x: (*x.cummax(1), *x.cummin(0)), (x234,)),
    ("logsumexp", lambda x: x.logsumexp((1, 2)), (x234,)),
    ("norms", lambda x: (torch.linalg.vector_norm(x, 2, -1), x.norm(p=1)), (x234,)),
    ("normalize", lambda x: F.normalize(x, dim=-1), (x234,)),
    ("prod", lambda x: (x.prod(), x.prod(1)), (x34,)),
    (
        "softmax",
        lambda x: (x.softmax(-1), x.log_softmax(0), x.softmax(1, dtype=torch.float64)),
        (x234,),
    ),
    ("half softmax", lambda x: (x.softmax(-1), x.sum(0), x.mean(1)), (halves,)),
    (
        "of 0-d",
        lambda x: (x.sum(), x.max(), x.argmax(), x.softmax(0), x.cumsum(0)),
        (torch.tensor(2.0),),
    ),
]

VIEWS: list[Case] = [
    (
        "reshape",
        lambda x: (x.reshape(4, 6), x.view(-1), x.flatten(1), x.unsqueeze(1).squeeze(1)),
        (x234,),
    ),
    (
        "permute",
        lambda x: (x.permute(2, 0, 1) + 0, x.transpose(0, 2) + 0, x[0].t() + 0, x.mT + 0),
        (x234,),
    ),
    ("expand", lambda x: x[:, :1].expand(-1, 5) * 1, (x34,)),
    (
        "slices",
        lambda x: (x[:, 1:3] + 0, x[..., ::2] + 0, x[:, -2:] + 0, x[0:0] + 0, x[:, 5:] + 0),
        (x234,),
    ),
    ("select", lambda x: (x[1] + 0, x[:, -1] + 0, x.select(2, 1) + 0), (x234,)),
    (
        "cat",
        lambda x, y: (
            torch.cat([x, y], 1),
            torch.cat([x, torch.empty(0)], 0),
            torch.cat([x, y.double()]),
        ),
        (x34, y34),
    ),
    (
        "stack",
        lambda x, y: (torch.stack([x, y], 1), torch.hstack([x, y]), torch.vstack([x, y])),
        (x34, y34),
    ),
    ("split", lambda x: (*x.split(3, 1), *x.chunk(2), *x.unbind(1), *x.split([1, 2])), (x34 + 0,)),
    ("flip roll", lambda x: (x.flip(0, 2), x.roll(1), x.roll((1, -2), (0, 2))), (x234,)),
    ("repeat", lambda x: (x.repeat(2, 1, 3), x.repeat_interleave(2, 1), x.tile(2)), (x34,)),
    ("pad", lambda x: (F.pad(x, (1, 2)), F.pad(x, (0, 1, -1, 2), value=3.0)), (x234,)),
    (
        "pad modes",
        lambda x: tuple(F.pad(x, (2, 1), mode=m) for m in ("reflect", "replicate", "circular")),
        (frames,),
    ),
    ("unfold", lambda x: x.unfold(2, 3, 2) + 0, (frames,)),
    ("triangles", lambda x: (x.tril(), x.triu(1), x.tril(-1)), (x34,)),
    ("diagonal", lambda x: (x.diagonal() + 0, x.diagonal(1) + 0, torch.diag(x[0])), (x34,)),
    (
        "creation",
        lambda x: (
            torch.arange(5),
            torch.arange(1, 9, 2.0),
            torch.full((2,), 7),
            torch.eye(3),
            torch.zeros_like(x),
            torch.ones(2, 2, dtype=torch.int32),
            torch.linspace(0, 1, 5),
            x.new_full((2,), 3),
        ),
        (x34,),
    ),
    ("movedim", lambda x: (x.movedim(0, 2) + 0, x.narrow(1, 1, 2) + 0), (x234,)),
    ("as bits", lambda x: x.view(torch.int32) + 0, (x34,)),
    (
        "pixel shuffle",
        lambda x: (F.pixel_shuffle(x, 2), F.pixel_unshuffle(x[..., :6, :], 2)),
        (image,),
    ),
    ("meshgrid", lambda x, y: torch.meshgrid(x[0], y[0], indexing="ij"), (x34, y34)),
]

INDEXING: list[Case] = [
    ("embedding", lambda w, i: F.embedding(i, w), (x34, index)),
    (
        "gather",
        lambda x, i: (x.gather(1, i), torch.take_along_dim(x, x.argmax(1, keepdim=True), 1)),
        (x34, index),
    ),
    (
        "index",
        lambda x, i: (x[i], x[:, i], x[i, i], x[i[0], :, i[1]], x[-i]),
        (x234.repeat(1, 1, 2), index % 2),
    ),
    ("index select", lambda x: x.index_select(1, torch.tensor([0, 2, 0])), (x34,)),
    (
        "scatter",
        lambda x, i: (x.scatter(1, i, 5.0), x.scatter(0, i, x), x.scatter_add(1, i, x)),
        (x34, index),
    ),
    (
        "scatter reduce",
        lambda x, i: tuple(
            x.scatter_reduce(1, i, x, r) for r in ("sum", "prod", "amax", "amin", "mean")
        ),
        (x34, index),
    ),
    (
        "index put",
        lambda x, i: (x.index_put((i,), x[0]), x.index_put((i,), x[0], accumulate=True)),
        (x34, index),
    ),
    (
        "index put by a mask of inner dims",
        lambda x, m: (
            torch.ops.aten.index_put(x, (None, m), torch.tensor(7.0)),
            torch.ops.aten.index_put(x, (None, m), torch.tensor([[1.0], [2.0]])),
            torch.ops.aten.index_put(x, (m[:2, :3],), torch.arange(4.0)),
            torch.ops.aten.index_put(x, (None, m[:, 0]), torch.arange(8.0).reshape(2, 1, 4)),
            torch.ops.aten.index_put(x, (None, m[:, 0]), torch.arange(4.0), True),
            torch.ops.aten.index_put(x, (None, None, m[0]), torch.arange(3.0)[:, None], True),
        ),
        (x234, bools),
    ),
    (
        "as strided",
        lambda x: (
            (x * 2).as_strided((2, 2), (3, 1), 4) + 0,
            (x * 2).permute(2, 0, 1).as_strided((3, 2, 5), (4, 2, 1), 1) + 0,
            (x.mT * 2).as_strided((5, 2), (2, 5)) + 0,
            (x * 2)[1:].as_strided((2, 2), (3, 1)) + 0,
            (x * 2)[1:, 1:].mT.as_strided((24,), (1,), 0) + 0,
            x.mT.as_strided_scatter(torch.ones(2, 3), (2, 3), (7, 1), 2),
        ),
        (x234,),
    ),
    (
        "histogram",
        lambda x: (
            torch.histc(x, 5, -1.0, 1.5),
            torch.histc(x * 0 + 2.0, 3, min=0, max=2),
            torch.histc(torch.where(x > 1, torch.nan, x), 7, -0.3, 0.4),
        ),
        (x234,),
    ),
    ("index add", lambda x: x.index_add(0, torch.tensor([0, 0, 2]), x, alpha=2), (x34,)),
    ("assignment", lambda x: _assigned(x), (x34,)),
    ("one hot", lambda i: F.one_hot(i, 4), (index,)),
    (
        "scatter slices",
        lambda x, y: (x.slice_scatter(y[:, :2], 1, 0, 2), x.select_scatter(y[0], 0, 1)),
        (x34, y34),
    ),
]


def _assigned(x: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[1, :2] = 7
    x[:, 3] += 1
    return x


w43, w45 = torch.randn(4, 3), torch.randn(5, 4)
q, k, v = (torch.randn(2, 4, 6, 8) for _ in range(3))
mask, scores = torch.rand(2, 1, 6, 6) > 0.3, torch.randn(6, 6)
mask[..., 0] = True

PRODUCTS: list[Case] = [
    ("matmul", lambda x, y: (x @ y, x[0] @ y, x[0, 0] @ y, x[0] @ y[:, 0]), (x234, w43)),
    ("batched", lambda x: (x @ x.mT, torch.bmm(x, x.mT)), (x234,)),
    ("linear", lambda x, w, b: (F.linear(x, w, b), F.linear(x, w)), (x234, w45, torch.randn(5))),
    ("addmm", lambda b, x, y: torch.addmm(b, x, y, alpha=0.5, beta=2), (torch.randn(3), x34, w43)),
    (
        "einsum",
        lambda x, y: (torch.einsum("bij,jk->bik", x, y), torch.einsum("bij->ji", x)),
        (x234, w43),
    ),
    (
        "outer dot",
        lambda x, y: (torch.outer(x[0], y[1]), torch.dot(x[0], y[0]), torch.mv(x, y[0])),
        (x34, y34),
    ),
    ("integer matmul", lambda x, y: x @ y.t(), (ints, more)),
    ("half matmul", lambda x: x @ x.t(), (halves,)),
    ("attention", lambda q, k, v: F.scaled_dot_product_attention(q, k, v), (q, k, v)),
    (
        "causal",
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.2),
        (q, k, v),
    ),
    ("masked", lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m), (q, k, v, mask)),
    ("biased", lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m), (q, k, v, scores)),
    (
        "grouped",
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        (q, k[:, :2], v[:, :2]),
    ),
]

NETWORKS: list[Case] = [
    (
        "layer norm",
        lambda x, w, b: (F.layer_norm(x, (4,), w, b), F.layer_norm(x, (3, 4))),
        (x234, torch.randn(4), torch.randn(4)),
    ),
    (
        "rms norm",
        lambda x, w: (F.rms_norm(x, (4,), w), F.rms_norm(x, (4,), eps=1e-3)),
        (x234, torch.randn(4)),
    ),
    ("group norm", lambda x, w: F.group_norm(x, 2, w, w), (image, torch.randn(4))),
    (
        "batch norm",
        lambda x, m, v: F.batch_norm(x, m, v, v, m),
        (image, torch.randn(4), torch.rand(4) + 0.5),
    ),
    ("instance norm", lambda x: F.instance_norm(x), (image,)),
    ("local response norm", lambda x: F.local_response_norm(x, 3), (image,)),
    (
        "conv1d",
        lambda x, w: (F.conv1d(x, w, padding=1), F.conv1d(x, w, padding="same")),
        (frames, torch.randn(5, 4, 3)),
    ),
    (
        "conv2d",
        lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 2), 2),
        (image, torch.randn(3, 4, 2, 3), torch.randn(3)),
    ),
    ("conv2d of one image", lambda x, w: F.conv2d(x, w), (image[0], torch.randn(3, 4, 2, 2))),
    ("grouped conv", lambda x, w: F.conv2d(x, w, groups=2), (image, torch.randn(6, 2, 3, 3))),
    (
        "conv3d",
        lambda x, w: F.conv3d(x, w, padding=1),
        (torch.randn(1, 2, 4, 5, 3), torch.randn(3, 2, 3, 3, 3)),
    ),
    (
        "transposed conv",
        lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1),
        (image, torch.randn(4, 3, 3, 3)),
    ),
    (
        "max pool",
        lambda x: (
            F.max_pool2d(x, 3, 2, 1),
            F.max_pool2d(x, 2, ceil_mode=True),
            F.max_pool1d(x[0], 2),
        ),
        (image,),
    ),
    ("max pool indices", lambda x: F.max_pool2d(x, 2, return_indices=True), (image,)),
    (
        "avg pool",
        lambda x: (F.avg_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
        (image,),
    ),
    (
        "adaptive pools",
        lambda x: (F.adaptive_avg_pool2d(x, 1), F.adaptive_avg_pool2d(x, (3, 4))),
        (image,),
    ),
    (
        "nearest",
        lambda x: (
            F.interpolate(x, scale_factor=2),
            F.interpolate(x, (5, 9), mode="nearest-exact"),
        ),
        (image,),
    ),
    (
        "bilinear",
        lambda x: (
            F.interpolate(x, scale_factor=2, mode="bilinear"),
            F.interpolate(x, (5, 9), mode="bilinear", align_corners=True),
        ),
        (image,),
    ),
    ("dropout in inference", lambda x: F.dropout(x, 0.5, training=False), (x34,)),
    (
        "losses",
        lambda x, y: (F.mse_loss(x, y), F.l1_loss(x, y), F.cross_entropy(x, y.argmax(1))),
        (x34, y34),
    ),
    ("glu", lambda x: F.glu(x), (x34,)),
    ("prelu", lambda x, w: F.prelu(x, w), (x34, torch.tensor([0.2]))),
]

NAN = float("nan")
HOLES = torch.arange(2 * 3 * 9 * 9).reshape(2, 3, 9, 9) * 37 % 5 < 2
HOLES = torch.where(HOLES, NAN, torch.arange(9.0))
CORNERS = [
    ("pools of several NaN", lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True), (HOLES,)),
    (
        "adaptive pools of several NaN",
        lambda x: F.adaptive_max_pool2d(x, (3, 4), return_indices=True),
        (HOLES,),
    ),
    (
        "grid of one column",
        lambda x: [F.affine_grid(x, (1, 1, 3, 1), align_corners=a) for a in (True, False)],
        (torch.arange(6.0).view(1, 2, 3),),
    ),
]

CASES: list[Case] = [
    *ARITHMETIC,
    *REDUCTIONS,
    *VIEWS,
    *INDEXING,
    *PRODUCTS,
    *NETWORKS,
    *CORNERS,
    *((name, getattr(torch, name), (torch.rand(3, 4) * 0.9 + 0.05,)) for name in UNARY),
    *((name, getattr(F, name), (x34 * 3,)) for name in ACTIVATIONS),
    *((f"{name} of special values", getattr(torch, name), (SPECIAL,)) for name in TOTAL),
]


@pytest.mark.parametrize(("fn", "inputs"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_rule_means_what_eager_does(fn: Any, inputs: tuple[torch.Tensor, ...]) -> None:
    expected = fn(*inputs)
    actual, _, left = graphs(fn, inputs)
    assert not left
    wanted = expected if isinstance(expected, tuple | list) else [expected]
    assert len(actual) == len(wanted)
    for a, e in zip(actual, wanted, strict=True):
        assert a.stride() == e.stride()
        loose = e.dtype in (torch.float16, torch.bfloat16)
        torch.testing.assert_close(
            a, e, rtol=1e-2 if loose else 2e-5, atol=1e-2 if loose else 2e-5, equal_nan=True
        )


def test_integers_of_every_width() -> None:
    for dtype in (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8):
        x = torch.tensor([100, 3, 7], dtype=dtype)
        (actual,), _, left = graphs(lambda x: x * x + 3 - (x >> 1), (x,))
        assert not left
        torch.testing.assert_close(actual, x * x + 3 - (x >> 1))
