"""Models: made from weights, and destroyed.

    model = level threads mapping mapped weights lock:64 host | constants states, by function

`weights` are the bytes of the file, whether this library has mapped it (`mapping` is then where, of
`mapped` bytes) or its user holds them.
"""

from __future__ import annotations

from ferrule.base.artifact import HOST_BYTES, MAX_THREADS, SLOT_ARENA
from ferrule.codegen.capi import spec as s
from ferrule.codegen.capi.body import Body, Value, Variable, Writer
from ferrule.codegen.capi.calls import (
    M_HOST,
    M_LEVEL,
    M_LOCK,
    M_MAP,
    M_MAPPED,
    M_THREADS,
    M_WEIGHTS,
    STATE_BLOCK,
    memory,
    program,
)
from ferrule.codegen.capi.message import Text, fail
from ferrule.codegen.capi.tensors import checked

_CLOSED_ON_EXEC, _END, _READ, _PRIVATE = 0x80000, 2, 1, 2  # of open, lseek, mmap on Linux
_FNV_START, _FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3
_CPU_BYTES = 128  # CPUs of a process, a bit each


def digest(data: bytes) -> int:
    """FNV-1a of 64 bits, as a signed number."""
    found = _FNV_START
    for byte in data:
        found = (found ^ byte) * _FNV_PRIME & (1 << 64) - 1
    return found - (1 << 64 if found >> 63 else 0)


def define_model(m: Writer, bundle: s.Bundle, tables: list[str]) -> None:
    """Defines `capi.create`, `capi.create_from` and `capi.destroy`; `tables` are the names of the
    functions' tables.
    """
    _threads(m)
    _options(m)
    _digest(m)
    if m.layout.has_system:
        _opened(m, bundle)
    _create(m, bundle)
    _create_from(m, bundle)
    _made(m, bundle, tables)
    _constants(m)
    _destroy(m, tables)


