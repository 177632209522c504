"""Running a compiled graph on torch tensors: parameters, outputs, one call.

    bound = Bound(program, given, made, shifts)
    outputs = bound([x, y], params)  # which are bound again where they have changed

What is not needed on every call is settled before: where its inputs are like those of the call
before, a call is one native function (see ferrule.runtime.call). Else it checks them, makes them
dense, and looks their sizes up in a table.
"""

from __future__ import annotations

import ctypes
import operator
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from ferrule.base.dtype import DType
from ferrule.base.errors import InputError, InputTypeError
from ferrule.frontend.torch.like import Like, likeness

_POOLED_BYTES = 1 << 20
_KEPT = 4
_PROBE_BYTES = 8
_CALLS_KEPT = 1024
_TORCH = {
    "f32": torch.float32,
    "f64": torch.float64,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "i8": torch.int8,
    "i16": torch.int16,
    "i32": torch.int32,
    "i64": torch.int64,
    "u8": torch.uint8,
    "u16": torch.uint16,
    "u32": torch.uint32,
    "u64": torch.uint64,
    "bool": torch.bool,
}

_address = torch.Tensor.data_ptr
_version = operator.attrgetter("_version")
# What Inductor's programs make their outputs with: half the time of torch.empty_strided.
_empty: Any = getattr(torch._C._dynamo.guards, "_empty_strided_cpu", None) or (
    lambda shape, strides, dtype: torch.empty_strided(shape, strides, dtype=dtype)
)
Order = tuple[int, ...]
Maker = tuple[Callable[..., torch.Tensor], tuple[Any, ...]]  # a function and its arguments
CallSizes = tuple[tuple[int, ...], list[Maker]]  # a call's dims, and what makes its outputs
Call = Callable[..., tuple[torch.Tensor, ...] | None]


def torch_dtype(dtype: DType | str) -> torch.dtype:
    """The torch dtype of the same name."""
    return _TORCH[dtype if isinstance(dtype, str) else dtype.name]


def shown(x: Any) -> str:
    """An argument in an error message."""
    if not isinstance(x, torch.Tensor):
        return type(x).__name__
    layout = "" if x.layout is torch.strided else f", {x.layout},"
    kind = "" if _has_memory(x) else f"{type(x).__name__} without memory of its own, "
    return f"{kind}{x.dtype}{layout} on {x.device}"


def _has_memory(x: torch.Tensor) -> bool:
    """Whether a tensor's elements lie in memory; those of tensors that are traced do not."""
    try:
        return x.layout is not torch.strided or x.numel() == 0 or x.data_ptr() != 0
    except RuntimeError:
        return False


def stored(x: torch.Tensor) -> Any:
    """A tensor as an array that compiled code reads, bf16 as uint16."""
    dense = x.detach().contiguous()
    return (dense.view(torch.uint16) if dense.dtype is torch.bfloat16 else dense).numpy()


