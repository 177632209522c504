"""Memory: named arrays in storage form, with every access checked.

An index outside its dimension, at a point where the access is performed, is a defect of the
program and a VerifyError. With `owners`, a write by one grid point to an element that another one
wrote, or a read of it, is one too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.dtype import DType, from_storage, to_storage
from ferrule.base.errors import VerifyError
from ferrule.ir.expr import Buf
from ferrule.ir.interp.scalar import held

Array = NDArray[Any]
Index = tuple[Any, ...]  # integers or arrays of them


def poison(shape: tuple[int, ...], dtype: DType) -> Array:
    """An array of what nobody should read: NaN, or an integer far from any other."""
    if dtype.is_float:
        return to_storage(np.full(shape, np.nan, np.float32), dtype)
    return np.full(shape, True if dtype.is_bool else dtype.max - 0x25, dtype.numpy)


@dataclass
class Memory:
    """Arrays by buffer name. `point` numbers the grid point that runs; `owners` holds, for each
    shared buffer, the point that wrote each element (-1: none); None switches that check off.
    """

    arrays: dict[str, Array]
    owners: dict[str, Array] | None = None
    point: int = 0
    private: set[str] = field(default_factory=set)

    def allocate(self, buf: Buf, shape: tuple[int, ...]) -> None:
        """A poisoned buffer that only this grid point sees."""
        self.arrays[buf.name] = poison(shape, buf.dtype)
        self.private.add(buf.name)

    def release(self, buf: Buf) -> None:
        """Ends the life of an allocated buffer."""
        del self.arrays[buf.name]
        self.private.discard(buf.name)

    def array(self, buf: Buf) -> Array:
        """The storage of `buf`; VerifyError where nobody defined it."""
        found = self.arrays.get(buf.name)
        if found is None:
            raise VerifyError(f"buffer {buf.name} is used and nothing defines it")
        return found

    def read(self, buf: Buf, idx: Index, mask: Array | None) -> Array:
        """Real values of `buf[idx]`; unspecified where `mask` is false."""
        array = self.array(buf)
        if array.size == 0 or (mask is not None and not mask.any()):
            _within(buf, idx, array.shape, mask, "read")
            shape = np.broadcast_shapes(*(np.shape(i) for i in idx))
            return np.zeros(shape, held(buf.dtype))
        at = _within(buf, idx, array.shape, mask, "read")
        self._foreign(buf, at, mask, "reads")
        return from_storage(np.asarray(array[at]), buf.dtype)

    def write(self, buf: Buf, idx: Index, values: Array) -> None:
        """Stores real values, flat arrays of one length; of equal indices the last wins."""
        array = self.array(buf)
        if np.size(values) == 0:
            return
        if not idx:
            values = np.asarray(values).reshape(-1)[-1]
        at = _within(buf, idx, array.shape, None, "write")
        self._foreign(buf, at, None, "writes")
        if self.owners is not None and buf.name not in self.private:
            self.owners.setdefault(buf.name, np.full(array.shape, -1, np.int64))[at] = self.point
        array[at] = to_storage(values, buf.dtype)

    def _foreign(self, buf: Buf, at: Index, mask: Array | None, what: str) -> None:
        if self.owners is None or buf.name in self.private or buf.name not in self.owners:
            return
        owners = self.owners[buf.name]
        who = owners[at]
        bad = (who >= 0) & (who != self.point)
        if mask is not None:
            bad = bad & mask
        if np.any(bad):
            raise VerifyError(
                f"a grid point {what} an element of {buf.name} that another grid point wrote: "
                "the points are not independent"
            )


def _within(buf: Buf, idx: Index, shape: tuple[int, ...], mask: Array | None, what: str) -> Index:
    """`idx` clamped into `shape`, after checking that it lies inside wherever `mask` holds."""
    out: list[Any] = []
    for d, (i, n) in enumerate(zip(idx, shape, strict=True)):
        if type(i) is int and 0 <= i < n:
            out.append(i)
            continue
        i = np.asarray(i, np.int64)
        outside = i.view(np.uint64) >= n  # a negative index is a huge one
        if not outside.any():
            out.append(i)
            continue
        wrong = outside if mask is None else outside & mask
        if np.any(wrong):
            value = np.broadcast_to(i, np.shape(wrong))[wrong].flat[0]
            raise VerifyError(
                f"{what} of {buf.name}: index {value} of dimension {d}, whose size is {n}"
            )
        out.append(np.clip(i, 0, max(n - 1, 0)))
    return tuple(out)
