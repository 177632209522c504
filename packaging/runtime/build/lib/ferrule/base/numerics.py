"""How far a result may be from its definition, by dtype: one table for every check.

    message = difference(found, expected, f32)      None where they agree

An element agrees where |found - expected| <= relative * |expected| + of_scale * scale, with `scale`
the largest finite |expected| of the array: reductions lose digits against their largest terms (how
many at most, whatever their length: `schedule/sums.py`, and for products
`schedule/contraction/microkernel.py`).
NaN agrees with NaN, an infinity with itself. Integers and booleans agree where they are equal.

Compiled programs round to f16 and bf16 where the definition does, of values that differ in the last
digits of f32. So the tolerances of these are some ulps of them, and not of f32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.dtype import DType, bf16, f16, f32, f64, from_storage

Array = NDArray[Any]


@dataclass(frozen=True)
class Tolerance:
    """What an element may be off: a part of itself, and a part of the array's largest element."""

    relative: float
    of_scale: float


TOLERANCES: dict[DType, Tolerance] = {
    f64: Tolerance(1e-8, 1e-10),
    f32: Tolerance(1e-3, 1e-4),
    f16: Tolerance(1e-2, 1e-2),
    bf16: Tolerance(5e-2, 5e-2),
}
_EXACT = Tolerance(0.0, 0.0)


def difference(found: Array, expected: Array, dtype: DType) -> str | None:
    """Where `found` differs most from `expected`, in words, or None where they agree.

    Both are in storage form (uint16 for bf16).
    """
    if found.shape != expected.shape:
        return f"it has the shape {found.shape}, and should have {expected.shape}"
    got, want = (from_storage(x, dtype) for x in (found, expected))
    wrong = ~_agree(got, want, TOLERANCES.get(dtype, _EXACT), dtype)
    count = int(np.count_nonzero(wrong))
    if not count:
        return None
    worst = int(_errors(got, want, wrong).argmax())
    where = tuple(int(i) for i in np.unravel_index(worst, got.shape))
    return (
        f"element {list(where)} is {got[where]} and should be {want[where]}; {count} of {got.size} "
        "elements differ"
    )


def _agree(got: Array, want: Array, tolerance: Tolerance, dtype: DType) -> Array:
    """Elementwise, whether `got` is near enough to `want`."""
    same: Array = got == want
    if not dtype.is_float:
        return same
    finite = np.abs(want[np.isfinite(want)].astype(np.float64))
    slack = tolerance.of_scale * float(finite.max(initial=0.0))
    with np.errstate(all="ignore"):
        error = np.abs(got.astype(np.float64) - want)
        near = error <= tolerance.relative * np.abs(want.astype(np.float64)) + slack
    near &= np.isfinite(want)
    return same | near | (np.isnan(got) & np.isnan(want))


def _errors(got: Array, want: Array, wrong: Array) -> Array:
    """How far off each wrong element is; infinite where one side is no number."""
    with np.errstate(all="ignore"):
        error = np.abs(got.astype(np.float64) - want.astype(np.float64))
    return np.where(wrong, np.nan_to_num(error, nan=np.inf), -1.0)
