"""The descriptor of a compiled program: all that the runtime needs, and nothing of the compiler.

    compiled = name key object (inputs) (params) (outputs) dims guards const_bytes errors meta
    tensor   = name dtype [extent..]          an extent is an int, or text over dims (base.shapes)
    dim      = name from input.shape[axis] | name from the integer input itself, with its range

The object code exports three C functions, whose names end in `_` and the program's key, so that
many programs live side by side in one process:

    int32 ferrule_entry_KEY(void *args)         runs; gives 0, or 1 + the index of one of `errors`
    int64 ferrule_arena_bytes_KEY(void *args)   bytes of scratch for these dims and threads
    int32 ferrule_prepare_KEY(void *args)       fills the const arena from the params, once

`args` is an array of 8-byte slots:

    [0] arena, 64-byte aligned    [1] number of threads    [2] const arena, 64-byte aligned
    [3] host table
    then one pointer an input, one an output, one i64 a dim, one pointer a param, in the order of
    this descriptor: what changes from call to call lies together

`prepare` gets no inputs, no outputs and no dims (their slots are zero); its arena is as large as
`arena_bytes` tells for such a block. The code imports nothing. What it needs of its surroundings
stands in the host table, 8 bytes each, which whoever runs it provides:

    [0] bytes of the table, 32 or more
    [1] parallel(kernel, ctx, i64 n, i64 threads, user): kernel(ctx, lo, hi, tid) for parts lo..hi
        that are 0..n together, each once, with 0 <= tid < threads of no two at a time
    [2] user, which `parallel` is given
    [3] trace(table, kernel, ctx, n, i64 threads, i64 number, i64 parts), or null: is called in
        place of kernel(ctx, 0, n, 0), or of `parallel` where threads > 1, and has to do that

`number` says which launch it is: -1 the whole entry, else the place of its first call in the list
`launches` of the program's meta, which has the calls of the entry. A launch of several calls has
`parts` > 1; its ctx is then the table that `codegen/host/host.ll` describes.

On disk: 8 bytes of magic, the header's length as 8 bytes little-endian, a JSON header, the object
code, and the SHA-256 of all before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from ferrule.base.dtype import DType, from_name
from ferrule.base.errors import CacheError

SLOT_ARENA, SLOT_THREADS, SLOT_CONST, SLOT_HOST, SLOT_FIRST = range(5)
HOST_BYTES = 32
MAX_THREADS = 64
"""That a program may run on."""
ALIGNMENT = 64

_MAGIC = b"FERRULE2"
_DIGEST = 32


class TensorSpec(NamedTuple):
    """A tensor at the boundary: dense, row-major. Extents are ints, or text over the program's
    dims.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @property
    def element(self) -> DType:
        return from_name(self.dtype)


class DimSource(NamedTuple):
    """Where a run finds a dim's value: the extent of an input's `axis`, or, where axis is None, the
    integer input itself.

    The code was compiled for lo <= value <= hi and multiples of `multiple`.
    """

    name: str
    input_index: int
    axis: int | None
    lo: int = 0
    hi: int | None = None
    multiple: int = 1

    def takes(self, value: int) -> bool:
        """Whether the code may run with this value."""
        below = self.hi is None or value <= self.hi
        return self.lo <= value and below and value % self.multiple == 0

    @property
    def expected(self) -> str:
        """The values that it takes, in words."""
        if self.hi is None:
            text = f"at least {self.lo}"
        else:
            text = str(self.lo) if self.lo == self.hi else f"{self.lo} to {self.hi}"
        return text if self.multiple == 1 else f"{text} and a multiple of {self.multiple}"


class Guard(NamedTuple):
    """A fact that relates dims and that the code was compiled under, as text, and what to tell a
    user where it fails.
    """

    text: str
    message: str = ""


@dataclass(frozen=True)
class Compiled:
    """A compiled program. `meta` holds JSON-able facts for people: kernel count, explain text,
    timings.

    A message in `errors` that starts with "index" is raised as an IndexError.
    """

    name: str
    key: str
    object_code: bytes = field(repr=False)
    inputs: tuple[TensorSpec, ...]
    params: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dims: tuple[DimSource, ...] = ()
    guards: tuple[Guard, ...] = ()
    const_bytes: int = 0
    errors: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def entry(self) -> str:
        return f"ferrule_entry_{self.key}"

    @property
    def arena_bytes(self) -> str:
        return f"ferrule_arena_bytes_{self.key}"

    @property
    def prepare(self) -> str:
        return f"ferrule_prepare_{self.key}"

    @property
    def dim_names(self) -> tuple[str, ...]:
        return tuple(d.name for d in self.dims)

    @property
    def slots(self) -> int:
        """How many 8-byte slots the argument block has."""
        return SLOT_FIRST + len(self.inputs) + len(self.params) + len(self.outputs) + len(self.dims)

    def to_bytes(self) -> bytes:
        """This program as bytes that `from_bytes` reads back."""
        header = json.dumps(header_of(self), sort_keys=True, separators=(",", ":")).encode()
        body = _MAGIC + len(header).to_bytes(8, "little") + header + self.object_code
        return body + hashlib.sha256(body).digest()

    @staticmethod
    def from_bytes(data: bytes) -> Compiled:
        """The program that `to_bytes` wrote. Raises CacheError where a byte of it is damaged or
        missing.
        """
        body, digest = data[:-_DIGEST], data[-_DIGEST:]
        if not body.startswith(_MAGIC):
            raise CacheError(
                f"not a compiled program of this version: expected {_MAGIC!r}, found {data[:8]!r}"
            )
        if hashlib.sha256(body).digest() != digest:
            raise CacheError(
                "a compiled program is damaged: its checksum does not match; compile it again"
            )
        start = len(_MAGIC) + 8
        end = start + int.from_bytes(body[len(_MAGIC) : start], "little")
        try:
            return from_header(json.loads(body[start:end]), body[end:])
        except (ValueError, KeyError, TypeError) as error:
            raise CacheError(
                f"the header of a compiled program is malformed: {error!r}; compile it again"
            ) from error


def header_of(compiled: Compiled) -> dict[str, Any]:
    """All but the code, as what JSON can hold."""
    plain: dict[str, Any] = {
        f.name: getattr(compiled, f.name) for f in fields(compiled) if f.name != "object_code"
    }
    for name in ("inputs", "params", "outputs"):
        plain[name] = [[s.name, s.dtype, list(s.shape)] for s in plain[name]]
    plain["dims"] = [list(d) for d in compiled.dims]
    plain["guards"] = [list(g) for g in compiled.guards]
    plain["meta"] = dict(compiled.meta)
    return plain


def from_header(plain: dict[str, Any], object_code: bytes) -> Compiled:
    """What `header_of` tells and this code; other facts are passed over. Raises ValueError,
    KeyError or TypeError.
    """
    for name in ("inputs", "params", "outputs"):
        plain[name] = tuple(TensorSpec(n, dtype, tuple(shape)) for n, dtype, shape in plain[name])
    plain["dims"] = tuple(DimSource(*d) for d in plain["dims"])
    plain["guards"] = tuple(Guard(*g) for g in plain["guards"])
    plain["errors"] = tuple(plain["errors"])
    known = {f.name: plain[f.name] for f in fields(Compiled) if f.name in plain}
    return Compiled(**{**known, "object_code": object_code})
