"""Mathematics: functions of floats. f32 is computed in f64 and rounded once, but for `rsqrt`, which
is 1 / sqrt(x) to the last bit.

Costs are the sizes of the formulas of ferrule.lower.math, an operation of f64 counting twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.ir.operators import special
from ferrule.ir.operators.operator import Meaning, Operator

Array = NDArray[Any]


def _sigmoid(x: Array) -> Any:
    return 1 / (1 + np.exp(-x))


def _function(name: str, flops: int, meaning: Meaning, arity: int = 1) -> Operator:
    return Operator(name, arity, flops, floats=meaning, wide=True)


MATHEMATICS = (
    _function("sqrt", 4, np.sqrt),
    Operator("rsqrt", 1, 8, floats=lambda x: 1 / np.sqrt(x)),
    _function("hypot", 24, np.hypot, 2),
    _function("exp", 20, np.exp),
    _function("exp2", 20, np.exp2),
    _function("exp_nonpositive", 15, np.exp),  # of x <= 0; a subnormal value may be 0
    _function("expm1", 20, np.expm1),
    _function("log", 32, np.log),
    _function("log2", 32, np.log2),
    _function("log10", 32, np.log10),
    _function("log1p", 32, np.log1p),
    _function("sin", 104, np.sin),
    _function("cos", 104, np.cos),
    _function("tan", 104, np.tan),
    _function("asin", 24, np.arcsin),
    _function("acos", 24, np.arccos),
    _function("atan", 24, np.arctan),
    _function("atan2", 32, np.arctan2, 2),
    _function("sinh", 56, np.sinh),
    _function("cosh", 56, np.cosh),
    _function("tanh", 20, np.tanh),
    _function("asinh", 80, np.arcsinh),
    _function("acosh", 80, np.arccosh),
    _function("atanh", 80, np.arctanh),
    _function("sigmoid", 20, _sigmoid),
    _function("erf", 32, special.erf),
    _function("erfc", 80, special.erfc),
    _function("erfinv", 104, special.erfinv),
    _function("normal_cdf", 24, special.normal_cdf),
    _function("lgamma", 376, special.lgamma),
    _function("digamma", 300, special.digamma),
)
