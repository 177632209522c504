"""What a C API is made for: the functions of a model with their tensors, dims and programs; and how
that lies in the library, as tables of 8-byte words.

    spec     = name text shape order rank+dtype      what the header shows as NAME_spec
    function = name inputs outputs dims guards sizes places ..      (the offsets F_.. below)
    dim      = input axis lo hi multiple name expected
    program  = entry prepare arena_bytes const_bytes
    error    = text, whether it is of an index
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ferrule.base.artifact import HOST_BYTES, SLOT_FIRST, Compiled, Guard
from ferrule.base.dtype import DType, from_name
from ferrule.base.errors import is_index
from ferrule.codegen.capi.body import Writer
from ferrule.codegen.capi.sizes import sizes_function

MOST = (1 << 63) - 1
PROGRAM_BYTES, DIM_BYTES, ERROR_BYTES = 32, 56, 16
D_INPUT, D_AXIS, D_LO, D_HI, D_MULTIPLE, D_NAME, D_EXPECTED = range(0, DIM_BYTES, 8)
P_ENTRY, P_PREPARE, P_ARENA, P_CONST = range(0, PROGRAM_BYTES, 8)
(
    F_NAME, F_INPUTS, F_INPUT, F_OUTPUTS, F_OUTPUT, F_DIMS, F_DIM, F_GUARDS, F_GUARD, F_SIZES,
    F_EXTENTS, F_PLACES, F_PLACE, F_MADES, F_MADE, F_FIXED, F_COPY, F_PARAMS, F_PARAM, F_SLOTS,
    F_PROGRAM, F_ERRORS, F_ERROR, F_STATES,
) = range(0, 24 * 8, 8)  # fmt: skip
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}  # DLPack's DLDataTypeCode
_BFLOAT = 4
HOST = 40 + 64  # in a model, whose lock lies before it (see model.py)
FIRST_FUNCTION, FUNCTION_BYTES = HOST + HOST_BYTES, 16  # constants and states, by function


@dataclass(frozen=True)
class Tensor:
    """An argument or result. It lies in memory with its axes in `order`, row-major where that is
    None. Extents are ints, or text over dims.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    order: tuple[int, ...] | None = None

    @property
    def element(self) -> DType:
        return from_name(self.dtype)

    @property
    def text(self) -> str:
        return "[" + ", ".join(map(str, self.shape)) + "]"


@dataclass(frozen=True)
class Dim:
    """Where a dim is read: the axis of an argument, or the integer argument itself; and the values
    that it may have.
    """

    name: str
    place: int
    axis: int | None
    lo: int
    hi: int | None
    multiple: int
    expected: str


@dataclass(frozen=True)
class Function:
    """A function of the model.

    `places` are the arguments that the program's inputs are, `made` the results that its outputs
    are. A result that it does not make is either `fixed`, at that offset of the weights, or a copy
    of an earlier result. `params` are offsets in the weights, `programs` one for each level.
    """

    name: str
    prefix: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    dims: tuple[Dim, ...]
    guards: tuple[Guard, ...]
    places: tuple[int, ...]
    made: tuple[int, ...]
    fixed: tuple[int | None, ...]
    copies: tuple[int | None, ...]
    params: tuple[int, ...]
    programs: tuple[Compiled, ...]
    errors: tuple[str, ...]

    @property
    def slots(self) -> int:
        """Slots of the argument block (`ferrule.base.artifact`)."""
        return SLOT_FIRST + len(self.places) + len(self.made) + len(self.dims) + len(self.params)


@dataclass(frozen=True)
class Bundle:
    """A model: `name` is a plain C identifier. `levels` are names of PORTABLE, the best last.

    Its weights are `weights` bytes, of which the first `header` have this `digest`; none are 0.
    """

    name: str
    functions: tuple[Function, ...]
    levels: tuple[str, ...]
    weights: int
    header: int
    digest: int


def spec_tables(m: Writer, name: str, tensors: Sequence[Tensor]) -> str:
    """Defines the table of specs of that name."""
    rows: list[int | str] = []
    for k, x in enumerate(tensors):
        sizes = [e if isinstance(e, int) else -1 for e in x.shape]
        code = _BFLOAT if x.dtype == "bf16" else _CODES[x.element.kind]
        bits = 8 if x.element.is_bool else x.element.bits
        packed = len(x.shape) | code << 32 | bits << 40 | 1 << 48
        rows += [
            m.text(x.name), m.text(x.text), m.table(f"{name}.shape{k}", sizes),
            m.table(f"{name}.order{k}", x.order or ()), packed,
        ]  # fmt: skip
    return m.table(name, rows, tight=True)


def function_table(m: Writer, f: Function, number: int) -> str:
    """Defines the tables of a function, and gives the name of the one that holds the others."""
    own = f"f{number}"
    extents = [e for x in (*f.inputs, *f.outputs) for e in x.shape]
    sizes_function(
        m, f"{own}.sizes", extents, [g.text for g in f.guards], [d.name for d in f.dims]
    )
    dims = [w for d in f.dims for w in _dim(m, d)]
    reasons = [g.text + (f" ({g.message})" if g.message else "") for g in f.guards]
    programs = [w for c in f.programs for w in _program(c)]
    errors: list[int | str] = []
    for e in f.errors:
        errors += [m.text(e), int(is_index(e))]
    fixed = [-1 if x is None else x for x in f.fixed]
    copies = [-1 if x is None else x for x in f.copies]
    words: list[int | str] = [
        m.text(f.name),
        len(f.inputs), spec_tables(m, f"{own}.inputs", f.inputs),
        len(f.outputs), spec_tables(m, f"{own}.outputs", f.outputs),
        len(f.dims), m.table(f"{own}.dims", dims),
        len(f.guards), m.table(f"{own}.guards", [m.text(r) for r in reasons]),
        f"@{own}.sizes", len(extents),
        len(f.places), m.table(f"{own}.places", f.places),
        len(f.made), m.table(f"{own}.made", f.made),
        m.table(f"{own}.fixed", fixed), m.table(f"{own}.copies", copies),
        len(f.params), m.table(f"{own}.params", f.params),
        f.slots, m.table(f"{own}.programs", programs),
        len(f.errors), m.table(f"{own}.errors", errors),
        FIRST_FUNCTION + FUNCTION_BYTES * number,
    ]  # fmt: skip
    return m.table(own, words)


def _dim(m: Writer, d: Dim) -> list[int | str]:
    axis = -1 if d.axis is None else d.axis
    hi = MOST if d.hi is None else d.hi
    return [d.place, axis, d.lo, hi, d.multiple, m.text(d.name), m.text(d.expected)]


def _program(c: Compiled) -> list[int | str]:
    return [f"@{c.entry}", f"@{c.prepare}", f"@{c.arena_bytes}", c.const_bytes]