class Outputs:
    """Fresh tensors for one output, whose dimensions lie in memory in `order` (None: row-major).

    Large ones are used again when nobody holds them any more: touching new pages costs more than
    many a kernel. Whoever can see a tensor's memory (a view, a NumPy array, another process) holds
    its storage, which tells it by its reference count.
    """

    def __init__(self, dtype: torch.dtype, order: Order | None = None):
        self._dtype = dtype
        self._order = order
        self._storages: list[torch.UntypedStorage] = []
        self._lock = threading.Lock()

    def maker(self, lying: tuple[int, ...]) -> Maker:
        """What makes tensors whose memory is laid out as a row-major one of this shape."""
        order = self._order or tuple(range(len(lying)))
        shape, strides, step = list(lying), list(lying), 1
        for d, n in zip(reversed(order), reversed(lying)):
            shape[d], strides[d] = n, step
            step *= max(n, 1)
        size = prod(lying) * self._dtype.itemsize
        if size < _POOLED_BYTES:
            return _empty, (tuple(shape), tuple(strides), self._dtype)
        return self._pooled, (size, tuple(shape), tuple(strides))

    def _pooled(self, size: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> torch.Tensor:
        with self._lock:
            for i in range(len(self._storages)):
                if self._storages[i].nbytes() == size and _unused(self._storages, i):
                    out = torch.empty(0, dtype=self._dtype)
                    return out.set_(self._storages[i], 0, shape, strides)
            out = torch.empty_strided(shape, strides, dtype=self._dtype)
            self._storages = [*self._storages[1 - _KEPT :], out.untyped_storage()]
            return out


def _unused(storages: Sequence[torch.UntypedStorage], i: int) -> bool:
    """Whether the list alone refers to the storage: to its memory, and to it as a Python object."""
    storage = storages[i]
    if torch._C._storage_Use_Count(storage._cdata) != 1:
        return False
    return sys.getrefcount(storage) == _FREE and not storage.is_shared()


def _references(storages: Sequence[torch.UntypedStorage], i: int) -> int:
    storage = storages[i]
    return sys.getrefcount(storage)


_FREE = _references([torch.UntypedStorage(1)], 0)


class Params:
    """What was bound, to tell whether it has changed since.

    A parameter has changed when it lies elsewhere, when its version counter moved, or when a word
    in its middle differs: writes through `.data` leave no other trace.
    """

    def __init__(self, params: Sequence[torch.Tensor]):
        self._held = [p.detach() for p in params]
        self._addresses = list(map(_address, params))
        self._counted = not any(p.is_inference() for p in params)
        self._versions = self._versions_of(params)
        self._words = [_word(p) for p in params]
        self._seen = b"".join(self._words)
        self.watched = [
            (a, -1 if v is None else v, ctypes.addressof(w), bytes(w))
            for a, v, w in zip(self._addresses, self._versions, self._words)
        ]

    def changed(self, params: Sequence[torch.Tensor]) -> bool:
        """Whether these are not the parameters as they were."""
        return (
            list(map(_address, params)) != self._addresses
            or self._versions_of(params) != self._versions
            or b"".join(self._words) != self._seen
        )

    def _versions_of(self, params: Sequence[torch.Tensor]) -> list[int | None]:
        """Their version counters; None for tensors of inference mode, which have none."""
        if self._counted:
            return list(map(_version, params))
        return [None if p.is_inference() else p._version for p in params]


def _dense(x: torch.Tensor) -> torch.Tensor:
    """`x` in row-major memory that holds its values; `x` itself where that is what it is."""
    return x.resolve_neg().contiguous() if x.is_neg() or not x.is_contiguous() else x


def _word(p: torch.Tensor) -> Any:
    """The memory of a few bytes in the middle of a tensor, by reference."""
    last = (
        sum((n - 1) * s for n, s in zip(p.shape, p.stride())) * p.element_size()
        if p.numel()
        else -p.element_size()
    )
    size = min(_PROBE_BYTES, last + p.element_size())
    middle = (last // 2) // _PROBE_BYTES * _PROBE_BYTES
    start = min(middle, last + p.element_size() - size)
    return (ctypes.c_char * size).from_address(p.data_ptr() + start if size else 0)


@dataclass(frozen=True)
class _Kept:
    """A native function for calls that are `like` one, and the state of the program that it runs
    on.
    """

    like: Like
    call: Call
    ran: Any


class Bound:
    """A compiled graph on torch tensors; `program` is what compile_graph returns.

    `given` and `made` tell for each input and output the order of its dimensions in memory where it
    is not row-major: the program reads and writes tensors that are transposed so. `shifts` are
    added to integer inputs, by input index. Parameters are bound by the first call if not by `bind`
    before; not while tracing, when PyTorch lets no real tensor be touched.
    """

    def __init__(
        self,
        program: Any,
        given: Sequence[Order | None],
        made: Sequence[Order | None],
        shifts: Mapping[int, int],
    ):
        compiled = program.compiled
        self.program = program
        self._run = program.executable.run
        self.given, self.made = tuple(given), tuple(made)
        self._outputs = [
            Outputs(torch_dtype(s.dtype), order) for s, order in zip(compiled.outputs, made)
        ]
        numbers = [d.input_index for d in compiled.dims if d.axis is None]
        self._shifts = {i: shifts.get(i, 0) for i in numbers}
        self._tensors = [i for i in range(len(compiled.inputs)) if i not in self._shifts]
        self._dtypes = [
            None if i in self._shifts else torch_dtype(s.dtype)
            for i, s in enumerate(compiled.inputs)
        ]
        self._sizes: dict[Any, CallSizes] = {}
        self._calls: dict[Any, _Kept] = {}
        self._latest: Call | None = None
        self._words: dict[tuple[int, ...], list[torch.Tensor]] = {}
        self._params: Params | None = None
        self._lock = threading.Lock()

    def bind(self, params: Sequence[torch.Tensor]) -> None:
        """Bind the parameters, and again if one was replaced or changed since the last call. Raises
        InputError for one of another dtype or shape than it had.
        """
        with self._lock:
            if self._params is None or self._params.changed(params):
                self._check_params(params)
                held = [p.detach().contiguous() for p in params]
                self.program.executable.bind([(p.data_ptr(), p) for p in held])
                self._params = Params(params)
                self._calls, self._latest = {}, None  # they are for what was bound before

    def _check_params(self, params: Sequence[torch.Tensor]) -> None:
        for p, spec in zip(params, self.program.compiled.params):
            if p.dtype is not torch_dtype(spec.dtype) or tuple(p.shape) != spec.shape:
                raise InputError(
                    f"the parameter {spec.name} was a tensor of {torch_dtype(spec.dtype)} and "
                    f"shape {list(spec.shape)} when it was compiled, and is of {p.dtype} and "
                    f"{list(p.shape)} now: compile the module again"
                )

    def __call__(
        self, inputs: Sequence[Any], params: Sequence[torch.Tensor]
    ) -> Sequence[torch.Tensor]:
        """Run on tensors (and ints, for inputs that are dims). Raises InputTypeError for an input
        that is no strided tensor of the program's dtype in the CPU's memory.
        """
        latest = self._latest
        if latest is not None:
            out = latest(*inputs, *params)
            if out is not None:
                return out
        if params:
            self.bind(params)
        return self._with_numbers(inputs) if self._shifts else self._looked_up(inputs)

    def _looked_up(self, inputs: Sequence[Any]) -> Sequence[torch.Tensor]:
        """A call with the inputs checked and made dense, which prepares the next one like it."""
        self._check(inputs)
        lying = [self._lying(i, x) for i, x in enumerate(inputs)]
        tensors = [_dense(x) for x in lying]
        key = tuple([x.shape for x in tensors])
        dims, makers = self._sizes.get(key) or self._sizes_of(key, key)
        out = [make(*arguments) for make, arguments in makers]
        self._run(map(_address, tensors), map(_address, out), dims)
        if all(map(operator.is_, tensors, lying)):
            self._prepare(key, inputs, dims, makers)
        return out

    def _prepare(
        self, key: Any, inputs: Sequence[Any], dims: tuple[int, ...], makers: list[Maker]
    ) -> None:
        """Keeps a native function for calls like this one."""
        executable = self.program.executable
        with self._lock:  # what is bound is what is watched
            params, ran, kept = self._params, executable.latest, self._calls.get(key)
            if kept is None or kept.ran is not ran or not kept.like(*inputs):
                like = likeness(inputs)
                watched = params.watched if params is not None else ()
                call = like and executable.prepared(
                    ran, like, _address, makers, dims, watched, params
                )
                if like is None or call is None:
                    return
                kept = _Kept(like, call, ran)
                self._calls[key] = kept
            self._latest = kept.call

    def _lying(self, i: int, x: torch.Tensor) -> torch.Tensor:
        """Input `i` as the program wants it, which is row-major for one like the example's."""
        order = self.given[i]
        if order is None:
            return x
        if x.dim() != len(order):
            name = self.program.compiled.inputs[i].name
            raise InputError(f"the argument {name} must have rank {len(order)}, not {x.dim()}")
        return x.permute(order)

    def _check(self, inputs: Sequence[Any]) -> None:
        for i, (x, dtype) in enumerate(zip(inputs, self._dtypes)):
            tensor = isinstance(x, torch.Tensor)
            fits = tensor and x.dtype is dtype and x.is_cpu and x.layout is torch.strided
            if dtype is not None and not (fits and _has_memory(x)):
                name = self.program.compiled.inputs[i].name
                raise InputTypeError(
                    f"the argument {name} must be a tensor of {dtype} on the CPU, not {shown(x)}"
                )

    def _sizes_of(
        self, key: Any, shapes: tuple[Any, ...], numbers: dict[int, int] | None = None
    ) -> CallSizes:
        """The dims of a call with inputs of these shapes, and what makes its outputs."""
        plan = self.program.signature.plan(shapes, numbers)
        made = (plan.dims, [o.maker(s) for o, s in zip(self._outputs, plan.outputs)])
        if len(self._sizes) >= _CALLS_KEPT:
            self._sizes.clear()
            self._calls.clear()
        self._sizes[key] = made
        return made

    def _with_numbers(self, inputs: Sequence[Any]) -> list[torch.Tensor]:
        """A call where some inputs are ints, which the program reads from 0-d tensors."""
        numbers = tuple([int(inputs[i]) + shift for i, shift in self._shifts.items()])
        self._check(inputs)
        given = [_dense(self._lying(i, inputs[i])) for i in self._tensors]
        key = (numbers, *[x.shape for x in given])
        tensors = list(self._words.get(numbers) or self._new_words(numbers, len(inputs)))
        for i, x in zip(self._tensors, given):
            tensors[i] = x
        made = self._sizes.get(key)
        if made is None:
            shapes = tuple([tuple(x.shape) for x in tensors])
            made = self._sizes_of(key, shapes, dict(zip(self._shifts, numbers)))
        dims, makers = made
        out = [make(*arguments) for make, arguments in makers]
        self._run(map(_address, tensors), map(_address, out), dims)
        return out

    def _new_words(self, numbers: tuple[int, ...], count: int) -> list[torch.Tensor]:
        """The numbers as tensors where they stand among the inputs. Raises InputError for a
        negative one.
        """
        for (_, shift), number in zip(self._shifts.items(), numbers):
            if number < 0:
                raise InputError(f"the integer {number - shift} is out of range")
        words = [torch.empty(0)] * count
        for i, number in zip(self._shifts, numbers):
            words[i] = torch.tensor(number)
        if len(self._words) >= _CALLS_KEPT:
            self._words.clear()
        self._words[numbers] = words
        return words
