"""The C API of a model as one module of LLVM IR.

    NAME_create(path, options, &model)   NAME_create_from(weights, size, options, &model)
    NAME_run(model, inputs, outputs)     NAME_output_shapes(inputs, outputs)     NAME_destroy(model)
    NAME_error(code)  NAME_message()  NAME_level(model)  NAME_inputs()  NAME_input(i)  ..

`spec` has the tables that these read, `tensors` the checks, `calls` what a call does, `model` how
one is made; the C header is in `files`. The module imports functions of the C library (IMPORTS),
the pool's `ferrule_parallel`, and the functions of the programs. Where there is no C library it
defines what it needs (`bare`), and gives memory by NAME_alloc(size) and NAME_free(memory).
"""

from __future__ import annotations

from ferrule.codegen.capi import spec as s
from ferrule.codegen.capi.bare import define_bare
from ferrule.codegen.capi.body import Body, Value, Writer
from ferrule.codegen.capi.calls import M_LEVEL, define_calls
from ferrule.codegen.capi.layout import WIDE, Layout
from ferrule.codegen.capi.levels import define_level
from ferrule.codegen.capi.message import CODES, define_messages
from ferrule.codegen.capi.model import define_model
from ferrule.codegen.capi.sizes import division
from ferrule.codegen.capi.tensors import define_checks

_C_LIBRARY = {
    "malloc": "ptr (i64)",
    "calloc": "ptr (i64, i64)",
    "aligned_alloc": "ptr (i64, i64)",
    "free": "void (ptr)",
    "memcpy": "ptr (ptr, ptr, i64)",
    "open": "i32 (ptr, i32, ...)",
    "close": "i32 (i32)",
    "lseek": "i64 (i32, i64, i32)",
    "mmap": "ptr (ptr, i64, i32, i32, i32, i64)",
    "munmap": "i32 (ptr, i64)",
    "__errno_location": "ptr ()",
    "sched_getaffinity": "i32 (i32, i64, ptr)",
    "pthread_once": "i32 (ptr, ptr)",
    "pthread_key_create": "i32 (ptr, ptr)",
    "pthread_getspecific": "ptr (i32)",
    "pthread_setspecific": "i32 (i32, ptr)",
    "pthread_mutex_init": "i32 (ptr, ptr)",
    "pthread_mutex_lock": "i32 (ptr)",
    "pthread_mutex_unlock": "i32 (ptr)",
    "pthread_mutex_destroy": "i32 (ptr)",
}
IMPORTS = tuple(_C_LIBRARY)
"""What the module calls of the C library."""

_MODEL = {"model": "ptr"}
_INDEX = {"index": "i32"}
_CREATE = {"weights": "ptr", "options": "ptr", "out": "ptr"}
_SHAPES = {"inputs": "ptr", "outputs": "ptr"}
_RUN = {"model": "ptr", "inputs": "ptr", "outputs": "ptr"}


def api_text(bundle: s.Bundle, layout: Layout = WIDE) -> str:
    """The module's text. Raises CompileError for levels whose CPUs cannot be told."""
    m = Writer(layout)
    if layout.has_system:
        for name, kind in _C_LIBRARY.items():
            result, _, types = kind.partition(" ")
            m.globals.append(f"declare {result} @{name}{types}")
    else:
        define_bare(m)
    m.globals += [
        "declare i64 @llvm.ctpop.i64(i64)",
        "declare void @ferrule_parallel(ptr, ptr, i64, i64, ptr)",
    ]
    for c in {c.key: c for f in bundle.functions for c in f.programs}.values():
        m.globals += [
            f"declare i32 @{c.entry}(ptr)", f"declare i32 @{c.prepare}(ptr)",
            f"declare i64 @{c.arena_bytes}(ptr)",
        ]  # fmt: skip
    division(m)
    define_messages(m)
    define_checks(m)
    define_calls(m)
    define_level(m, bundle.levels)
    tables = [s.function_table(m, f, k) for k, f in enumerate(bundle.functions)]
    define_model(m, bundle, tables)
    _public(m, bundle)
    for f, table in zip(bundle.functions, tables):
        _public_of(m, f, table)
    return m.written()


def exports(bundle: s.Bundle, layout: Layout = WIDE) -> tuple[str, ...]:
    """The names that the module defines for others."""
    memory = () if layout.has_system else ("alloc", "free")
    own = ("create", "create_from", "destroy", "error", "message", "level", *memory)
    each = ("inputs", "outputs", "input", "output", "output_shapes", "run")
    return (
        *(f"{bundle.name}_{n}" for n in own),
        *(f"{f.prefix}_{n}" for f in bundle.functions for n in each),
    )


def _public(m: Writer, bundle: s.Bundle) -> None:
    name = bundle.name
    _passed(m.define("i32", f"{name}_create", _CREATE, True), "@capi.create", *_CREATE)
    size = m.layout.size_type
    given = {"weights": "ptr", "size": size, "options": "ptr", "out": "ptr"}
    f = m.define("i32", f"{name}_create_from", given, True)
    _passed(f, "@capi.create_from", "weights", f["size"].to("i64"), "options", "out")
    if not m.layout.has_system:
        f = m.define("ptr", f"{name}_alloc", {"size": size}, True)
        _passed(f, "@malloc", f["size"].to("i64"))
        _passed(m.define("void", f"{name}_free", {"memory": "ptr"}, True), "@free", "memory")
    _passed(m.define("void", f"{name}_destroy", _MODEL, True), "@capi.destroy", *_MODEL)
    _passed(m.define("ptr", f"{name}_message", {}, True), "@capi.message")
    f = m.define("ptr", f"{name}_error", {"code": "i32"}, True)
    for code, text in CODES.values():
        with f.when(f["code"].equals(code)):
            f.give(f.value("ptr", m.text(text)))
    f.give(f.value("ptr", m.text("an unknown code")))
    f = m.define("ptr", f"{name}_level", _MODEL, True)
    levels = f.value("ptr", m.table("levels", [m.text(x) for x in bundle.levels]))
    with f.when(f["model"].is_null):
        f.give(f.value("ptr", m.text("")))
    f.give(f.load("ptr", levels + f.load("i64", f["model"], M_LEVEL) * 8))


def _public_of(m: Writer, function: s.Function, table: str) -> None:
    """What each function of the model has."""
    prefix = function.prefix
    for role, count, specs in (
        ("input", s.F_INPUTS, s.F_INPUT), ("output", s.F_OUTPUTS, s.F_OUTPUT),
    ):  # fmt: skip
        f = m.define("i32", f"{prefix}_{role}s", {}, True)
        f.give(f.load("i64", f.value("ptr", table), count).to("i32"))
        f = m.define("ptr", f"{prefix}_{role}", _INDEX, True)
        number = f["index"].to("i64", signed=True)
        most = f.load("i64", f.value("ptr", table), count)
        with f.when(number.less(0) | ~number.less(most)):
            f.give(f.value("ptr", "null"))
        f.give(f.load("ptr", f.value("ptr", table), specs) + number * f.spec.bytes)
    f = m.define("i32", f"{prefix}_output_shapes", _SHAPES, True)
    _passed(f, "@capi.output_shapes", f.value("ptr", table), *_SHAPES)
    f = m.define("i32", f"{prefix}_run", _RUN, True)
    _passed(f, "@capi.run", "model", f.value("ptr", table), "inputs", "outputs")


def _passed(f: Body, function: str, *args: str | Value) -> None:
    """Gives what another function gives for arguments, parameters by name."""
    found = f.call(f.result, function, *(a if isinstance(a, Value) else f[a] for a in args))
    f.give(None if f.result == "void" else found)
