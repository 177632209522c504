"""Running compiled segments on torch tensors."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ferrule.base.dtype import DType

_POOLED_BYTES = 1 << 20
_KEPT = 4
_TORCH = {"f32": torch.float32, "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16, "i8": torch.int8,
          "i16": torch.int16, "i32": torch.int32, "i64": torch.int64, "u8": torch.uint8, "u16": torch.uint16,
          "u32": torch.uint32, "u64": torch.uint64, "bool": torch.bool}


def torch_dtype(dtype: DType | str) -> torch.dtype:
    """The torch dtype of the same name."""
    return _TORCH[dtype if isinstance(dtype, str) else dtype.name]


class Outputs:
    """Fresh tensors for one output. Large ones are used again when nobody holds them any more: touching new pages costs
    more than many a kernel."""

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype
        self._storages: list[torch.UntypedStorage] = []

    def empty(self, shape: tuple[int, ...]) -> torch.Tensor:
        """An uninitialised tensor of `shape`."""
        n = self.dtype.itemsize
        for s in shape:
            n *= s
        if n < _POOLED_BYTES:
            return torch.empty(shape, dtype=self.dtype)
        for storage in self._storages:
            if storage.nbytes() == n and _unused(storage):
                return torch.empty(0, dtype=self.dtype).set_(storage, 0, shape)
        out = torch.empty(shape, dtype=self.dtype)
        self._storages = [*self._storages[1 - _KEPT:], out.untyped_storage()]
        return out


def _unused(storage: torch.UntypedStorage) -> bool:
    """Whether the pool alone refers to the storage."""
    return bool(torch._C._storage_Use_Count(storage._cdata) == 1)  # type: ignore[attr-defined]


class Bound:
    """A compiled graph on torch tensors; `program` is what compile_graph returns.

    Parameters are bound by the first `refresh`, not while tracing, when PyTorch lets no real tensor be touched.
    """

    def __init__(self, program: Any):
        self.program = program
        self._run = program.executable.run
        self._plan = program.signature.plan
        self._outputs = [Outputs(torch_dtype(s.dtype)) for s in program.compiled.outputs]
        self._scalars = frozenset(d.input_index for d in program.compiled.dims if d.axis is None)
        self._dtypes = [torch_dtype(s.dtype) for s in program.compiled.inputs]
        self._state: list[tuple[int, int]] | None = None

    def rebind(self, params: Sequence[torch.Tensor]) -> None:
        """Take the parameters' present values."""
        held = [p.detach().contiguous() for p in params]
        self._state = [(p.data_ptr(), version(p)) for p in params]
        self.program.executable.bind([(p.data_ptr(), p) for p in held])

    def refresh(self, params: Sequence[torch.Tensor]) -> None:
        """Bind the parameters, and again if one was replaced or changed in place since the last call."""
        if self._state is None:
            self.rebind(params)
            return
        for p, (pointer, seen) in zip(params, self._state, strict=True):
            if p.data_ptr() != pointer or version(p) != seen:
                self.rebind(params)
                return

    def __call__(self, inputs: Sequence[Any]) -> list[torch.Tensor]:
        """Run on tensors (and ints, for inputs that are dims)."""
        if self._scalars:
            return self._with_scalars(inputs)
        tensors = [x if x.is_contiguous() else x.contiguous() for x in inputs]
        plan = self._plan(tuple([x.shape for x in tensors]))
        out = [o.empty(s) for o, s in zip(self._outputs, plan.outputs)]
        self._run([x.data_ptr() for x in tensors], [x.data_ptr() for x in out], plan.dims)
        return out

    def _with_scalars(self, inputs: Sequence[Any]) -> list[torch.Tensor]:
        values = {i: int(x) for i, x in enumerate(inputs) if i in self._scalars}
        tensors = [x if isinstance(x, torch.Tensor) else torch.tensor(x) for x in inputs]
        tensors = [x if x.is_contiguous() else x.contiguous() for x in tensors]
        plan = self._plan(tuple([tuple(x.shape) for x in tensors]), values)
        out = [o.empty(s) for o, s in zip(self._outputs, plan.outputs)]
        self._run([x.data_ptr() for x in tensors], [x.data_ptr() for x in out], plan.dims)
        return out


def version(t: torch.Tensor) -> int:
    """A number that changes when the tensor is written to; tensors made in inference mode don't count."""
    return 0 if t.is_inference() else t._version


Runner = Callable[[list[Any]], list[Any]]
