"""Checks of tensors that a C program gives: DLTensors (DLPack, `dlpack.h`) against specs.

    DLTensor = data device_type device_id ndim code bits lanes shape strides byte_offset
"""

from __future__ import annotations

from ferrule.codegen.capi.body import Body, Value, Writer
from ferrule.codegen.capi.message import CODES, Piece, Shape, Text, fail

CPU = 1  # DLPack's kDLCPU
_KINDS = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 5: "complex", 6: "bool"}
_CHECKED = {"function": "ptr", "spec": "ptr", "role": "ptr", "tensor": "ptr"}


def named(f: Body) -> tuple[Piece, ...]:
    """What a message calls the tensor that is checked: "input x of main"."""
    spec, function = f.load("ptr", f["spec"], f.spec.name), f.load("ptr", f["function"])
    return Text(f["role"]), " ", Text(spec), " of ", Text(function)


def checked(f: Body, check: str, *args: Value) -> None:
    """Calls a check, and returns its code where it is not 0."""
    code = f.call("i32", check, *args)
    with f.when(code.differs(CODES["OK"][0])):
        f.give(code)


def each_tensor(specs: Value, tensors: Value, i: Value) -> tuple[Value, Value]:
    """The spec and the tensor of index i."""
    at = specs.body.layout
    return specs + i * at.spec.bytes, tensors + i * at.tensor.bytes


def rank_of(f: Body, spec: Value) -> Value:
    return f.load("i32", spec, f.spec.rank).to("i64", signed=True)


def data_of(f: Body, tensor: Value) -> Value:
    """Where a tensor's elements begin."""
    return f.load("ptr", tensor, f.tensor.data) + f.load("i64", tensor, f.tensor.offset)


def define_checks(m: Writer) -> None:
    """Defines `capi.tensor`, which checks all but sizes, strides and memory, `capi.dense`, which
    checks these two for sizes that are right, and `capi.bytes`.
    """
    _names_of_dtypes(m)
    _tensor(m)
    _bytes(m)
    _dense(m)
    _strides(m)


def _names_of_dtypes(m: Writer) -> None:
    f = m.define("void", "capi.dtype", {"to": "ptr", "packed": "i32"})
    code, bits = f["packed"] & 255, f["packed"].right(8) & 255
    lanes = f["packed"].right(16)
    name = f.value("ptr", m.text("unknown"))
    for number, known in _KINDS.items():
        name = f.choose(code.equals(number), f.value("ptr", m.text(known)), name)
    f.call("void", "@capi.text", f["to"], name)
    with f.when(code.differs(6) | bits.differs(8)):
        f.call("void", "@capi.number", f["to"], bits.to("i64"))
    with f.when(lanes.differs(1)):
        f.call("void", "@capi.text", f["to"], f.value("ptr", m.text(" x ")))
        f.call("void", "@capi.number", f["to"], lanes.to("i64"))
    f.give()


def _tensor(m: Writer) -> None:
    f = m.define("i32", "capi.tensor", _CHECKED)
    tensor, rank = f["tensor"], rank_of(f, f["spec"])
    device = f.load("i32", tensor, f.tensor.device)
    with f.when(device.differs(CPU)):
        fail(m, f, "DEVICE", *named(f), " lies on a device of type ", device, ", not the CPU (1)")
    given = f.load("i32", tensor, f.tensor.rank).to("i64", signed=True)
    text = Text(f.load("ptr", f["spec"], f.spec.text))
    with f.when(given.differs(rank)):
        fail(m, f, "RANK", *named(f), " has rank ", rank, " ", text, ", not rank ", given)
    shape = f.load("ptr", tensor, f.tensor.shape)
    with f.when(shape.is_null & rank.more(0)):
        fail(m, f, "NULL", *named(f), " has no shape: its pointer is null")
    with f.each(rank) as i, f.when(f.load("i64", shape + i * 8).less(0)):
        fail(m, f, "SIZE", *named(f), " has a negative size: ", Shape(shape, rank))
    wanted, found = f.load("i32", f["spec"], f.spec.dtype), f.load("i32", tensor, f.tensor.dtype)
    with f.when(wanted.differs(found)):
        buffer = f.call("ptr", "@capi.begin")
        for piece in named(f):
            text_of = piece.place if isinstance(piece, Text) else f.value("ptr", m.text(str(piece)))
            f.call("void", "@capi.text", buffer, text_of)
        f.call("void", "@capi.text", buffer, f.value("ptr", m.text(" has dtype ")))
        f.call("void", "@capi.dtype", buffer, wanted)
        f.call("void", "@capi.text", buffer, f.value("ptr", m.text(", not ")))
        f.call("void", "@capi.dtype", buffer, found)
        f.give(CODES["DTYPE"][0])
    f.give(0)


