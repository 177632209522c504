"""What work costs on a machine, and from where on something pays: a table that passes ask.

    target.machine.cheap_flops

Fusion, layout, schedules, code generation and cost estimates take their thresholds from here, so
that another kind of device is another table. Sizes that follow from the registers and caches are
not here but in `Target`; what accuracy asks for stands where sums are made (`schedule/sums.py`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Products:
    """Costs of a register block of `rows` x `vectors`, in products of vectors, and from where on
    the blocks of a contraction change.

    A sum's result is there after `latency` products; a vector arrives from L2 during `arrival`. A
    load costs `near_load` from L1 and `far_load` from L2; an element of A `spread_load` on a target
    without fused products, which has no load for all lanes either, and `crowded_load` where more
    rows lie in one set of L1 than it holds (of `way` bytes, `other_ways` of which B and results
    take), and `part_load` where it is an operand of the product, `many_part_load` where that is so
    for more than `stream_rows` rows: so many streams of A run ahead by themselves. Few rows are cut
    into blocks of these up to `few_blocks`: above, a panel of B passes by too often. Finding the
    place of a row that is not straight takes as long as `row_work` terms. What a loop does beside
    costs `own_work` for each term. It shares issue slots with products, and a core that runs two
    threads has few: so a step takes `unroll` terms, and the innermost loop of a sum is unrolled
    where it has at most `short_loop`. Fewer than `short_run` terms are too few for a guard around
    them, or for hints.

    A panel of B holds the longest of `depths` terms of which L2 has `depth_vectors` vectors for
    each. About `block_rows` rows of A pass by it; `block_panels` share a part of A that does not
    stay in L2. Work of `shared_work` multiplications is cut in `shares` for threads, of at least
    `near_tiles` register blocks where these share a panel in L1. A product of fewer than
    `few_rows` rows is not worth a copy of B. `many_panels` are enough for threads
    to share: then blocks of A have all rows that may be.

    Rows of B that lie `far_rows` bytes apart have few sets of L1 of their own. Such a B is copied
    although it could be read where it lies, where `copied_rows` rows of A pass by it: a copy then
    costs less than a tenth of the product. `packed_rows` of its rows are read together.

    A step of a loop asks for at most `hints` cache lines. A tile that is alone with its panel asks
    for what lies `ahead` bytes further on: that arrives while as many are used.

    Winograd, in multiply-adds of one lane: `transform` for an element of the transformed inputs or
    results, made and read again; `filter` for an element of the filters read from memory. At least
    `winograd_tiles` share a panel of filters; filters of one part in `winograd_filters` of L2 leave
    room for a block.
    """

    latency: int = 8
    arrival: int = 3
    near_load: float = 0.5
    far_load: float = 1.0
    spread_load: float = 1.0
    crowded_load: float = 1.5
    part_load: float = 0.15
    many_part_load: float = 0.3
    stream_rows: int = 17
    few_blocks: int = 3
    row_work: int = 16
    own_work: float = 1.5
    unroll: int = 4
    short_loop: int = 8
    short_run: int = 32
    way: int = 4 << 10
    other_ways: int = 3
    depths: tuple[int, ...] = (256, 512, 768, 1024, 1536)
    depth_vectors: int = 20
    block_rows: int = 128
    block_panels: int = 4
    shares: int = 8
    shared_work: int = 1 << 18
    near_tiles: int = 3
    few_rows: int = 8
    many_panels: int = 16
    far_rows: int = 2 << 10
    copied_rows: int = 128
    packed_rows: int = 32
    hints: int = 8
    ahead: int = 4 << 10
    transform: int = 26
    filter: int = 18
    winograd_tiles: int = 14
    winograd_filters: int = 3


@dataclass(frozen=True)
class Rows:
    """What is not a contraction. A tile of a pointwise kernel has `block` elements. A loop of at
    most `light` operations has `vectors` vectors in flight: beyond, constants and accumulators
    spill. A loop of `hinted` operations hides the cost of prefetching what the next grid point
    reads. A transposition goes by squares of `squares` vectors along each side. A stage whose value
    changes along an axis is cut there in at most `pieces` parts.
    """

    block: int = 4096
    vectors: int = 4
    light: int = 16
    hinted: int = 8
    squares: int = 8
    pieces: int = 64


@dataclass(frozen=True)
class Code:
    """What instructions do best with memory and registers.

    A buffer of at most `stack` bytes lies on the stack, another one in its thread's scratch. The
    scratches of two threads lie `apart` bytes from one another, so that what is prefetched past the
    end of one is not the other.

    Each product of a row loads its element of A by itself where the row has at most `own_loads`
    vectors: of more, the loads are too many.

    Under a false guard a load reads zeros, of which there is a page of at most `zeros` bytes. A
    known offset of at most `near_zeros` bytes is added to the address behind the guard.

    A shuffle is one instruction among the elements of a block of `shuffled` bytes.
    """

    stack: int = 32 << 10
    apart: int = 512
    own_loads: int = 2
    zeros: int = 64 << 10
    near_zeros: int = 4 << 10
    shuffled: int = 16


@dataclass(frozen=True)
class Machine:
    """Costs and thresholds of one kind of device; the defaults are those of CPUs.

    A cache line has `line` bytes.

    An estimate of a kernel's time: an operation of one lane takes `flop_ps` (eight lanes at a
    time), moving a byte from memory `byte_ps`, packing an element `pack_ns`.

    Substitution: work of `cheap_flops` may be done again in each of `cheap_readers` consumers.

    Products with the same weights become one from `merged_products` on, of at most `merged_rows`
    rows each: beyond, it is not reading the weights that takes the time.

    A reduction of `shared_points` or more with fewer than `shared_units` results for threads to
    share is cut in about `parts` parts; `unit_lanes` results side by side are one unit. Kernels are
    not joined where that leaves so few to share.

    Grouping: a kernel without a grid may do `serial_points`; one grid point may take
    `scratch_bytes` of a constant size; a right factor of `panel_elements` is read again for every
    panel of rows.

    Layout: an image is copied to channels-last for a convolution of at least `turned_channels`
    channels whose elements take part in `turned_reuse` products; results of fewer than
    `few_columns` do not fill vectors; an output is copied where both innermost dimensions have
    `turned_points`.

    Overlapped tiling: at least `overlap_blocks` for threads to share, of at least `overlap_points`
    of an image, so that weights are read for many; weights take at most one part in
    `overlap_weights` of L1. There a byte that goes beyond L2 takes `cached_byte_ps`, and an
    operation of a convolution `convolution_flop_ps`, as measured on the first layers of MobileNet
    with AVX-512.

    A thread is worth waking for work of `grain_ns`. A copy of up to `handed_on_bytes` takes less
    than a launch or two.

    `products` are the costs of contractions, `rows` the sizes of other kernels' loops, `code` what
    code generation goes by.
    """

    line: int = 64
    flop_ps: int = 20
    byte_ps: int = 80
    pack_ns: int = 1
    cheap_flops: int = 12
    cheap_readers: int = 4
    merged_products: int = 3
    merged_rows: int = 128
    parts: int = 16
    shared_points: int = 1 << 17
    shared_units: int = 4
    unit_lanes: int = 32
    serial_points: int = 8192
    scratch_bytes: int = 256 << 10
    panel_elements: int = 128 << 10
    turned_channels: int = 16
    turned_reuse: int = 200
    few_columns: int = 8
    turned_points: int = 8
    overlap_blocks: int = 12
    overlap_points: int = 64
    overlap_weights: int = 2
    cached_byte_ps: int = 40
    convolution_flop_ps: int = 10
    grain_ns: int = 8000
    handed_on_bytes: int = 512
    products: Products = Products()
    rows: Rows = Rows()
    code: Code = Code()


CPU = Machine()
