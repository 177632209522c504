"""Calls: the plan of a call, which is its dims and all extents, and the run on a state.

A state is what one call owns while it runs: 16 bytes, the next free state and the bytes of its
arena, and then the argument block (`ferrule.base.artifact`). Free states are a list of the model,
under its lock. An arena is kept between calls and grows when dims ask for more.
"""

from __future__ import annotations

from ferrule.base.artifact import (
    ALIGNMENT,
    SLOT_ARENA,
    SLOT_CONST,
    SLOT_FIRST,
    SLOT_HOST,
    SLOT_THREADS,
)
from ferrule.codegen.capi import spec as s
from ferrule.codegen.capi import tensors as t
from ferrule.codegen.capi.body import Body, Value, Variable, Writer
from ferrule.codegen.capi.message import CODES, Shape, Text, fail

M_LEVEL, M_THREADS, M_MAP, M_MAPPED, M_WEIGHTS, M_LOCK, M_HOST = 0, 8, 16, 24, 32, 40, s.HOST
STATE_ARENA, STATE_BLOCK = 8, 16
_ROW = 8


def define_calls(m: Writer) -> None:
    """Defines `capi.output_shapes`, `capi.run`, and what they and `capi.model` call."""
    _scalar(m)
    _values(m)
    _dims(m)
    _extents(m)
    _plan(m)
    _output_shapes(m)
    _states(m)
    _arena(m)
    _outputs(m)
    _run(m)


def _word(f: Body, offset: int, kind: str = "i64") -> Value:
    """A word of the function's table."""
    return f.load(kind, f["function"], offset)


def _scalar(m: Writer) -> None:
    """The number in an integer tensor of rank 0."""
    f = m.define("i64", "capi.scalar", {"spec": "ptr", "tensor": "ptr"})
    packed, at = f.load("i32", f["spec"], f.spec.dtype), t.data_of(f, f["tensor"])
    for bits in (8, 16, 32):
        for code, signed in ((0, True), (1, False)):
            with f.when((packed & 0xFFFF).equals(bits << 8 | code)):
                f.give(f.load(f"i{bits}", at).to("i64", signed))
    f.give(f.load("i64", at))


def _values(m: Writer) -> None:
    """Writes "n = 3, m = 4"."""
    f = m.define("void", "capi.values", {"to": "ptr", "function": "ptr", "dims": "ptr"})
    with f.each(_word(f, s.F_DIMS)) as i:
        with f.when(i.more(0)):
            f.call("void", "@capi.text", f["to"], f.value("ptr", m.text(", ")))
        name = f.load("ptr", _word(f, s.F_DIM, "ptr") + i * s.DIM_BYTES, s.D_NAME)
        f.call("void", "@capi.text", f["to"], name)
        f.call("void", "@capi.text", f["to"], f.value("ptr", m.text(" = ")))
        f.call("void", "@capi.number", f["to"], f.load("i64", f["dims"] + i * _ROW))
    f.give()


def _dims(m: Writer) -> None:
    """Reads one dim, and checks that the code takes it."""
    f = m.define(
        "i32", "capi.dim",
        {"function": "ptr", "dim": "ptr", "spec": "ptr", "role": "ptr", "tensor": "ptr",
         "out": "ptr"},
    )  # fmt: skip
    axis, value = f.load("i64", f["dim"], s.D_AXIS), f.variable("i64", 0)
    with f.when(axis.less(0)):
        t.checked(f, "@capi.dense", *(f[n] for n in ("function", "spec", "role", "tensor")))
        value.set(f.call("i64", "@capi.scalar", f["spec"], f["tensor"]))
    shape = f.load("ptr", f["tensor"], f.tensor.shape)
    with f.when(~axis.less(0)):
        value.set(f.load("i64", shape + axis * _ROW))
    n = value.get()
    f.store(n, f["out"])
    lo, hi, multiple = (f.load("i64", f["dim"], at) for at in (s.D_LO, s.D_HI, s.D_MULTIPLE))
    wrong = n.less(lo) | n.more(hi) | f.call("i64", "@capi.floormod", n, multiple).differs(0)
    with f.when(wrong):
        expected = Text(f.load("ptr", f["dim"], s.D_EXPECTED))
        with f.when(axis.less(0)):
            fail(m, f, "RANGE", *t.named(f), " must be ", expected, ", got ", n,
                 "; compile it again for this size")  # fmt: skip
        text = Text(f.load("ptr", f["spec"], f.spec.text))
        fail(m, f, "RANGE", *t.named(f), ": axis ", axis, " must be ", expected, ", got ", n,
             "; expected ", text, ", got ", Shape(shape, t.rank_of(f, f["spec"])),
             "; compile it again for this size")  # fmt: skip
    f.give(0)


