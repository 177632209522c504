"""What work costs on a machine, and from where on something pays: a table that passes ask.

    target.machine.cheap_flops

Fusion, layout and cost estimates take their thresholds from here, so that another kind of device is
another table. Sizes that follow from the registers and caches are not here but in `Target`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """Costs and thresholds of one kind of device; the defaults are those of CPUs.

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
    """

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


CPU = Machine()
