"""ATen rules: products, attention, normalisation, convolution, pooling, resizing."""

from __future__ import annotations

from typing import Any

from ferrule import ops
from ferrule.base.dtype import boolean, f64, i32, i64
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.torch.table import Context, aten, must_fit, pair, product
from ferrule.ir.graph import Value
from ferrule.ir.simplify import equal, simplify

# ---- products ------------------------------------------------------------------------------------


@aten("mm.default", "bmm.default", "matmul.default", "mv.default", "dot.default")
def _matmul(cx: Context, x: Value, y: Value) -> Value:
    return ops.matmul(cx.b, x, y)


@aten("_int_mm.default")
def _int_mm(cx: Context, x: Value, y: Value) -> Value:
    return ops.matmul(cx.b, ops.cast(cx.b, x, i32), ops.cast(cx.b, y, i32))


@aten("linear.default")
def _linear(cx: Context, x: Value, w: Value, bias: Value | None = None) -> Value:
    return ops.linear(cx.b, x, w, bias)


@aten("addbmm.default")
def _addbmm(
    cx: Context, bias: Value, x: Value, y: Value, beta: float = 1, alpha: float = 1
) -> Value:
    must_fit(alpha, x.dtype)
    must_fit(beta, x.dtype)
    total = ops.reduce_sum(cx.b, ops.matmul(cx.b, x, y, wide=True), (0,))
    scaled = ops.mul(cx.b, total, cx.value(alpha, total.dtype))
    if beta == 0:
        return scaled
    wide = cx.value(bias, total.dtype)
    return ops.add(cx.b, scaled, ops.mul(cx.b, wide, cx.value(beta, total.dtype)))


@aten("_trilinear.default")
def _trilinear(cx: Context, x: Value, y: Value, z: Value, *rest: Any) -> Value:
    """The product of three operands, each first expanded at some dims, summed over some."""
    at, summed = rest[:3], tuple(rest[3])
    out: Value | None = None
    for v, dims in zip((x, y, z), at, strict=True):
        for d in sorted(dims):
            v = ops.unsqueeze(cx.b, v, d)
        out = v if out is None else ops.mul(cx.b, out, v)
    assert out is not None
    return ops.reduce_sum(cx.b, out, summed)


@aten("addmm.default", "baddbmm.default", "addmv.default")
def _addmm(
    cx: Context, bias: Value, x: Value, y: Value, beta: float = 1, alpha: float = 1
) -> Value:
    return ops.addmm(cx.b, bias, x, y, alpha=alpha, beta=beta)


@aten("einsum.default")
def _einsum(cx: Context, spec: str, xs: list[Value], path: Any = None) -> Value:
    return ops.einsum(cx.b, spec, *xs)


