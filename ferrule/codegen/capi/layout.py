"""Where the fields of the header's structs lie, for pointers of 8 bytes and of 4 (WebAssembly).

    layout = pointer | DLTensor | NAME_spec | NAME_options

All else that the library holds is words of 8 bytes, a pointer of 4 in the first half of its own.
"""

from __future__ import annotations

from typing import NamedTuple


class TensorAt(NamedTuple):
    """DLTensor's fields."""

    data: int
    device: int
    device_id: int
    rank: int
    dtype: int
    shape: int
    strides: int
    offset: int
    bytes: int


class SpecAt(NamedTuple):
    """NAME_spec's fields."""

    name: int
    text: int
    shape: int
    order: int
    rank: int
    dtype: int
    bytes: int


class OptionsAt(NamedTuple):
    """NAME_options' fields."""

    size: int
    threads: int
    parallel: int
    user: int
    bytes: int


class Layout(NamedTuple):
    """The structs of a platform whose pointers, and `size_t`, have so many bytes."""

    pointer: int
    tensor: TensorAt
    spec: SpecAt
    options: OptionsAt

    @property
    def size_type(self) -> str:
        """LLVM's type of `size_t`."""
        return f"i{8 * self.pointer}"

    @property
    def has_system(self) -> bool:
        """Whether there is a C library with files and threads."""
        return self.pointer == 8


def layout_of(pointer: int) -> Layout:
    """The layout for pointers of 8 or 4 bytes."""
    p = pointer
    return Layout(
        p,
        TensorAt(*_places(p, 4, 4, 4, 4, p, p, 8)),
        SpecAt(*_places(p, p, p, p, 4, 4)),
        OptionsAt(*_places(p, 4, p, p)),
    )


def _places(*sizes: int) -> list[int]:
    """Offsets of fields, each at a multiple of its size, and the size of all."""
    places, at = [], 0
    for size in sizes:
        at += -at % size
        places.append(at)
        at += size
    return [*places, at + -at % max(sizes)]


WIDE, NARROW = layout_of(8), layout_of(4)