def _extents(m: Writer) -> None:
    """Compares a tensor's sizes with the extents that the dims give."""
    f = m.define(
        "i32", "capi.extents",
        {"function": "ptr", "spec": "ptr", "role": "ptr", "tensor": "ptr", "wanted": "ptr"},
    )  # fmt: skip
    shape, rank = f.load("ptr", f["tensor"], f.tensor.shape), t.rank_of(f, f["spec"])
    text = Text(f.load("ptr", f["spec"], f.spec.text))
    with f.each(rank) as i:
        given, wanted = (f.load("i64", p + i * _ROW) for p in (shape, f["wanted"]))
        with f.when(given.differs(wanted)):
            pieces = (
                *t.named(f), ": axis ", i, " must be ", wanted, ", not ", given, "; expected ",
                text, " = ", Shape(f["wanted"], rank), ", got ", Shape(shape, rank),
            )  # fmt: skip
            fail(m, f, "SIZE", *pieces)
    f.give(0)


def _plan(m: Writer) -> None:
    """Checks inputs, and writes dims and sizes. All inputs are checked for what they are before
    dims are read from some.
    """
    f = m.define(
        "i32", "capi.plan", {"function": "ptr", "tensors": "ptr", "dims": "ptr", "sizes": "ptr"}
    )
    role = f.value("ptr", m.text("input"))
    count, specs = _word(f, s.F_INPUTS), _word(f, s.F_INPUT, "ptr")
    with f.when(f["tensors"].is_null & count.more(0)):
        fail(m, f, "NULL", "the inputs of ", Text(_word(f, s.F_NAME, "ptr")), " are null")
    with f.each(count) as i:
        spec, tensor = t.each_tensor(specs, f["tensors"], i)
        t.checked(f, "@capi.tensor", f["function"], spec, role, tensor)
    with f.each(_word(f, s.F_DIMS)) as i:
        dim = _word(f, s.F_DIM, "ptr") + i * s.DIM_BYTES
        spec, tensor = t.each_tensor(specs, f["tensors"], f.load("i64", dim, s.D_INPUT))
        out = f["dims"] + i * _ROW
        t.checked(f, "@capi.dim", f["function"], dim, spec, role, tensor, out)
    f.call("void", _word(f, s.F_SIZES, "ptr"), f["dims"], f["sizes"])
    at = f.variable("ptr", f["sizes"])
    with f.each(count) as i:
        spec, tensor = t.each_tensor(specs, f["tensors"], i)
        t.checked(f, "@capi.extents", f["function"], spec, role, tensor, at.get())
        at.set(at.get() + t.rank_of(f, spec) * _ROW)
    t.checked(f, "@capi.guards", f["function"], f["dims"], f["sizes"])
    f.give(0)
    f = m.define("i32", "capi.guards", {"function": "ptr", "dims": "ptr", "sizes": "ptr"})
    holds = f["sizes"] + _word(f, s.F_EXTENTS) * _ROW
    with f.each(_word(f, s.F_GUARDS)) as i, f.when(f.load("i64", holds + i * _ROW).equals(0)):
        buffer = f.call("ptr", "@capi.begin")
        reason = f.load("ptr", _word(f, s.F_GUARD, "ptr") + i * _ROW)
        words = (_word(f, s.F_NAME, "ptr"), " was compiled for ", reason,
                 ", which does not hold for ")  # fmt: skip
        for w in words:
            text = w if isinstance(w, Value) else f.value("ptr", m.text(w))
            f.call("void", "@capi.text", buffer, text)
        f.call("void", "@capi.values", buffer, f["function"], f["dims"])
        again = f.value("ptr", m.text("; compile it again for these shapes"))
        f.call("void", "@capi.text", buffer, again)
        f.give(CODES["RANGE"][0])
    f.give(0)


