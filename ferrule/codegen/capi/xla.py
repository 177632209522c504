"""A program as a handler of XLA's foreign function interface, in LLVM IR.

    XLA_FFI_Error *HANDLER(XLA_FFI_CallFrame *frame)

It reads where the buffers lie from the frame, fills an argument block on its stack, takes an arena
that no other call has, and runs the program. An arena is kept from one call to the next, in a place
that calls exchange it with.

Specification: xla/ffi/api/c_api.h (openxla/xla), version 0.3; the offsets below are those of its
structs on machines of 64 bits. New fields come after those that are read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ferrule.base.artifact import (
    ALIGNMENT,
    SLOT_ARENA,
    SLOT_CONST,
    SLOT_FIRST,
    SLOT_HOST,
    SLOT_THREADS,
    Compiled,
    TensorSpec,
)
from ferrule.codegen.capi.body import Body, Value, Writer
from ferrule.codegen.capi.sizes import division, sizes_function

HANDLER = "ferrule_xla"
_ROW = 8
_FRAME_EXTENSION, _FRAME_API, _FRAME_STAGE = 8, 16, 32
_FRAME_ARGS, _FRAME_RETS = 40, 80
_COUNT, _POINTERS = 16, 32  # of XLA_FFI_Args and of XLA_FFI_Rets
_BUFFER_DATA, _BUFFER_DIMS = 24, 40
_API_MAJOR, _API_MINOR, _API_ERROR = 32, 36, 48
_EXTENSION_KIND, _EXTENSION_METADATA = 8, 24
_META_MAJOR, _META_MINOR, _META_TRAITS = 24, 28, 32
_ERROR_BYTES, _ERROR_MESSAGE, _ERROR_CODE = 28, 16, 24
_METADATA, _EXECUTE = 1, 3
_INVALID, _NO_MEMORY, _INTERNAL = 3, 8, 13
_ARENA_HEAD = ALIGNMENT  # before an arena: how many bytes it has


@dataclass(frozen=True)
class Place:
    """Where a program lies in this process: addresses of its functions, of the constants that it
    has prepared, of its params and of the host table; and on how many threads it runs.
    """

    entry: int
    arena_bytes: int
    constants: int
    params: tuple[int, ...]
    host: int
    threads: int


def handler_text(compiled: Compiled, place: Place) -> str:
    """The module with the function HANDLER. The program is given buffers in the order of its
    inputs, and gives those of its outputs.
    """
    m = Writer()
    m.globals += [
        "declare ptr @aligned_alloc(i64, i64)",
        "declare void @free(ptr)",
        "@kept = internal global ptr null",
    ]
    _define_error(m)
    f = m.define("ptr", HANDLER, {"frame": "ptr"}, True)
    _answer_metadata(f)
    with f.when(f.load("i32", f["frame"], _FRAME_STAGE).differs(_EXECUTE)):
        f.give(f.value("ptr", "null"))
    _check_counts(m, f, compiled)
    block = f.room(compiled.slots * _ROW)
    _fill(f, block, compiled, place)
    _check_guards(m, f, block, compiled)
    arena = _arena(m, f, block, compiled, place)
    status = f.call("i32", _function(f, place.entry), block)
    old = f.emit("ptr", f"atomicrmw xchg ptr @kept, ptr {arena.text} acq_rel, align 8")
    f.call("void", "@free", old)
    _tell(m, f, compiled, status)
    f.give(f.value("ptr", "null"))
    return m.written()


def _function(f: Body, address: int) -> Value:
    return f.value("ptr", f"inttoptr (i64 {address} to ptr)")


def _define_error(m: Writer) -> None:
    """What XLA makes of a message and a code."""
    f = m.define("ptr", "error", {"frame": "ptr", "message": "ptr", "code": "i32"})
    args = f.room(_ERROR_BYTES + 4)
    f.store(f.value("i64", _ERROR_BYTES), args)
    f.store(f.value("ptr", "null"), args, 8)
    f.store(f["message"], args, _ERROR_MESSAGE)
    f.store(f["code"], args, _ERROR_CODE)
    create = f.load("ptr", f.load("ptr", f["frame"], _FRAME_API), _API_ERROR)
    f.give(f.call("ptr", create, args))


def _fail(m: Writer, f: Body, message: str, code: int) -> None:
    text, number = f.value("ptr", m.text(message)), f.value("i32", code)
    f.give(f.call("ptr", "@error", f["frame"], text, number))


def _answer_metadata(f: Body) -> None:
    """Asked for its metadata, the handler is of the version that asks: what it reads is the same
    in all of them.
    """
    extension = f.load("ptr", f["frame"], _FRAME_EXTENSION)
    kind = f.variable("i32", 0)
    with f.when(~extension.is_null):
        kind.set(f.load("i32", extension, _EXTENSION_KIND))
    with f.when(kind.get().equals(_METADATA)):
        meta = f.load("ptr", extension, _EXTENSION_METADATA)
        api = f.load("ptr", f["frame"], _FRAME_API)
        f.store(f.load("i32", api, _API_MAJOR), meta, _META_MAJOR)
        f.store(f.load("i32", api, _API_MINOR), meta, _META_MINOR)
        f.store(f.value("i32", 0), meta, _META_TRAITS)
        f.give(f.value("ptr", "null"))


def _check_counts(m: Writer, f: Body, compiled: Compiled) -> None:
    counts = ((_FRAME_ARGS, len(compiled.inputs)), (_FRAME_RETS, len(compiled.outputs)))
    for at, count in counts:
        with f.when(f.load("i64", f["frame"], at + _COUNT).differs(count)):
            _fail(m, f, f"{compiled.name}: a wrong number of buffers", _INVALID)


def _check_guards(m: Writer, f: Body, block: Value, compiled: Compiled) -> None:
    """What the code was compiled for must hold of the sizes of this call."""
    if not compiled.guards:
        return
    division(m)
    sizes_function(m, "guards", [], [g.text for g in compiled.guards], compiled.dim_names)
    holds = f.room(_ROW * len(compiled.guards))
    first = SLOT_FIRST + len(compiled.inputs) + len(compiled.outputs)
    f.call("void", "@guards", block + _ROW * first, holds)
    for i, g in enumerate(compiled.guards):
        with f.when(f.load("i64", holds, _ROW * i).equals(0)):
            _fail(m, f, f"{compiled.name} was compiled for {g.text}", _INVALID)


def _buffers(f: Body, at: int, count: int) -> Sequence[Value]:
    table = f.load("ptr", f["frame"], at + _POINTERS) if count else f.value("ptr", "null")
    return [f.load("ptr", table, _ROW * i) for i in range(count)]


def _fill(f: Body, block: Value, compiled: Compiled, place: Place) -> None:
    """Writes all of the block but the arena."""
    given = _buffers(f, _FRAME_ARGS, len(compiled.inputs))
    made = _buffers(f, _FRAME_RETS, len(compiled.outputs))
    words = [f.load("ptr", b, _BUFFER_DATA) for b in (*given, *made)]
    for d in compiled.dims:
        buffer = given[d.input_index]
        if d.axis is not None:
            words.append(f.load("i64", f.load("ptr", buffer, _BUFFER_DIMS), _ROW * d.axis))
        else:
            words.append(_number(f, buffer, compiled.inputs[d.input_index]))
    words += [f.value("i64", p) for p in place.params]
    for i, w in enumerate(words):
        f.store(w, block, _ROW * (SLOT_FIRST + i))
    for slot, x in (
        (SLOT_THREADS, place.threads), (SLOT_CONST, place.constants), (SLOT_HOST, place.host),
    ):  # fmt: skip
        f.store(f.value("i64", x), block, _ROW * slot)


def _number(f: Body, buffer: Value, spec: TensorSpec) -> Value:
    bits, signed = spec.element.bits, spec.element.kind == "i"
    return f.load(f"i{bits}", f.load("ptr", buffer, _BUFFER_DATA)).to("i64", signed)


def _arena(m: Writer, f: Body, block: Value, compiled: Compiled, place: Place) -> Value:
    """Memory that is large enough for this call, whose arena is written to the block."""
    needed = f.call("i64", _function(f, place.arena_bytes), block)
    with f.when(needed.less(0)):
        _fail(m, f, f"{compiled.name}: these sizes are too large", _NO_MEMORY)
    kept = f.emit("ptr", "atomicrmw xchg ptr @kept, ptr null acq_rel, align 8")
    memory, has = f.variable("ptr", kept), f.variable("i64", -1)
    with f.when(~kept.is_null):
        has.set(f.load("i64", kept))
    with f.when(has.get().less(needed)):
        f.call("void", "@free", kept)
        whole = (needed + (_ARENA_HEAD + ALIGNMENT - 1)) & -ALIGNMENT
        new = f.call("ptr", "@aligned_alloc", f.value("i64", ALIGNMENT), whole)
        memory.set(new)
        with f.when(new.is_null):
            _fail(m, f, f"{compiled.name}: out of memory for intermediate results", _NO_MEMORY)
        f.store(needed, new)
    found = memory.get()
    f.store(found + _ARENA_HEAD, block, _ROW * SLOT_ARENA)
    return found


def _tell(m: Writer, f: Body, compiled: Compiled, status: Value) -> None:
    """Gives an error where the program has returned one."""
    with f.when(status.differs(0)):
        for number, text in enumerate(compiled.errors, 1):
            with f.when(status.equals(number)):
                _fail(m, f, f"{compiled.name}: {text}", _INVALID)
        _fail(m, f, f"{compiled.name} failed", _INTERNAL)