@aten("scaled_dot_product_attention.default")
def _sdpa(
    cx: Context,
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None = None,
    dropout: float = 0.0,
    causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    if dropout:
        raise UnsupportedError("attention with dropout")
    if mask is not None and mask.dtype.is_float and mask.dtype != q.dtype:
        mask = ops.cast(cx.b, mask, q.dtype)
    grouped = enable_gqa and not equal(q.shape[-3], k.shape[-3])
    return ops.attention(cx.b, q, k, v, mask, scale=scale, causal=causal, grouped=grouped)


@aten("_scaled_dot_product_flash_attention_for_cpu.default")
def _flash(
    cx: Context,
    q: Value,
    k: Value,
    v: Value,
    dropout: float = 0.0,
    causal: bool = False,
    attn_mask: Value | None = None,
    scale: float | None = None,
) -> Any:
    out = _sdpa(cx, q, k, v, attn_mask, dropout, causal, scale)
    return out, ops.full(cx.b, cx.results[1].shape, 0, cx.results[1].dtype)


# ---- normalisation -------------------------------------------------------------------------------


@aten("layer_norm.default")
def _layer_norm(
    cx: Context,
    x: Value,
    shape: Any,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Value:
    return ops.layer_norm(cx.b, x, weight, bias, axes=len(shape), eps=eps)


@aten("native_layer_norm.default")
def _native_layer_norm(
    cx: Context, x: Value, shape: Any, weight: Value | None, bias: Value | None, eps: float
) -> Any:
    mean, rstd = ops.layer_norm_stats(cx.b, x, axes=len(shape), eps=eps)
    return ops.layer_norm(cx.b, x, weight, bias, axes=len(shape), eps=eps), mean, rstd


@aten("rms_norm.default")
def _rms_norm(
    cx: Context, x: Value, shape: Any, weight: Value | None = None, eps: float | None = None
) -> Value:
    if eps is None:  # the spacing of numbers at 1, in the type that it is computed in
        eps = 2.0**-52 if x.dtype == f64 else 2.0**-23
    return ops.rms_norm(cx.b, x, weight, axes=len(shape), eps=eps)


@aten("group_norm.default")
def _group_norm(
    cx: Context,
    x: Value,
    groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Value:
    return ops.group_norm(cx.b, x, weight, bias, groups, eps)


@aten("native_group_norm.default")
def _native_group_norm(
    cx: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    n: Any,
    channels: Any,
    size: Any,
    groups: int,
    eps: float,
) -> Any:
    stats = cx.results[1].shape
    rows = ops.reshape(cx.b, x, (*stats, simplify(product(x.shape[1:]) // groups)))
    mean, rstd = ops.layer_norm_stats(cx.b, rows, axes=1, eps=eps)
    y = ops.group_norm(cx.b, x, weight, bias, groups, eps)
    return y, ops.reshape(cx.b, mean, stats), ops.reshape(cx.b, rstd, stats)


@aten("_native_batch_norm_legit_no_training.default")
def _batch_norm(
    cx: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value,
    var: Value,
    momentum: float,
    eps: float,
) -> Any:
    y = ops.batch_norm(cx.b, x, mean, var, weight, bias, eps)
    rest = tuple(ops.full(cx.b, t.shape, 0, t.dtype) for t in cx.results[1:])
    return (y, *rest)


def _batch_statistics(
    cx: Context, x: Value, weight: Value | None, bias: Value | None, eps: float
) -> tuple[Value, Value, Value, Value]:
    """(normalised x, mean, 1/sqrt(variance + eps), variance) with the batch's own statistics."""
    var, mean = ops.batch_moments(cx.b, x)
    rstd = ops.rsqrt(cx.b, ops.add(cx.b, var, ops.full(cx.b, (), eps, var.dtype)))
    stats = [ops.cast(cx.b, v, x.dtype) for v in (mean, var)]
    y = ops.batch_norm(cx.b, x, stats[0], stats[1], weight, bias, eps)
    return y, mean, rstd, var


@aten("_native_batch_norm_legit.no_stats")
def _batch_norm_no_stats(
    cx: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:
    return _batch_statistics(cx, x, weight, bias, eps)[:3]


@aten("_native_batch_norm_legit_functional.default", "_batch_norm_with_update_functional.default")
def _batch_norm_training(
    cx: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value,
    var: Value,
    *rest: Any,
) -> Any:
    """With running statistics, which come back updated if training: the variance as a sample's."""
    momentum, eps = rest[-2:]
    if rest[:-2] == (False,):
        y = ops.batch_norm(cx.b, x, mean, var, weight, bias, eps)
        empty = [ops.full(cx.b, t.shape, 0, t.dtype) for t in cx.results[1:3]]
        return y, *empty, mean, var
    y, batch_mean, rstd, batch_var = _batch_statistics(cx, x, weight, bias, eps)
    count = simplify(product(x.shape) // x.shape[1])
    n = cx.value(count if not count.is_const else int(count.value), batch_var.dtype)
    sample = ops.div(cx.b, ops.mul(cx.b, batch_var, n), ops.sub(cx.b, n, cx.value(1, n.dtype)))
    updated = [
        ops.add(cx.b, ops.mul(cx.b, ops.cast(cx.b, old, n.dtype), cx.value(1 - momentum, n.dtype)),
                ops.mul(cx.b, new, cx.value(momentum, n.dtype)))
        for old, new in ((mean, batch_mean), (var, sample))
    ]  # fmt: skip
    reserve = [ops.full(cx.b, t.shape, 0, t.dtype) for t in cx.results[3:-2]]
    return y, batch_mean, rstd, *reserve, *updated


# ---- convolution ---------------------------------------------------------------------------------


def _conv(
    cx: Context,
    x: Value,
    w: Value,
    bias: Value | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    transposed: bool = False,
    output_padding: Any = 0,
) -> Value:
    n = w.rank - 2
    single = x.rank == n + 1
    if single:
        x = ops.unsqueeze(cx.b, x, 0)
    y = ops.conv(
        cx.b,
        x,
        w,
        bias,
        stride=pair(stride, n, 1),
        padding=_padding(padding, w, dilation, n),
        dilation=pair(dilation, n, 1),
        groups=groups,
        transposed=transposed,
        output_padding=pair(output_padding, n),
    )
    return ops.squeeze(cx.b, y, (0,)) if single else y


def _padding(padding: Any, w: Value, dilation: Any, n: int) -> tuple[Any, ...]:
    """Padding of each spatial dim; "same" may be uneven, the odd element at the end."""
    if padding == "valid":
        return (0,) * n
    if padding == "same":
        total = [
            simplify((k - 1) * d) for k, d in zip(w.shape[2:], pair(dilation, n, 1), strict=True)
        ]
        if not all(t.is_const for t in total):
            raise UnsupportedError("padding that keeps the size, with a kernel of symbolic size")
        return tuple((t.attr // 2, t.attr - t.attr // 2) for t in total)
    return pair(padding, n)


@aten("convolution.default")
def _convolution(
    cx: Context,
    x: Value,
    w: Value,
    bias: Value | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Value:
    return _conv(cx, x, w, bias, stride, padding, dilation, groups, transposed, output_padding)


@aten(
    "conv1d.default",
    "conv2d.default",
    "conv3d.default",
    "conv1d.padding",
    "conv2d.padding",
    "conv3d.padding",
)
def _conv_nd(
    cx: Context,
    x: Value,
    w: Value,
    bias: Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    return _conv(cx, x, w, bias, stride, padding, dilation, groups)


@aten("conv_transpose1d.default", "conv_transpose2d.input", "conv_transpose3d.input")
def _conv_transpose(
    cx: Context,
    x: Value,
    w: Value,
    bias: Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    return _conv(cx, x, w, bias, stride, padding, dilation, groups, True, output_padding)


# ---- pooling -------------------------------------------------------------------------------------


def _batched(cx: Context, x: Value, n: int) -> tuple[Value, bool]:
    return (ops.unsqueeze(cx.b, x, 0), True) if x.rank == n + 1 else (x, False)


def _unbatched(cx: Context, y: Any, single: bool) -> Any:
    if not single:
        return y
    return (
        tuple(ops.squeeze(cx.b, v, (0,)) for v in y)
        if isinstance(y, tuple)
        else ops.squeeze(cx.b, y, (0,))
    )


def _max_pool(n: int, indices: bool) -> Any:
    def rule(
        cx: Context,
        x: Value,
        kernel: Any,
        stride: Any = (),
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> Any:
        k = pair(kernel, n)
        x, single = _batched(cx, x, n)
        y = ops.max_pool(
            cx.b,
            x,
            k,
            pair(stride, n) if stride else k,
            pair(padding, n),
            pair(dilation, n, 1),
            ceil_mode,
            with_indices=indices,
        )
        return _unbatched(cx, y, single)

    return rule


for _n in (1, 2, 3):
    aten(f"max_pool{_n}d.default")(_max_pool(_n, False))
    aten(f"max_pool{_n}d_with_indices.default")(_max_pool(_n, True))


@aten("max_pool2d_with_indices_backward.default")
def _max_pool_backward(cx: Context, grad: Value, x: Value, *window: Any) -> Value:
    """Each window's gradient goes to the element that was its maximum."""
    lead, at = x.shape[:-2], window[-1]
    image = ops.full(cx.b, (*lead, product(x.shape[-2:])), 0, grad.dtype)
    grads, places = (
        ops.reshape(cx.b, v, (*lead, product(v.shape[-2:])))
        for v in (grad, ops.cast(cx.b, at, i64))
    )
    out = ops.scatter(cx.b, image, x.rank - 2, places, grads, reduce="sum")
    return ops.reshape(cx.b, out, x.shape)


def _avg_pool(n: int) -> Any:
    def rule(
        cx: Context,
        x: Value,
        kernel: Any,
        stride: Any = (),
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Any:
        k = pair(kernel, n)
        x, single = _batched(cx, x, n)
        y = ops.avg_pool(
            cx.b,
            x,
            k,
            pair(stride, n) if stride else k,
            pair(padding, n),
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
            divisor_override=divisor_override,
        )
        return _unbatched(cx, y, single)

    return rule


def _adaptive(n: int, name: str) -> Any:
    def rule(cx: Context, x: Value, size: Any) -> Any:
        x, single = _batched(cx, x, n)
        wanted = tuple(x.shape[2 + d] if s is None else s for d, s in enumerate(pair(size, n)))
        y = getattr(ops, name)(cx.b, x, wanted)
        return _unbatched(cx, y, single)

    return rule


for _n in (1, 2, 3):
    aten(f"avg_pool{_n}d.default")(_avg_pool(_n))
    aten(f"adaptive_avg_pool{_n}d.default", f"_adaptive_avg_pool{_n}d.default")(
        _adaptive(_n, "adaptive_avg_pool")
    )


def _adaptive_max(n: int) -> None:
    names = [f"adaptive_max_pool{n}d.default"]

    @aten(*names)
    def rule(cx: Context, x: Value, size: Any) -> Any:
        x, single = _batched(cx, x, n)
        return _unbatched(cx, ops.adaptive_max_pool(cx.b, x, pair(size, n)), single)


for _n in (1, 2, 3):
    _adaptive_max(_n)


@aten("upsample_nearest1d.default", "upsample_nearest2d.default", "upsample_nearest3d.default")
def _nearest(cx: Context, x: Value, size: Any, *scales: float | None) -> Value:
    return ops.resize_nearest(cx.b, x, cx.shape[2:], _scales(scales, x.rank - 2))


@aten(
    "_upsample_nearest_exact1d.default",
    "_upsample_nearest_exact2d.default",
    "_upsample_nearest_exact3d.default",
)
def _nearest_exact(cx: Context, x: Value, size: Any, *scales: float | None) -> Value:
    return ops.resize_nearest(cx.b, x, cx.shape[2:], _scales(scales, x.rank - 2), exact=True)


@aten("upsample_nearest1d.vec", "upsample_nearest2d.vec", "upsample_nearest3d.vec")
def _nearest_vec(cx: Context, x: Value, size: Any, factors: Any) -> Value:
    return ops.resize_nearest(cx.b, x, cx.shape[2:], _scales(tuple(factors or ()), x.rank - 2))


@aten("upsample_linear1d.default", "upsample_bilinear2d.default", "upsample_trilinear3d.default")
def _bilinear(cx: Context, x: Value, size: Any, align: bool, *scales: float | None) -> Value:
    return ops.resize_linear(
        cx.b, x, cx.shape[2:], _scales(scales, x.rank - 2), align_corners=align
    )


@aten("upsample_linear1d.vec", "upsample_bilinear2d.vec", "upsample_trilinear3d.vec")
def _bilinear_vec(cx: Context, x: Value, size: Any, align: bool, factors: Any) -> Value:
    return ops.resize_linear(
        cx.b, x, cx.shape[2:], _scales(tuple(factors or ()), x.rank - 2), align_corners=align
    )


def _scales(given: tuple[float | None, ...], n: int) -> tuple[float | None, ...]:
    return tuple(given) if len(given) == n else (None,) * n


# ---- embeddings ----------------------------------------------------------------------------------


@aten("embedding.default")
def _embedding(cx: Context, weight: Value, indices: Value, *_: Any, **__: Any) -> Value:
    return ops.take(cx.b, weight, ops.cast(cx.b, indices, i64), 0)


@aten("embedding_renorm.default")
def _embedding_renorm(
    cx: Context, weight: Value, indices: Value, max_norm: float, norm_type: float
) -> Value:
    """The table with those rows that are looked up scaled to a norm of at most `max_norm`."""
    at = ops.reshape(cx.b, ops.cast(cx.b, indices, i64), (product(indices.shape),))
    unused = ops.full(cx.b, weight.shape[:1], 0, i64)
    used = ops.index_put(cx.b, unused, (at,), ops.full(cx.b, at.shape, 1, i64))
    norm = ops.p_norm(cx.b, weight, float(norm_type), (-1,), keepdims=True)
    most = cx.value(max_norm, norm.dtype)
    factor = ops.div(cx.b, most, ops.add(cx.b, norm, cx.value(1e-7, norm.dtype)))
    seen = ops.cast(cx.b, ops.unsqueeze(cx.b, used, 1), boolean)
    long = ops.logical_and(cx.b, seen, ops.gt(cx.b, norm, most))
    return ops.select(cx.b, long, ops.mul(cx.b, weight, factor), weight)


# ---- losses --------------------------------------------------------------------------------------


@aten("binary_cross_entropy.default")
def _binary_cross_entropy(
    cx: Context, x: Value, target: Value, weight: Value | None = None, reduction: int = 1
) -> Value:
    """(t - 1) max(log(1 - x), -100) - t max(log(x), -100), of x and t within [0, 1]."""
    x, t = _within_unit(cx, x), _within_unit(cx, target)
    no = ops.maximum(cx.b, ops.log1p(cx.b, ops.neg(cx.b, x)), -100.0)
    yes = ops.maximum(cx.b, ops.log(cx.b, x), -100.0)
    negative = ops.mul(cx.b, ops.sub(cx.b, t, cx.value(1.0, t.dtype)), no)
    loss = ops.sub(cx.b, negative, ops.mul(cx.b, t, yes))
    if weight is not None:
        loss = ops.mul(cx.b, loss, ops.cast(cx.b, weight, loss.dtype))
    if reduction == 0:
        return loss
    return (ops.mean if reduction == 1 else ops.reduce_sum)(cx.b, loss)


def _within_unit(cx: Context, x: Value) -> Value:
    known = ops.logical_and(cx.b, ops.ge(cx.b, x, 0.0), ops.le(cx.b, x, 1.0))
    return ops.ensure(cx.b, x, known, "unit_interval")