def _rooms(f: Body) -> tuple[Value, Value]:
    """Places for dims and for sizes, guards with them."""
    words = _word(f, s.F_EXTENTS) + _word(f, s.F_GUARDS)
    return f.room(_word(f, s.F_DIMS) * _ROW + 8), f.room(words * _ROW + 8)


def _after_inputs(f: Body, sizes: Value) -> Variable:
    """Where the extents of outputs begin."""
    at = f.variable("ptr", sizes)
    with f.each(_word(f, s.F_INPUTS)) as i:
        rank = t.rank_of(f, _word(f, s.F_INPUT, "ptr") + i * f.spec.bytes)
        at.set(at.get() + rank * _ROW)
    return at


def _output_shapes(m: Writer) -> None:
    f = m.define(
        "i32", "capi.output_shapes", {"function": "ptr", "inputs": "ptr", "outputs": "ptr"}
    )
    dims, sizes = _rooms(f)
    t.checked(f, "@capi.plan", f["function"], f["inputs"], dims, sizes)
    count = _word(f, s.F_OUTPUTS)
    with f.when(f["outputs"].is_null & count.more(0)):
        fail(m, f, "NULL", "the outputs of ", Text(_word(f, s.F_NAME, "ptr")), " are null")
    at = _after_inputs(f, sizes)
    with f.each(count) as i:
        spec, tensor = t.each_tensor(_word(f, s.F_OUTPUT, "ptr"), f["outputs"], i)
        rank, shape = t.rank_of(f, spec), f.load("ptr", tensor, f.tensor.shape)
        f.store(f.value("i32", t.CPU), tensor, f.tensor.device)
        f.store(rank.to("i32"), tensor, f.tensor.rank)
        f.store(f.load("i32", spec, f.spec.dtype), tensor, f.tensor.dtype)
        with f.when(~shape.is_null), f.each(rank) as k:
            f.store(f.load("i64", at.get() + k * _ROW), shape + k * _ROW)
        at.set(at.get() + rank * _ROW)
    f.give(0)


def _states(m: Writer) -> None:
    """`take` gives a free state or a new one, null without memory; `put` makes it free."""
    params = {"model": "ptr", "function": "ptr"}
    f = m.define("ptr", "capi.take", params)
    head, lock = f["model"] + _word(f, s.F_STATES) + 8, f["model"] + M_LOCK
    f.call("i32", "@pthread_mutex_lock", lock)
    found = f.load("ptr", head)
    with f.when(~found.is_null):
        f.store(f.load("ptr", found), head)
    f.call("i32", "@pthread_mutex_unlock", lock)
    with f.when(~found.is_null):
        f.give(found)
    f.give(f.call("ptr", "@capi.state", f["model"], f["function"]))

    f = m.define("ptr", "capi.state", params)
    size = _word(f, s.F_SLOTS) * _ROW + STATE_BLOCK
    made = f.call("ptr", "@calloc", size, f.value("i64", 1))
    with f.when(made.is_null):
        f.give(made)
    block = made + STATE_BLOCK
    f.store(f.load("i64", f["model"], M_THREADS), block, SLOT_THREADS * _ROW)
    constants = f.load("ptr", f["model"] + _word(f, s.F_STATES))
    f.store(constants, block, SLOT_CONST * _ROW)
    f.store(f["model"] + M_HOST, block, SLOT_HOST * _ROW)
    before = _word(f, s.F_PLACES) + _word(f, s.F_MADES) + _word(f, s.F_DIMS)
    first, weights = block + (before + SLOT_FIRST) * _ROW, f.load("ptr", f["model"], M_WEIGHTS)
    with f.each(_word(f, s.F_PARAMS)) as i:
        offset = f.load("i64", _word(f, s.F_PARAM, "ptr") + i * _ROW)
        f.store(weights + offset, first + i * _ROW)
    f.give(made)

    f = m.define("void", "capi.put", {**params, "state": "ptr"})
    head, lock = f["model"] + _word(f, s.F_STATES) + 8, f["model"] + M_LOCK
    f.call("i32", "@pthread_mutex_lock", lock)
    f.store(f.load("ptr", head), f["state"])
    f.store(f["state"], head)
    f.call("i32", "@pthread_mutex_unlock", lock)
    f.give()


