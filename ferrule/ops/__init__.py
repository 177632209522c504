# ruff: noqa: I001
"""ops: the operator vocabulary.

Importing this package defines every operator of the Graph level. `ops.name(b, *values, **attrs)`
emits one with the GraphBuilder `b` and returns its value, or a tuple of values. Each module is a
family: what its operators mean, their types, and the Compute they lower to, stand together there.
"""

from __future__ import annotations

from ferrule.ops.attention import (
    attention,
)
from ferrule.ops.bessel import (
    i0, i0e, i1, i1e,
)
from ferrule.ops.bits import (
    bitcast, count_leading_zeros, mulhi, nextafter, popcount, quotient, reduce_precision, remainder,
    shift_right_logical, total_order,
)
from ferrule.ops.contract import (
    addmm, bmm, dot_general, einsum, linear, matmul, scaled,
)
from ferrule.ops.control import (
    case, cond, while_loop,
)
from ferrule.ops.conv import (
    conv, convolution,
)
from ferrule.ops.create import (
    arange, constant, full, iota, scalar,
)
from ferrule.ops.eig import (
    eig,
)
from ferrule.ops.elementary import (
    abs, acos, acosh, add, asin, asinh, atan, atan2, atanh, bitwise_and, bitwise_not,
    bitwise_or, bitwise_xor, cast, ceil, clamp, copysign, cos, cosh, digamma, div, ensure, eq, erf,
    erfc, erfinv, exp, exp2, expm1, floor, floordiv, ge, gt, hypot, isinf, isnan, le, lgamma, log,
    log10, log1p, log2, logical_and, logical_not, logical_or, logical_xor, lt, max, maximum, min,
    minimum, mod, mul, ne, neg, pow, rem, round, rsqrt, select, shl, shr, sigmoid,
    sign, sin, sinh, sqrt, sub, tan, tanh, trunc, truncdiv,
)
from ferrule.ops.fold import (
    map, reduce, reduce_window, select_and_scatter,
)
from ferrule.ops.gather import (
    dynamic_slice, dynamic_update_slice, gather, scatter_slices,
)
from ferrule.ops.index import (
    index, one_hot, take, take_along_axis,
)
from ferrule.ops.householder import (
    product_of_reflections, reflections,
)
from ferrule.ops.jacobi import (
    eigh, svd,
)
from ferrule.ops.join import (
    concat, pad, stack, tril, triu,
)
from ferrule.ops.loop import (
    loop,
)
from ferrule.ops.lu import (
    lu,
)
from ferrule.ops.norm import (
    batch_moments, batch_norm, group_norm, instance_norm, layer_norm, layer_norm_stats, log_softmax,
    rms_norm, softmax,
)
from ferrule.ops.pointwise import (
    addcdiv, addcmul, cbrt, elu, gelu, hardshrink, hardsigmoid, hardswish, hardtanh, isfinite,
    isneginf, isposinf, leaky_relu, lerp, logit, logsigmoid, masked_fill, mish, reciprocal, relu,
    relu6, round_away, selu, silu, softplus, softsign, square,
)
from ferrule.ops.pool import (
    adaptive_avg_pool, adaptive_max_pool, avg_pool, max_pool,
)
from ferrule.ops.random import (
    random_bits,
)
from ferrule.ops.reduce import (
    argmax, argmin, logsumexp, max_with_index, mean, min_with_index, p_norm, reduce_all,
    reduce_any, reduce_max, reduce_min, reduce_prod, reduce_sum, std, var, var_mean,
)
from ferrule.ops.resize import (
    resize_linear, resize_nearest,
)
from ferrule.ops.scan import (
    cummax, cummin, cumprod, cumsum, logcumsumexp, running_max, running_min,
)
from ferrule.ops.scatter import (
    diagonal_scatter, index_add, index_put, scatter, select_scatter, slice_scatter,
)
from ferrule.ops.schur import (
    hessenberg, schur,
)
from ferrule.ops.slices import (
    diagonal, select_index, slice, slice_axis, split, unfold,
)
from ferrule.ops.solve import (
    cholesky, triangular_solve,
)
from ferrule.ops.sort import (
    argsort, sort, sort_together, sort_values, top_k,
)
from ferrule.ops.tree import (
    descend,
)
from ferrule.ops.view import (
    broadcast_in_dim, expand, pixel_shuffle, pixel_unshuffle, reshape, reverse, roll, squeeze,
    tile, transpose, unsqueeze,
)
from ferrule.ops.zeta import (
    polygamma, zeta,
)

