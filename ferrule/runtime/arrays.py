"""A compiled program as a Python callable on NumPy arrays.

    f = NumpyCallable(load(compiled))
    (y,) = f(x)

Inputs are checked against the descriptor and made contiguous where they are not; outputs are new
arrays. bf16 tensors are `uint16` arrays of their bits (see `ferrule.base.dtype.to_storage`).

Outputs of 64 KiB and more lie in aligned memory that is used again once nobody holds it any more:
fresh pages cost more than many a kernel. Every view of such memory refers to the one array that
owns it, so the owner's reference count tells whether anybody still can see it.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.base.artifact import ALIGNMENT, TensorSpec
from ferrule.base.dtype import bf16, from_name
from ferrule.base.errors import InputError, InputTypeError
from ferrule.runtime.cpu import Executable
from ferrule.runtime.signature import Signature

if TYPE_CHECKING:
    from numpy.typing import NDArray  # which takes long to import

    Array = NDArray[Any]

_POOLED = 64 << 10
_KEPT = 4
_DATA_OFFSET = object.__basicsize__


class NumpyCallable:
    """Calls an executable with NumPy arrays. May be called from many threads at once."""

    def __init__(self, executable: Executable) -> None:
        compiled = executable.compiled
        self.executable = executable
        self.signature = Signature(compiled)
        self._run = executable.run
        self._name = compiled.name
        self._specs = compiled.inputs
        self._dtypes = [from_name(s.dtype).numpy for s in compiled.inputs]
        self._outputs = [(from_name(s.dtype).numpy, OutputPool()) for s in compiled.outputs]

    def __call__(self, *inputs: Any) -> tuple[Array, ...]:
        """Runs the program and gives its outputs.

        Each input is a NumPy array of the descriptor's dtype and shape, or a Python number for an
        input of rank 0. Raises InputTypeError, InputError or GuardError for inputs that do not fit,
        and RunError or RunIndexError where the program fails.
        """
        if len(inputs) != len(self._dtypes):
            names = ", ".join(s.name for s in self._specs)
            raise InputError(
                f"{self._name} takes {len(self._dtypes)} input(s), ({names}), not {len(inputs)}"
            )
        arrays = [
            x
            if type(x) is np.ndarray and x.dtype is dtype and x.flags.carray
            else self._accepted(i, x)
            for i, (x, dtype) in enumerate(zip(inputs, self._dtypes))
        ]
        scalars = self.signature.scalars
        plan = self.signature.plan(
            tuple([x.shape for x in arrays]),
            {i: int(arrays[i]) for i in scalars} if scalars else None,
        )
        outputs = [
            pool.empty(shape, dtype) for (dtype, pool), shape in zip(self._outputs, plan.outputs)
        ]
        self._run([address(x) for x in arrays], [address(y) for y in outputs], plan.dims)
        return tuple(outputs)

    def _accepted(self, index: int, value: Any) -> Array:
        """Input `index` as an array that the program can read, or an error that says why not."""
        spec, dtype = self._specs[index], self._dtypes[index]
        if not isinstance(value, np.ndarray | np.generic):
            value = self._scalar(spec, dtype, value)
        if spec.dtype == bf16.name and value.dtype.name == "bfloat16":
            value = value.view(dtype)
        if value.dtype != dtype:
            storage = " (stored as NumPy uint16)" if spec.dtype == bf16.name else ""
            raise InputTypeError(
                f"input {spec.name} of {self._name} has dtype {spec.dtype}{storage}, not "
                f"{value.dtype}; convert it with .astype(numpy.{dtype})"
            )
        return np.require(np.asarray(value, order="C"), dtype, ["C", "A"])

    def _scalar(self, spec: TensorSpec, dtype: np.dtype[Any], value: Any) -> Array:
        kinds = {"f": (float, int), "i": (int,), "u": (int,), "b": (bool,)}
        allowed = kinds[from_name(spec.dtype).kind]
        if spec.shape or type(value) not in allowed or spec.dtype == bf16.name:
            raise InputTypeError(
                f"input {spec.name} of {self._name} must be a NumPy array of dtype {spec.dtype} "
                f"and rank {len(spec.shape)}, not {type(value).__name__}"
            )
        try:
            return np.array(value, dtype)
        except OverflowError as error:
            raise InputError(f"input {spec.name} of {self._name}: {error}") from None


class OutputPool:
    """Arrays for one output. Large ones share memory that is used again once it is free."""

    def __init__(self) -> None:
        self._owners: list[Array] = []
        self._lock = threading.Lock()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array with undefined contents, in memory that nobody else can see."""
        size = prod(shape) * dtype.itemsize
        if size < _POOLED:
            return np.empty(shape, dtype)
        with self._lock:
            owner = self._free(size)
            start = -address(owner) % ALIGNMENT
            return owner[start : start + size].view(dtype).reshape(shape)

    def _free(self, size: int) -> Array:
        """A free owner of room for `size` bytes and no more than twice that, else a new one.

        At most four are kept; the one used longest ago goes first, to live on with its holders.
        """
        owners = self._owners
        room = size + ALIGNMENT
        for i in range(len(owners)):
            if _references(owners, i) == _FREE and room <= owners[i].size <= 2 * room:
                owners.append(owners.pop(i))
                return owners[-1]
        if len(owners) >= _KEPT:
            del owners[0]
        owners.append(np.empty(room, np.uint8))
        return owners[-1]


def address(x: Array) -> int:
    """The address of an array's first element."""
    return ctypes.c_int64.from_address(id(x) + _DATA_OFFSET).value


def _safe_address(x: Array) -> int:
    return int(x.ctypes.data)


# An array object holds its data pointer right after the object header: reading it there takes a
# tenth of the time of `x.ctypes.data`. Where that does not hold, use the slow way.
_probe: list[Array] = [np.zeros(3), np.zeros((4, 5), np.int8)[1:, 2:]]
if any(address(x) != x.ctypes.data for x in _probe):
    address = _safe_address


def _references(items: Sequence[Array], index: int) -> int:
    return sys.getrefcount(items[index])


_FREE = _references([np.empty(1)], 0)
