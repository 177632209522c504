"""What the tracing frontend understands, as calls on NumPy arrays: by family, one call or more for
each entry of its tables.

A name is that of the NumPy function, and what tells this call from others after a space.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Call = Callable[..., Any]
RNG = np.random.default_rng(5)


def f(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


X, Y, V = f(3, 5), f(3, 5), f(5)
CUBE = f(2, 3, 4)
N = RNG.integers(-9, 9, (3, 5)).astype(np.int32)
M = RNG.integers(1, 5, (3, 5)).astype(np.int32)
B, C = RNG.random((3, 5)) < 0.5, RNG.random((3, 5)) < 0.5
SPECIAL = np.array([0.0, -0.0, 1.5, -2.5, np.inf, -np.inf, np.nan, 7.0], np.float32)
EDGES = np.array([-128, -127, -7, -1, 0, 1, 2, 5, 127], np.int8)

_UNARY = (
    "sqrt exp exp2 expm1 log log2 log10 log1p sin cos tan sinh cosh tanh arcsin arccos arctan "
    "arcsinh arccosh arctanh floor ceil trunc rint sign negative positive absolute fabs square "
    "reciprocal isnan isinf isfinite signbit logical_not cbrt deg2rad radians rad2deg degrees "
    "conjugate modf"
)
_BINARY = (
    "add subtract multiply divide true_divide power float_power minimum maximum fmin fmax hypot "
    "arctan2 copysign nextafter logaddexp logaddexp2 heaviside equal not_equal less less_equal "
    "greater greater_equal logical_and logical_or logical_xor"
)
UNARY, BINARY = _UNARY.split(), _BINARY.split()
DIVISION = ("floor_divide", "remainder", "mod", "fmod", "divmod")
BITS = ("bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift")


def _named(names: tuple[str, ...] | list[str]) -> dict[str, Call]:
    """Each function by its name, of all its arguments."""
    return {n: lambda *xs, n=n: getattr(np, n)(*xs) for n in names}


def _accumulated(x: Any) -> Any:
    out = np.zeros(4, x.dtype, like=x)
    np.add.at(out, np.array([0, 2, 2]), x[:3, 0])
    return out


def _put(x: Any) -> Any:
    out = x.copy()
    np.put_along_axis(out, np.array([[1], [0], [4]]), 9.0, 1)
    return out


FAMILIES: dict[str, tuple[dict[str, Call], tuple[Array, ...]]] = {
    "unary": (_named(UNARY), (np.abs(X) / 4,)),
    "special": (
        _named([n for n in UNARY if n not in ("arccosh", "arctanh", "sin", "cos", "tan")]),
        (SPECIAL,),
    ),
    "binary": (_named(BINARY), (np.abs(X), Y)),
    "binary_special": (
        _named([n for n in BINARY if n not in ("power", "float_power", "logaddexp2")]),
        (SPECIAL[:, None], SPECIAL[None, :]),
    ),
    "division": (_named(DIVISION), (X * 5, Y)),
    "division_integer_special": (_named(DIVISION), (EDGES[:, None], EDGES[None, :])),
    "integer": (
        {
            **_named(DIVISION),
            **_named(BITS),
            **_named(["add", "subtract", "multiply", "minimum", "maximum", "less", "divide"]),
            "invert": lambda x, y: np.invert(x),
            "absolute int": lambda x, y: abs(x),
            "sign int": lambda x, y: np.sign(x),
            "positive int": lambda x, y: +x,
        },
        (N, M),
    ),
    "boolean": (
        {
            **_named(BITS[:3]),
            **_named(["add", "multiply", "logical_xor", "maximum", "equal"]),
            "invert": lambda x, y: ~x,
            "matmul bool": lambda x, y: x @ y.T,
            "tensordot bool": lambda x, y: np.tensordot(x, y.T, 1),
            "sum bool": lambda x, y: x.sum(1),
            "max bool": lambda x, y: x.max(0),
            "argmax bool": lambda x, y: x.argmax(1),
        },
        (B, C),
    ),
    "elements": (
        {
            "clip": lambda x: np.clip(x, -0.5, 0.5),
            "clip max": lambda x: x.clip(max=0.25),
            "clip int": lambda x: np.clip(x, np.int64(0), None),
            "round": lambda x: np.round(x, 2),
            "around": lambda x: np.around(x * 300, -2),
            "fix": lambda x: np.fix(x * 3),
            "nan_to_num": lambda x: np.nan_to_num(np.sqrt(x), nan=3.0),
            "isposinf": lambda x: np.isposinf(1 / (x - x)),
            "isneginf": lambda x: np.isneginf(x),
            "sinc": lambda x: np.sinc(x),
            "power operator": lambda x: [x**2, x**3, x**0.5, x**1, x**-1, x**2.5, 2**x, x**0],
            "power integers": lambda x: [x.astype(np.int32) ** k for k in (2, 2.0, 3, 0)],
            "real": lambda x: np.real(x),
            "imag": lambda x: np.imag(x),
            "isreal": lambda x: np.isreal(x),
            "isclose": lambda x: np.isclose(x, x + 1e-9),
            "allclose": lambda x: np.allclose(x, x * 1.1),
            "array_equal": lambda x: np.array_equal(x, x + 0),
            "trapezoid": lambda x: np.trapezoid(x, dx=0.5),
            "trapezoid at": lambda x: np.trapezoid(x, np.array([0.0, 1, 3, 4, 7])),
            "polyval": lambda x: np.polyval(np.array([1.0, -2.0, 0.5]), x),
            "where": lambda x: np.where(x > 0, x, 0.0),
            "where numbers": lambda x: np.where(x > 0, 1, 0.5),
            "select": lambda x: np.select([x > 1, x > 0], [x * 2, x], -1.0),
            "astype": lambda x: np.astype(x * 9, np.int16),
            "copy": lambda x: np.copy(x),
            "view": lambda x: x.view(np.int32) >> 23,
        },
        (X,),
    ),
    "reductions": (
        {
            "sum": lambda x: np.sum(x),
            "sum axis": lambda x: x.sum((0, -1), keepdims=True),
            "sum dtype": lambda x: np.sum(x, 1, dtype=np.float64),
            "sum where": lambda x: np.sum(x, axis=0, where=x > 0, initial=2.0),
            "sum none": lambda x: np.sum(x, axis=()),
            "prod": lambda x: np.prod(x, 1),
            "max": lambda x: np.max(x, -1),
            "max where": lambda x: np.max(x, 1, where=x > 0, initial=-3.0),
            "amax": lambda x: np.amax(x),
            "min": lambda x: np.min(x, 2, initial=0.0),
            "amin": lambda x: np.amin(x, (0, 1)),
            "any": lambda x: np.any(x > 1, 1),
            "all": lambda x: np.all(x, keepdims=True),
            "ptp": lambda x: np.ptp(x, 1),
            "count_nonzero": lambda x: np.count_nonzero(x > 0, 1),
            "mean": lambda x: np.mean(x, (0, 2)),
            "mean where": lambda x: np.mean(x, 1, where=x > -0.5),
            "var": lambda x: np.var(x, 1, ddof=1),
            "var where": lambda x: np.var(x, 2, where=x > -1),
            "std": lambda x: np.std(x, keepdims=True),
            "average": lambda x: np.average(x, 1),
            "average weights": lambda x: np.average(x, 1, np.array([1.0, 2.0, 3.0], np.float32)),
            "argmax": lambda x: np.argmax(x),
            "argmax axis": lambda x: x.argmax(1, keepdims=True),
            "argmin": lambda x: np.argmin(x, -1),
            "cumsum": lambda x: np.cumsum(x, 1),
            "cumsum flat": lambda x: x.cumsum(),
            "cumprod": lambda x: np.cumprod(x, -1),
            "nancumsum": lambda x: np.nancumsum(np.sqrt(x), 1),
            "nancumsum bool": lambda x: np.nancumsum(np.sqrt(x), dtype=bool),
            "nancumprod": lambda x: np.nancumprod(np.sqrt(x), -1),
            "cumulative_sum": lambda x: np.cumulative_sum(x, axis=1, include_initial=True),
            "cumulative_prod": lambda x: np.cumulative_prod(x, axis=0),
            "cummax": lambda x: np.maximum.accumulate(x, 1),
            "cummin": lambda x: np.minimum.accumulate(x, axis=2),
            "diff": lambda x: np.diff(x, 2),
            "diff axis": lambda x: np.diff(x, axis=0),
            "reduce": lambda x: np.add.reduce(x, axis=1),
            "reduce first": lambda x: np.maximum.reduce(x),
        },
        (CUBE,),
    ),
    "sorts": (
        {
            "sort": lambda x: np.sort(x),
            "sort axis": lambda x: np.sort(x, 0, stable=True),
            "sort flat": lambda x: np.sort(x, None),
            "argsort": lambda x: np.argsort(x, 1),
            "argsort method": lambda x: x.argsort(axis=None, kind="stable"),
            "lexsort": lambda x: np.lexsort((x[0], np.floor(x[1]))),
            "lexsort rows": lambda x: np.lexsort(np.floor(x), axis=0),
            "median": lambda x: np.median(x),
            "median axis": lambda x: np.median(x, 1),
            "median even": lambda x: np.median(x, -1, keepdims=True),
            "median all": lambda x: np.median(x, keepdims=True),
        },
        (CUBE,),
    ),
    "sorts_of_special_values": (
        {
            "sort": lambda x: np.sort(x),
            "argsort": lambda x: np.argsort(x, kind="stable"),
            "lexsort": lambda x: np.lexsort((x[::-1], x)),
            "median": lambda x: np.median(x),
            "median of numbers": lambda x: np.median(x[:6]),
        },
        (SPECIAL,),
    ),
    "integer_sorts": (
        {
            "sort": lambda x: np.sort(x, 0),
            "argsort": lambda x: np.argsort(x, 0, stable=True),
            "lexsort": lambda x: np.lexsort((x[0], x[1] > 0)),
            "median": lambda x: np.median(x, 0),
        },
        (N,),
    ),
    "integer_reductions": (
        {
            "sum": lambda x: np.sum(x, 0),
            "prod": lambda x: x.prod(),
            "mean": lambda x: x.mean(1),
            "var": lambda x: x.var(),
            "max": lambda x: x.max(0),
            "cumsum": lambda x: np.cumsum(x, 0),
            "cumsum bool": lambda x: np.cumsum(x // 5, 1, dtype=bool),
            "cumprod bool": lambda x: np.cumprod(x, 0, dtype=bool),
            "sum bool": lambda x: np.sum(x // 5, 1, dtype=bool, initial=False),
            "prod bool": lambda x: np.prod(x, 0, dtype=bool, keepdims=True),
            "nancumsum integer": lambda x: np.nancumsum(x, 0, dtype=np.uint8),
            "average": lambda x: np.average(x, 0, weights=[1, 2, 3]),
            "linalg.norm": lambda x: np.linalg.norm(x, axis=1),
        },
        (N,),
    ),
    "without_nan": (
        {
            **{
                n: lambda x, n=n: getattr(np, n)(x, 1)
                for n in ("nansum", "nanprod", "nanmean", "nanvar", "nanstd", "nanmax", "nanmin")
            },
            "max": lambda x: x.max(1),
            "argmin": lambda x: x.argmin(1),
        },
        (np.where(X > 0.7, np.float32(np.nan), X),),
    ),
    "shape": (
        {
            "shape": lambda x: x + np.shape(x)[1],
            "ndim": lambda x: x + np.ndim(x),
            "size": lambda x: x + np.size(x),
            "reshape": lambda x: np.reshape(x, (4, -1)),
            "reshape order": lambda x: x.reshape(-1),
            "ravel": lambda x: np.ravel(x),
            "flatten": lambda x: x.flatten(),
            "transpose": lambda x: np.transpose(x, (2, 0, -2)),
            "permute_dims": lambda x: np.permute_dims(x, (1, 0, 2)),
            "matrix_transpose": lambda x: np.matrix_transpose(x),
            "linalg.matrix_transpose": lambda x: np.linalg.matrix_transpose(x),
            "swapaxes": lambda x: np.swapaxes(x, 0, -1),
            "moveaxis": lambda x: np.moveaxis(x, (0, 1), (-1, 0)),
            "rollaxis": lambda x: np.rollaxis(x, 2, 1),
            "expand_dims": lambda x: np.expand_dims(x, (0, -1)),
            "squeeze": lambda x: np.squeeze(x[:, :1], 1),
            "atleast_1d": lambda x: np.atleast_1d(x[0, 0, 0]),
            "atleast_2d": lambda x: np.atleast_2d(x[0, 0]),
            "atleast_3d": lambda x: np.atleast_3d(x[0]),
            "broadcast_to": lambda x: np.broadcast_to(x[:, :1], (5, 2, 3, 4)),
            "broadcast_arrays": lambda x: np.broadcast_arrays(x, x[0, 0]),
            "meshgrid": lambda x: np.meshgrid(x[0, 0], x[0, :, 0]),
            "meshgrid ij": lambda x: np.meshgrid(x[0, 0], x[:, 0, 0], indexing="ij", sparse=True),
            "concatenate": lambda x: np.concatenate([x, x[:1], np.ones((1, 3, 4))]),
            "concatenate flat": lambda x: np.concatenate([x, x], axis=None),
            "concat": lambda x: np.concat([x, x], axis=-1),
            "stack": lambda x: np.stack([x, x * 2], -1),
            "vstack": lambda x: np.vstack([x[0, 0], x[0, 1]]),
            "hstack": lambda x: np.hstack([x[0, 0], x[0, 1]]),
            "hstack 2d": lambda x: np.hstack([x[0], x[1]]),
            "dstack": lambda x: np.dstack([x[0], x[1]]),
            "column_stack": lambda x: np.column_stack([x[0, 0], x[0, :2].T]),
            "append": lambda x: np.append(x, 3.0),
            "unstack": lambda x: np.unstack(x, axis=1),
            "array_split": lambda x: np.array_split(x, 3, 2),
            "split": lambda x: np.split(x, [1, 3], axis=2),
            "vsplit": lambda x: np.vsplit(x, 2),
            "hsplit": lambda x: np.hsplit(x, 3),
            "dsplit": lambda x: np.dsplit(x, 2),
            "flip": lambda x: np.flip(x),
            "fliplr": lambda x: np.fliplr(x),
            "flipud": lambda x: np.flipud(x),
            "rot90": lambda x: np.rot90(x, 3),
            "rot90 once": lambda x: np.rot90(x, axes=(1, 2)),
            "roll": lambda x: np.roll(x, 2),
            "roll axes": lambda x: np.roll(x, (1, -1), (0, 2)),
            "tile": lambda x: np.tile(x, (2, 1, 1, 2)),
            "repeat": lambda x: np.repeat(x, 2, 1),
            "repeat each": lambda x: np.repeat(x, [1, 0, 2], axis=1),
            "pad": lambda x: np.pad(x, ((0, 1), (2, 0), (1, 1)), constant_values=4),
            "pad edge": lambda x: np.pad(x, 1, "edge"),
            "pad reflect": lambda x: np.pad(x, ((0, 0), (1, 2), (0, 0)), mode="reflect"),
            "tril": lambda x: np.tril(x, 1),
            "triu": lambda x: np.triu(x),
            "diagonal": lambda x: np.diagonal(x, 1, 0, 2),
            "linalg.diagonal": lambda x: np.linalg.diagonal(x, offset=1),
            "diag": lambda x: np.diag(x[0], 1),
            "diag of": lambda x: np.diag(x[0, 0], -1),
            "diagflat": lambda x: np.diagflat(x[0, :2]),
            "trace": lambda x: np.trace(x),
            "linalg.trace": lambda x: np.linalg.trace(x),
        },
        (CUBE,),
    ),
    "create": (
        {
            "zeros_like": lambda x: np.zeros_like(x),
            "empty_like": lambda x: np.empty_like(x).astype(bool) | True,
            "ones_like": lambda x: np.ones_like(x, dtype=np.int8),
            "full_like": lambda x: np.full_like(x, 2.5, shape=(2, 2)),
            "full": lambda x: np.full((2, 3), 7, like=x),
            "zeros": lambda x: np.zeros((2, 3), like=x),
            "empty": lambda x: np.empty(2, np.int8, like=x) * np.int8(0),
            "ones": lambda x: np.ones(4, np.float32, like=x),
            "arange": lambda x: np.arange(7, 1, -2, like=x),
            "arange float": lambda x: np.arange(0.0, 1.0, 0.25, like=x),
            "eye": lambda x: np.eye(3, 4, 1, like=x),
            "identity": lambda x: np.identity(3, like=x),
            "tri": lambda x: np.tri(3, like=x),
            "array": lambda x: np.array([x[0, 0], x[1, 1]], like=x),
            "asarray": lambda x: np.asarray(x, np.float64, like=x),
            "asanyarray": lambda x: np.asanyarray(x, like=x),
            "ascontiguousarray": lambda x: np.ascontiguousarray(x, like=x),
            "linspace": lambda x: np.linspace(x[0, 0], 2.0, 5),
            "linspace open": lambda x: np.linspace(x[0], x[1], 4, endpoint=False, axis=1),
        },
        (X,),
    ),
    "products": (
        {
            "matmul": lambda x, y: np.matmul(x, y.T),
            "linalg.matmul": lambda x, y: np.linalg.matmul(x, y.T),
            "dot": lambda x, y: np.dot(x, y.T),
            "dot cube": lambda x, y: np.dot(x, np.stack([y.T, y.T])),
            "vdot": lambda x, y: np.vdot(x, y),
            "inner": lambda x, y: np.inner(x, y),
            "outer": lambda x, y: np.outer(x, y[0]),
            "linalg.outer": lambda x, y: np.linalg.outer(x[0], y[1]),
            "tensordot": lambda x, y: np.tensordot(x, y, ((0, 1), (0, 1))),
            "linalg.tensordot": lambda x, y: np.linalg.tensordot(x, y.T, axes=1),
            "vecdot": lambda x, y: np.vecdot(x, y),
            "matvec": lambda x, y: np.matvec(x, y[0]),
            "vecmat": lambda x, y: np.vecmat(x[:, 0], y),
            "linalg.vecdot": lambda x, y: np.linalg.vecdot(x, y, axis=0),
            "linalg.matrix_power": lambda x, y: np.linalg.matrix_power(x @ y.T, 3),
            "linalg.multi_dot": lambda x, y: np.linalg.multi_dot([x, y.T, x]),
            "kron": lambda x, y: np.kron(x[:2, :2], y),
            "cross": lambda x, y: np.cross(x[:, :3], y[:, 2:]),
            "linalg.cross": lambda x, y: np.linalg.cross(x[:, :3], y[:, 2:]),
            "einsum": lambda x, y: np.einsum("ij,kj->ki", x, y),
            "einsum three": lambda x, y: np.einsum("ij,kj,k->i", x, y, x[:, 0]),
            "einsum dots": lambda x, y: np.einsum("...j,...j", x, y),
            "einsum trace": lambda x, y: np.einsum("ii->i", x @ y.T),
            "linalg.norm": lambda x, y: np.linalg.norm(x),
            "linalg.norm axis": lambda x, y: np.linalg.norm(x, 1, axis=1, keepdims=True),
            "linalg.vector_norm": lambda x, y: np.linalg.vector_norm(x, axis=1, ord=3),
            "linalg.matrix_norm": lambda x, y: np.linalg.matrix_norm(y),
            "convolve": lambda x, y: np.convolve(x[0], y[0, :3]),
            "convolve same": lambda x, y: np.convolve(x[0], y[0, :2], "same"),
            "correlate": lambda x, y: np.correlate(x[0], y[0, :3]),
            "correlate full": lambda x, y: np.correlate(x[0, :2], y[0], "full"),
            "correlate same": lambda x, y: np.correlate(x[0], y[0, :4], "same"),
            "outer of add": lambda x, y: np.add.outer(x[0], y),
        },
        (X, Y),
    ),
    "index": (
        {
            "item": lambda x: x[1, -2],
            "row": lambda x: x[-1],
            "slices": lambda x: x[1:, ::2],
            "backwards": lambda x: x[::-1, 4:0:-3],
            "empty": lambda x: x[2:1],
            "far": lambda x: x[:100, -100:3],
            "new": lambda x: x[None, ..., None, 0],
            "rows": lambda x: x[np.array([2, 0, -1])],
            "list": lambda x: x[[2, 0]],
            "pairs": lambda x: x[np.array([0, 1]), np.array([4, -5])],
            "columns": lambda x: x[:, np.array([[0, 1], [2, 2]])],
            "mixed": lambda x: x[1, np.array([1, 3])],
            "apart": lambda x: x[None][np.array([0, 0]), :, np.array([1, 2])],
            "traced": lambda x: x[np.argmax(x, 0), np.arange(5)],
            "numpy int": lambda x: x[np.int64(1)],
            "take": lambda x: np.take(x, [3, -1], axis=1),
            "take wrap": lambda x: np.take(x, [17, 4], mode="wrap"),
            "take clip": lambda x: x.take([17, -4], 1, mode="clip"),
            "take_along_axis": lambda x: np.take_along_axis(x, np.argmax(x, 1)[:, None], 1),
            "put_along_axis": _put,
            "choose": lambda x: np.choose(np.array([0, 1, 0, 1, 0]), [x, x * 2]),
            "add.at": _accumulated,
            "iteration": lambda x: [row * i for i, row in enumerate(x)],
        },
        (X,),
    ),
}  # fmt: skip