__all__ = [
    # create
    "full", "scalar", "iota", "arange", "constant",
    # elementary
    "neg", "abs", "sign", "floor", "ceil", "trunc", "round", "sqrt", "rsqrt", "exp", "exp2",
    "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh",
    "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "erfinv", "sigmoid", "lgamma",
    "digamma", "isnan", "isinf", "logical_not", "bitwise_not", "logical_and", "logical_or",
    "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor", "shl", "shr", "add", "sub", "mul",
    "truncdiv", "div", "rem", "mod", "minimum", "min", "maximum", "max", "pow", "atan2",
    "copysign", "hypot", "eq", "ne", "lt", "le", "gt", "ge", "floordiv", "cast",
    "select", "ensure", "clamp",
    # bits
    "popcount", "count_leading_zeros", "mulhi", "shift_right_logical", "quotient", "remainder",
    "bitcast", "total_order", "nextafter", "reduce_precision",
    # pointwise
    "gelu", "silu", "softplus", "mish", "logsigmoid", "logit", "relu", "relu6", "hardtanh",
    "leaky_relu", "elu", "selu", "hardshrink", "hardsigmoid",
    "hardswish", "softsign", "square", "reciprocal",
    "isfinite", "isposinf", "isneginf", "round_away", "cbrt", "masked_fill", "lerp", "addcmul",
    "addcdiv",
    # reduce
    "reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_any", "reduce_all", "mean",
    "var", "std", "var_mean", "max_with_index", "min_with_index", "argmax", "argmin", "logsumexp",
    "p_norm",
    # loop
    "loop",
    # control
    "while_loop", "case", "cond",
    # scan
    "cumsum", "cumprod", "logcumsumexp", "running_max", "running_min", "cummax", "cummin",
    # fold
    "map", "reduce", "reduce_window", "select_and_scatter",
    # norm
    "softmax", "log_softmax", "layer_norm", "layer_norm_stats", "rms_norm", "group_norm",
    "instance_norm", "batch_moments", "batch_norm",
    # view
    "reshape", "unsqueeze", "squeeze", "transpose", "expand", "broadcast_in_dim", "reverse", "roll",
    "tile", "pixel_shuffle", "pixel_unshuffle",
    # slices
    "slice", "slice_axis", "select_index", "split", "diagonal", "unfold",
    # join
    "concat", "stack", "pad", "tril", "triu",
    # index
    "take", "take_along_axis", "index", "one_hot",
    # scatter
    "scatter", "index_put", "index_add", "slice_scatter", "select_scatter", "diagonal_scatter",
    # gather
    "gather", "scatter_slices", "dynamic_slice", "dynamic_update_slice",
    # contract
    "dot_general", "matmul", "bmm", "linear", "addmm", "scaled", "einsum",
    # conv
    "conv", "convolution",
    # attention
    "attention",
    # pool
    "max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool",
    # resize
    "resize_nearest", "resize_linear",
    # sort
    "sort", "sort_values", "argsort", "top_k", "sort_together",
    # solve
    "triangular_solve", "cholesky",
    # householder
    "reflections", "product_of_reflections",
    # jacobi
    "eigh", "svd",
    # lu, schur, eig
    "lu", "hessenberg", "schur", "eig",
    # tree
    "descend",
    # bessel
    "i0", "i0e", "i1", "i1e",
    # random
    "random_bits",
    # zeta
    "zeta", "polygamma",
]  # fmt: skip