def _bytes(m: Writer) -> None:
    """How many bytes a tensor has that fits its spec."""
    f = m.define("i64", "capi.bytes", {"spec": "ptr", "tensor": "ptr"})
    shape = f.load("ptr", f["tensor"], f.tensor.shape)
    size = f.variable("i64", _element(f, f["spec"]))
    with f.each(rank_of(f, f["spec"])) as i:
        size.set(size.get() * f.load("i64", shape + i * 8))
    f.give(size.get())


def _element(f: Body, spec: Value) -> Value:
    """Bytes of an element."""
    return (f.load("i32", spec, f.spec.dtype).right(8) & 255).right(3).to("i64")


def _dense(m: Writer) -> None:
    f = m.define("i32", "capi.dense", _CHECKED)
    tensor, element = f["tensor"], _element(f, f["spec"])
    with f.when(f.call("i64", "@capi.bytes", f["spec"], tensor).equals(0)):
        f.give(0)
    with f.when(f.load("ptr", tensor, f.tensor.data).is_null):
        fail(m, f, "NULL", *named(f), " has no data: its pointer is null")
    with f.when((data_of(f, tensor).to("i64") & (element - 1)).differs(0)):
        fail(m, f, "ALIGNMENT", *named(f), " does not begin at a multiple of ", element, " bytes")
    f.give(f.call("i32", "@capi.strides", *(f[n] for n in _CHECKED)))


def _strides(m: Writer) -> None:
    """Strides are null or those of dense memory in the spec's order; null is row-major."""
    f = m.define("i32", "capi.strides", _CHECKED)
    rank, order = rank_of(f, f["spec"]), f.load("ptr", f["spec"], f.spec.order)
    shape, strides = (f.load("ptr", f["tensor"], at) for at in (f.tensor.shape, f.tensor.strides))
    with f.when(strides.is_null & order.is_null):
        f.give(0)
    expected, k = f.variable("i64", 1), f.variable("i64", rank)
    with f.while_(lambda: k.get().more(0)):
        k.set(k.get() - 1)
        axis = f.variable("i64", k.get())
        with f.when(~order.is_null):
            axis.set(f.load("i64", order + k.get() * 8))
        extent = f.load("i64", shape + axis.get() * 8)
        given = f.variable("i64", 0)
        with f.when(~strides.is_null):
            given.set(f.load("i64", strides + axis.get() * 8))
        with f.when(strides.is_null):
            given.set(f.call("i64", "@capi.row_major", shape, rank, axis.get()))
        with f.when(extent.differs(1) & given.get().differs(expected.get())):
            with f.when(~strides.is_null & order.is_null):
                fail(m, f, "STRIDES", *named(f), " is not dense: of sizes ", Shape(shape, rank),
                     " and strides ", Shape(strides, rank), " axis ", axis.get(),
                     " should have stride ", expected.get(), "; copy it, row-major")  # fmt: skip
            fail(m, f, "STRIDES", *named(f), " is not dense with its axes in the order ",
                 Shape(order, rank), ": of sizes ", Shape(shape, rank), " axis ", axis.get(),
                 " should have stride ", expected.get(), ", not ", given.get())  # fmt: skip
        expected.set(expected.get() * extent)
    f.give(0)
    f = m.define("i64", "capi.row_major", {"shape": "ptr", "rank": "i64", "axis": "i64"})
    stride = f.variable("i64", 1)
    i = f.variable("i64", f["axis"] + 1)
    with f.while_(lambda: i.get().less(f["rank"])):
        stride.set(stride.get() * f.load("i64", f["shape"] + i.get() * 8))
        i.set(i.get() + 1)
    f.give(stride.get())