def _threads(m: Writer) -> None:
    """How many CPUs this process may use, 1 to 64."""
    f = m.define("i64", "capi.threads", {})
    mask = f.room(_CPU_BYTES)
    for at in range(0, _CPU_BYTES, 8):
        f.store(f.value("i64", 0), mask, at)
    size = f.value("i64", _CPU_BYTES)
    f.call("i32", "@sched_getaffinity", f.value("i32", 0), size, mask)
    total = f.variable("i64", 0)
    with f.each(_CPU_BYTES // 8) as i:
        word = f.load("i64", mask + i * 8)
        total.set(total.get() + f.call("i64", "@llvm.ctpop.i64", word))
    n = total.get()
    n = f.choose(n.less(1), f.value("i64", 1), n)
    f.give(f.choose(n.more(MAX_THREADS), f.value("i64", MAX_THREADS), n))


def _options(m: Writer) -> None:
    """Takes options over into a model. The pool of the library is used where none is given."""
    f = m.define("i32", "capi.options", {"options": "ptr", "model": "ptr"})
    threads, host, at = f.variable("i64", 0), f["model"] + M_HOST, f.layout.options
    f.store(f.value("i64", HOST_BYTES), host)
    f.store(f.value("ptr", "@ferrule_parallel"), host, 8)
    with f.when(~f["options"].is_null):
        size = f.load(f.layout.size_type, f["options"], at.size).to("i64")
        with f.when(size.below(at.bytes)):
            fail(m, f, "OPTIONS", f"options.size must be {at.bytes} or more, not ", size)
        given = f.load("i32", f["options"], at.threads).to("i64", signed=True)
        with f.when(given.less(0) | given.more(MAX_THREADS)):
            fail(m, f, "OPTIONS", f"options.threads must be 0, for all CPUs, to {MAX_THREADS}, "
                 "not ", given)  # fmt: skip
        threads.set(given)
        parallel = f.load("ptr", f["options"], at.parallel)
        with f.when(~parallel.is_null):
            f.store(parallel, host, 8)
            f.store(f.load("ptr", f["options"], at.user), host, 16)
    with f.when(threads.get().equals(0)):
        threads.set(f.call("i64", "@capi.threads"))
    f.store(threads.get(), f["model"], M_THREADS)
    f.give(0)


def _digest(m: Writer) -> None:
    f = m.define("i64", "capi.digest", {"data": "ptr", "size": "i64"})
    found = f.variable("i64", _FNV_START)
    with f.each(f["size"]) as i:
        byte = f.load("i8", f["data"] + i).to("i64")
        found.set((found.get() ^ byte) * _FNV_PRIME)
    f.give(found.get())


def _opened(m: Writer, bundle: s.Bundle) -> None:
    """Maps the file of weights; writes where it lies and its size."""
    f = m.define("i32", "capi.opened", {"path": "ptr", "base": "ptr", "size": "ptr"})
    path = Text(f["path"])
    file = f.call(
        "i32", "@open", f["path"], f.value("i32", _CLOSED_ON_EXEC), types="i32 (ptr, i32, ...)"
    )
    with f.when(file.less(0)):
        error = f.load("i32", f.call("ptr", "@__errno_location"))
        fail(m, f, "FILE", "the weights ", path, " cannot be opened (errno ", error, ")")
    size = f.call("i64", "@lseek", file, f.value("i64", 0), f.value("i32", _END))
    with f.when(size.differs(bundle.weights)):
        f.call("i32", "@close", file)
        fail(m, f, "WEIGHTS", path, " has ", size, " bytes, and the weights of "
             f"{bundle.name} have {bundle.weights}")  # fmt: skip
    base = f.call(
        "ptr", "@mmap", f.value("ptr", "null"), size, f.value("i32", _READ),
        f.value("i32", _PRIVATE), file, f.value("i64", 0),
    )  # fmt: skip
    error = f.load("i32", f.call("ptr", "@__errno_location"))
    f.call("i32", "@close", file)
    with f.when(base.to("i64").equals(-1)):
        fail(m, f, "FILE", "the weights ", path, " cannot be mapped (errno ", error, ")")
    f.store(base, f["base"])
    f.store(size, f["size"])
    f.give(0)


def _create(m: Writer, bundle: s.Bundle) -> None:
    f = m.define("i32", "capi.create", {"path": "ptr", "options": "ptr", "out": "ptr"})
    _no_model(m, f)
    base, size = f.room(8), f.room(8)
    f.store(f.value("ptr", "null"), base)
    f.store(f.value("i64", 0), size)
    if bundle.weights and not m.layout.has_system:
        fail(m, f, "FILE", f"there are no files: use {bundle.name}_create_from")
    elif bundle.weights:
        with f.when(f["path"].is_null):
            fail(m, f, "NULL", f"{bundle.name} has weights: give the path of their file")
        checked(f, "@capi.opened", f["path"], base, size)
    data = f.load("ptr", base)
    f.give(f.call("i32", "@capi.made", data, data, f.load("i64", size), f["options"], f["out"]))


def _create_from(m: Writer, bundle: s.Bundle) -> None:
    f = m.define(
        "i32", "capi.create_from",
        {"weights": "ptr", "size": "i64", "options": "ptr", "out": "ptr"},
    )  # fmt: skip
    _no_model(m, f)
    if bundle.weights:
        with f.when(f["weights"].is_null):
            fail(m, f, "NULL", f"{bundle.name} has weights: their pointer is null")
        with f.when((f["weights"].to("i64") & 7).differs(0)):
            fail(m, f, "ALIGNMENT", "the weights do not begin at a multiple of 8 bytes")
        with f.when(f["size"].differs(bundle.weights)):
            fail(m, f, "WEIGHTS", "there are ", f["size"], " bytes, and the weights of "
                 f"{bundle.name} have {bundle.weights}")  # fmt: skip
    null, zero = f.value("ptr", "null"), f.value("i64", 0)
    f.give(f.call("i32", "@capi.made", f["weights"], null, zero, f["options"], f["out"]))


def _no_model(m: Writer, f: Body) -> None:
    """There is no model yet."""
    with f.when(f["out"].is_null):
        fail(m, f, "NULL", "the pointer to where the model is written is null")
    f.store(f.value("ptr", "null"), f["out"])


def _made(m: Writer, bundle: s.Bundle, tables: list[str]) -> None:
    """A model of these weights, which are unmapped where it cannot be made."""
    f = m.define(
        "i32", "capi.made",
        {"weights": "ptr", "mapping": "ptr", "mapped": "i64", "options": "ptr", "out": "ptr"},
    )  # fmt: skip
    size = s.FIRST_FUNCTION + s.FUNCTION_BYTES * len(tables)
    model = f.call("ptr", "@calloc", f.value("i64", size), f.value("i64", 1))
    with f.when(model.is_null):
        f.call("void", "@capi.unmap", f["mapping"], f["mapped"])
        fail(m, f, "MEMORY", "out of memory for a model")
    for value, at in ((f["mapping"], M_MAP), (f["mapped"], M_MAPPED), (f["weights"], M_WEIGHTS)):
        f.store(value, model, at)
    f.call("i32", "@pthread_mutex_init", model + M_LOCK, f.value("ptr", "null"))
    code = f.call("i32", "@capi.filled", model, f["options"])
    with f.when(code.differs(0)):
        f.call("void", "@capi.destroy", model)
        f.give(code)
    f.store(model, f["out"])
    f.give(0)

    f = m.define("i32", "capi.filled", {"model": "ptr", "options": "ptr"})
    checked(f, "@capi.options", f["options"], f["model"])
    if bundle.weights:
        data = f.load("ptr", f["model"], M_WEIGHTS)
        found = f.call("i64", "@capi.digest", data, f.value("i64", bundle.header))
        with f.when(found.differs(bundle.digest)):
            fail(m, f, "WEIGHTS", f"these are not the weights of {bundle.name}: names, dtypes or "
                 "shapes differ")  # fmt: skip
    level = f.call("i64", "@capi.level")
    with f.when(level.less(0)):
        fail(m, f, "CPU", f"{bundle.name} was compiled for {', '.join(bundle.levels)}, and this "
             "CPU lacks what these need")  # fmt: skip
    f.store(level, f["model"], M_LEVEL)
    for name in tables:
        checked(f, "@capi.constants", f["model"], f.value("ptr", name))
    f.give(0)


def _constants(m: Writer) -> None:
    """Fills a function's constants from the weights, by a state that calls use later."""
    f = m.define("i32", "capi.constants", {"model": "ptr", "function": "ptr"})
    place = f["model"] + f.load("i64", f["function"], s.F_STATES)
    size = f.load("i64", program(f, f["model"]), s.P_CONST)
    constants = memory(f, size)
    f.store(constants, place)
    with f.when(constants.is_null):
        fail(m, f, "MEMORY", "out of memory: ", Text(f.load("ptr", f["function"])), " needs ",
             size, " bytes for its constants")  # fmt: skip
    state = f.call("ptr", "@capi.take", f["model"], f["function"])
    with f.when(state.is_null):
        fail(m, f, "MEMORY", "out of memory for a model")
    code = f.variable("i32", 0)
    code.set(f.call("i32", "@capi.arena", f["model"], f["function"], state))
    with f.when(code.get().equals(0)):
        prepare = f.load("ptr", program(f, f["model"]), s.P_PREPARE)
        status = f.call("i32", prepare, state + STATE_BLOCK).to("i64", signed=True)
        code.set(f.call("i32", "@capi.status", f["function"], status))
    f.call("void", "@capi.put", f["model"], f["function"], state)
    f.give(code.get())


def _destroy(m: Writer, tables: list[str]) -> None:
    f = m.define("void", "capi.unmap", {"mapping": "ptr", "mapped": "i64"})
    with f.when(~f["mapping"].is_null):
        f.call("i32", "@munmap", f["mapping"], f["mapped"])
    f.give()
    f = m.define("void", "capi.destroy", {"model": "ptr"})
    with f.when(f["model"].is_null):
        f.give()
    for k in range(len(tables)):
        at = s.FIRST_FUNCTION + s.FUNCTION_BYTES * k
        f.call("void", "@free", f.load("ptr", f["model"], at))
        state = f.variable("ptr", f.load("ptr", f["model"], at + 8))

        def left(state: Variable = state) -> Value:
            return ~state.get().is_null

        with f.while_(left):
            own = state.get()
            state.set(f.load("ptr", own))
            f.call("void", "@free", f.load("ptr", own, STATE_BLOCK + SLOT_ARENA * 8))
            f.call("void", "@free", own)
    f.call("i32", "@pthread_mutex_destroy", f["model"] + M_LOCK)
    mapping, mapped = f.load("ptr", f["model"], M_MAP), f.load("i64", f["model"], M_MAPPED)
    f.call("void", "@capi.unmap", mapping, mapped)
    f.call("void", "@free", f["model"])
    f.give()