def program(f: Body, model: Value) -> Value:
    """The program of the level that the model uses."""
    return _word(f, s.F_PROGRAM, "ptr") + f.load("i64", model, M_LEVEL) * s.PROGRAM_BYTES


def memory(f: Body, size: Value) -> Value:
    """Memory for a program, aligned; null where there is none."""
    whole = (size + (ALIGNMENT - 1)) & -ALIGNMENT
    some = f.choose(whole.less(ALIGNMENT), f.value("i64", ALIGNMENT), whole)
    return f.call("ptr", "@aligned_alloc", f.value("i64", ALIGNMENT), some)


def _arena(m: Writer) -> None:
    """Makes a state's arena as large as its block asks for."""
    f = m.define("i32", "capi.arena", {"model": "ptr", "function": "ptr", "state": "ptr"})
    block = f["state"] + STATE_BLOCK
    ask = f.load("ptr", program(f, f["model"]), s.P_ARENA)
    needed, arena = f.call("i64", ask, block), block + SLOT_ARENA * _ROW
    with f.when(needed.less(0)):
        fail(m, f, "MEMORY", Text(_word(f, s.F_NAME, "ptr")), ": these sizes are too large")
    enough = ~f.load("i64", f["state"], STATE_ARENA).less(needed)
    with f.when(enough & ~f.load("ptr", arena).is_null):
        f.give(0)
    f.call("void", "@free", f.load("ptr", arena))
    made = memory(f, needed)
    f.store(made, arena)
    f.store(f.choose(made.is_null, f.value("i64", 0), needed), f["state"], STATE_ARENA)
    with f.when(made.is_null):
        fail(m, f, "MEMORY", "out of memory: ", Text(_word(f, s.F_NAME, "ptr")), " needs ", needed,
             " bytes for intermediate results")  # fmt: skip
    f.give(0)


def _outputs(m: Writer) -> None:
    """Checks the tensors that results are written to, and writes those that the program does not
    make.
    """
    params = {"function": "ptr", "tensors": "ptr", "sizes": "ptr"}
    f = m.define("i32", "capi.outputs", params)
    role, count = f.value("ptr", m.text("output")), _word(f, s.F_OUTPUTS)
    with f.when(f["tensors"].is_null & count.more(0)):
        fail(m, f, "NULL", "the outputs of ", Text(_word(f, s.F_NAME, "ptr")), " are null")
    at = _after_inputs(f, f["sizes"])
    with f.each(count) as i:
        spec, tensor = t.each_tensor(_word(f, s.F_OUTPUT, "ptr"), f["tensors"], i)
        t.checked(f, "@capi.tensor", f["function"], spec, role, tensor)
        t.checked(f, "@capi.extents", f["function"], spec, role, tensor, at.get())
        t.checked(f, "@capi.dense", f["function"], spec, role, tensor)
        at.set(at.get() + t.rank_of(f, spec) * _ROW)
    f.give(0)

    f = m.define("void", "capi.copies", {"model": "ptr", "function": "ptr", "tensors": "ptr"})
    with f.each(_word(f, s.F_OUTPUTS)) as i:
        spec, tensor = t.each_tensor(_word(f, s.F_OUTPUT, "ptr"), f["tensors"], i)
        fixed = f.load("i64", _word(f, s.F_FIXED, "ptr") + i * _ROW)
        copied = f.load("i64", _word(f, s.F_COPY, "ptr") + i * _ROW)
        size = f.call("i64", "@capi.bytes", spec, tensor)
        with f.when(~fixed.less(0) & size.more(0)):
            source = f.load("ptr", f["model"], M_WEIGHTS) + fixed
            f.call("ptr", "@memcpy", t.data_of(f, tensor), source, size)
        with f.when(~copied.less(0) & size.more(0)):
            source = t.data_of(f, f["tensors"] + copied * f.tensor.bytes)
            f.call("ptr", "@memcpy", t.data_of(f, tensor), source, size)
    f.give()


