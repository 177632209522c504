"""Random bits as a function of a state: StableHLO's `rng_bit_generator`, by generators that count.

    THREE_FRY   threefry2x32 of 20 rounds: a key and a counter, u64 each
    PHILOX      philox4x32 of 10 rounds: a key of u64 and a counter of 128 bits, lower half first,
                whose upper half is the key where the state has none

Each element is a word of the block that its place has (Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3", 2011). Places are counted as XLA counts them, so that numbers are the same there:
words of a philox block lie side by side; the two of a threefry block along one dim, the first of an
even size, else the longest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ferrule.base.dtype import DType, from_storage, u32, u64
from ferrule.base.errors import CompileError
from ferrule.ir.expr import ZERO, Buf, Expr, bitcast, call, cast, ceildiv, const, load, product
from ferrule.ir.expr import eq as same
from ferrule.ir.expr import select as choose
from ferrule.ir.graph import (
    Attrs,
    ComputeContext,
    GraphBuilder,
    Shape,
    TensorType,
    Value,
    tensor,
)
from ferrule.ir.simplify import prove, simplify
from ferrule.ir.system import Access, Compute, Stage
from ferrule.ops import elementary as el
from ferrule.ops.bits import unsigned
from ferrule.ops.create import full
from ferrule.ops.join import concat
from ferrule.ops.op import Array, define, stage
from ferrule.ops.slices import slice_axis
from ferrule.ops.view import reshape, sizes_of

Size = Expr | int
_STATES = {"THREE_FRY": (2,), "PHILOX": (2, 3)}  # words of u64
_WORDS = {"THREE_FRY": 2, "PHILOX": 4}  # of u32 in a block

# ---- where an element's word stands --------------------------------------------------------------


def _wide(dtype: DType) -> bool:
    return dtype.bits == 64


def _split_dim(shape: Shape) -> int:
    """The dim along which the two words of a threefry block lie."""
    for d, n in enumerate(shape):
        if prove(same(n % 2, ZERO)):
            return d
    sizes = [n.value if n.is_const else 0 for n in shape]
    return sizes.index(max(sizes))


def _halved(shape: Shape) -> Shape:
    d = _split_dim(shape)
    return (*shape[:d], simplify(ceildiv(shape[d], 2)), *shape[d + 1 :])


def _block_count(shape: Shape, algorithm: str, dtype: DType) -> Expr:
    """How many blocks a tensor takes."""
    total = product(shape)
    if algorithm == "PHILOX":
        return simplify(ceildiv(total, 2 if _wide(dtype) else 4))
    if _wide(dtype) or not shape:
        return simplify(total)
    return simplify(product(_halved(shape)))


def _place(axes: Sequence[Expr], shape: Shape, algorithm: str, dtype: DType) -> tuple[Expr, Expr]:
    """(block, which word or pair of words of it) of the element at `axes`."""
    if algorithm == "PHILOX":
        at = _flat(axes, shape)
        each = 2 if _wide(dtype) else 4
        return simplify(at // each), simplify(at % each)
    if _wide(dtype) or not shape:
        return _flat(axes, shape), ZERO
    d = _split_dim(shape)
    block = (*axes[:d], axes[d] // 2, *axes[d + 1 :])
    return _flat(block, _halved(shape)), simplify(axes[d] % 2)


def _flat(axes: Sequence[Expr], shape: Shape) -> Expr:
    at = ZERO
    for a, n in zip(axes, shape, strict=True):
        at = at * n + a
    return simplify(at)


# ---- the generators ------------------------------------------------------------------------------

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PHILOX = ((0xD2511F53, 0x9E3779B9), (0xCD9E8D57, 0xBB67AE85))  # factors, what keys grow by


def _xor(x: Expr, y: Expr) -> Expr:
    return call("xor", x, y)


def _rotated(x: Expr, by: int) -> Expr:
    up, down = (call(op, x, const(k, u32)) for op, k in (("shl", by), ("shr", 32 - by)))
    return call("or", up, down)


def _threefry(key: Sequence[Expr], counter: Sequence[Expr]) -> list[Expr]:
    keys = [*key, _xor(const(0x1BD11BDA, u32), _xor(*key))]
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for i in range(5):
        for by in _ROTATIONS[i % 2]:
            x = x + y
            y = _xor(_rotated(y, by), x)
        x = x + keys[(i + 1) % 3]
        y = y + (keys[(i + 2) % 3] + const(i + 1, u32))
    return [x, y]


def _philox(key: Sequence[Expr], counter: Sequence[Expr]) -> list[Expr]:
    (a, grow_a), (c, grow_c) = _PHILOX
    k, m, x = key[0], key[1], list(counter)
    for _ in range(10):
        low0, high0 = _words(cast(x[0], u64) * const(a, u64))
        low1, high1 = _words(cast(x[2], u64) * const(c, u64))
        x = [_xor(_xor(high1, x[1]), k), low1, _xor(_xor(high0, x[3]), m), low0]
        k, m = k + const(grow_a, u32), m + const(grow_c, u32)
    return x


def _words(x: Expr) -> tuple[Expr, Expr]:
    """The lower and the upper half of a u64."""
    return cast(x, u32), cast(call("shr", x, const(32, u64)), u32)


def _upper(state: Sequence[object]) -> int:
    """Where the upper half of a philox counter stands: XLA takes the key where there is none."""
    return 2 if len(state) > 2 else 0


def _block(algorithm: str, state: Sequence[Expr], place: Expr) -> list[Expr]:
    """The words of the block that is `place` from that of the state."""
    low = state[1] + cast(place, u64)
    if algorithm == "THREE_FRY":
        return _threefry(_words(state[0]), _words(low))
    carry = choose(call("lt", low, state[1]), const(1, u64), const(0, u64))
    high = state[_upper(state)] + carry
    return _philox(_words(state[0]), [*_words(low), *_words(high)])


# ---- the operator --------------------------------------------------------------------------------


def _infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    (state,), algorithm = types, attrs["algorithm"]
    sizes = _STATES[algorithm]
    if state.dtype != u64 or state.rank != 1 or state.shape[0] not in map(const, sizes):
        raise CompileError(f"random_bits by {algorithm} takes a state of {sizes} u64, got {state}")
    if attrs["dtype"].is_bool:
        raise CompileError("random_bits gives integers and floats, no bools")
    return tensor(attrs["shape"], attrs["dtype"])


def _compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    (state,), (out,) = ins, outs
    algorithm, wide = attrs["algorithm"], _wide(out.dtype)
    count = _block_count(out.shape, algorithm, out.dtype)
    words = [ctx.buf("words", (count,), u32) for _ in range(_WORDS[algorithm])]
    (at,) = ctx.axes((count,))
    given = [load(state, const(k)) for k in range(int(state.shape[0].value))]
    targets = tuple(Access(w, (at,)) for w in words)
    put = Compute((at,), tuple(_block(algorithm, given, at)))
    blocks = Stage(ctx.fresh("blocks"), targets, put)
    axes = ctx.axes(out.shape)
    block, which = _place(axes, out.shape, algorithm, out.dtype)
    found = [load(w, block) for w in words]
    if wide:
        found = [
            call("or", cast(low, u64), call("shl", cast(high, u64), const(32, u64)))
            for low, high in zip(found[::2], found[1::2], strict=True)
        ]
    value = found[-1]
    for k in range(len(found) - 2, -1, -1):
        value = choose(same(which, const(k)), found[k], value)
    return [blocks, stage(out, axes, bitcast(cast(value, unsigned(out.dtype)), out.dtype))]


def _meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    (state,), dtype, algorithm = arrays, attrs["dtype"], attrs["algorithm"]
    shape = sizes_of(attrs["shape"])
    sizes = tuple(int(n.value) for n in shape)
    count = int(_block_count(shape, algorithm, dtype).value)
    with np.errstate(over="ignore"):
        words = _BLOCKS[algorithm]([np.uint64(s) for s in state], np.arange(count, dtype=np.uint64))
    if _wide(dtype):
        words = [a | b << np.uint64(32) for a, b in zip(words[::2], words[1::2], strict=True)]
    if algorithm == "PHILOX" or _wide(dtype):
        flat = np.stack(words, -1).reshape(-1)[: int(np.prod(sizes, dtype=np.int64))]
        found = flat.reshape(sizes)
    elif not sizes:
        found = words[0].reshape(())
    else:
        d, halved = _split_dim(shape), [int(n.value) for n in _halved(shape)]
        pairs = np.stack([w.reshape(halved) for w in words], d + 1)
        found = pairs.reshape(*halved[:d], 2 * halved[d], *halved[d + 1 :])
        found = np.take(found, np.arange(sizes[d]), d)
    stored = found.astype(unsigned(dtype).numpy)
    return from_storage(np.ascontiguousarray(stored).reshape(sizes).view(dtype.numpy), dtype)


def _halves(x: Array) -> tuple[Array, Array]:
    return x & np.uint64(2**32 - 1), x >> np.uint64(32)


def _threefry_blocks(state: Sequence[Array], places: Array) -> list[Array]:
    """The words, as u64, of the blocks at `places` from the state on."""
    low = np.uint64(2**32 - 1)
    keys = [*_halves(state[0])]
    keys.append(keys[0] ^ keys[1] ^ np.uint64(0x1BD11BDA))
    x, y = ((c + k) & low for c, k in zip(_halves(state[1] + places), keys))
    for i in range(5):
        for by in _ROTATIONS[i % 2]:
            x = (x + y) & low
            y = (y << np.uint64(by) | y >> np.uint64(32 - by)) & low ^ x
        x, y = (x + keys[(i + 1) % 3]) & low, (y + keys[(i + 2) % 3] + np.uint64(i + 1)) & low
    return [x, y]


def _philox_blocks(state: Sequence[Array], places: Array) -> list[Array]:
    key, count = list(_halves(state[0])), state[1] + places
    high = state[_upper(state)] + (count < state[1])
    x = [*_halves(count), *_halves(high)]
    factors, grow = ([np.uint64(pair[k]) for pair in _PHILOX] for k in (0, 1))
    for _ in range(10):
        (low0, high0), (low1, high1) = _halves(x[0] * factors[0]), _halves(x[2] * factors[1])
        x = [high1 ^ x[1] ^ key[0], low1, high0 ^ x[3] ^ key[1], low0]
        key = [_halves(k + g)[0] for k, g in zip(key, grow)]
    return x


_BLOCKS: dict[str, Callable[[Sequence[Array], Array], list[Array]]] = {
    "THREE_FRY": _threefry_blocks, "PHILOX": _philox_blocks,
}  # fmt: skip

define("random_bits", _infer, _meaning, _compute)


def random_bits(
    b: GraphBuilder, state: Value, shape: Sequence[Size], dtype: DType, algorithm: str = "PHILOX"
) -> tuple[Value, Value]:
    """StableHLO's rng_bit_generator: (the state for the next call, random bits as a tensor of
    `shape` and `dtype`). `state` is u64[2], or u64[3] of PHILOX too, which DEFAULT is.

    Numbers of 8 and 16 bits are the lower part of words. Raises CompileError for a state or an
    algorithm that there is none of.
    """
    name = "PHILOX" if algorithm == "DEFAULT" else algorithm
    if name not in _STATES:
        raise CompileError(f"random_bits by {algorithm}: it is none of {', '.join(_STATES)}")
    sizes = sizes_of(shape)
    out: Value = b.emit("random_bits", state, shape=sizes, dtype=dtype, algorithm=name)
    count = full(b, (1,), _block_count(sizes, name, dtype), u64)
    parts = [slice_axis(b, state, 0, k, k + 1) for k in range(int(state.shape[0].value))]
    after = [parts[0], el.add(b, parts[1], count), *parts[2:]]
    if len(parts) > 2:
        carry = el.cast(b, el.lt(b, after[1], parts[1]), u64)
        after[2] = el.add(b, parts[2], carry)
    return reshape(b, concat(b, after, 0), state.shape), out