def _run(m: Writer) -> None:
    f = m.define(
        "i32", "capi.run", {"model": "ptr", "function": "ptr", "inputs": "ptr", "outputs": "ptr"}
    )
    with f.when(f["model"].is_null):
        fail(m, f, "NULL", "the model is null")
    dims, sizes = _rooms(f)
    role, specs = f.value("ptr", m.text("input")), _word(f, s.F_INPUT, "ptr")
    t.checked(f, "@capi.plan", f["function"], f["inputs"], dims, sizes)
    with f.each(_word(f, s.F_INPUTS)) as i:
        spec, tensor = t.each_tensor(specs, f["inputs"], i)
        t.checked(f, "@capi.dense", f["function"], spec, role, tensor)
    t.checked(f, "@capi.outputs", f["function"], f["outputs"], sizes)
    state = f.call("ptr", "@capi.take", f["model"], f["function"])
    with f.when(state.is_null):
        fail(m, f, "MEMORY", "out of memory for a call of ", Text(_word(f, s.F_NAME, "ptr")))
    args = (f[n] for n in ("model", "function", "inputs", "outputs"))
    code = f.call("i32", "@capi.launch", *args, dims, state)
    f.call("void", "@capi.put", f["model"], f["function"], state)
    with f.when(code.equals(0)):
        f.call("void", "@capi.copies", f["model"], f["function"], f["outputs"])
    f.give(code)
    _launch(m)


def _launch(m: Writer) -> None:
    """Fills in the argument block of a state, and runs the program."""
    f = m.define(
        "i32", "capi.launch",
        {"model": "ptr", "function": "ptr", "inputs": "ptr", "outputs": "ptr", "dims": "ptr",
         "state": "ptr"},
    )  # fmt: skip
    at = f.variable("ptr", f["state"] + STATE_BLOCK + SLOT_FIRST * _ROW)
    for count, table, tensors in (
        (s.F_PLACES, s.F_PLACE, f["inputs"]), (s.F_MADES, s.F_MADE, f["outputs"]),
    ):  # fmt: skip
        with f.each(_word(f, count)) as i:
            place = f.load("i64", _word(f, table, "ptr") + i * _ROW)
            f.store(t.data_of(f, tensors + place * f.tensor.bytes), at.get())
            at.set(at.get() + _ROW)
    with f.each(_word(f, s.F_DIMS)) as i:
        f.store(f.load("i64", f["dims"] + i * _ROW), at.get())
        at.set(at.get() + _ROW)
    t.checked(f, "@capi.arena", f["model"], f["function"], f["state"])
    entry = f.load("ptr", program(f, f["model"]), s.P_ENTRY)
    status = f.call("i32", entry, f["state"] + STATE_BLOCK).to("i64", signed=True)
    f.give(f.call("i32", "@capi.status", f["function"], status))

    f = m.define("i32", "capi.status", {"function": "ptr", "status": "i64"})
    name, status = Text(_word(f, s.F_NAME, "ptr")), f["status"]
    with f.when(status.equals(0)):
        f.give(0)
    with f.when(status.less(1) | status.more(_word(f, s.F_ERRORS))):
        fail(m, f, "RUN", name, " failed with code ", status)
    error = _word(f, s.F_ERROR, "ptr") + (status - 1) * s.ERROR_BYTES
    with f.when(f.load("i64", error, 8).differs(0)):
        fail(m, f, "INDEX", name, ": ", Text(f.load("ptr", error)))
    fail(m, f, "RUN", name, ": ", Text(f.load("ptr", error)))
