"""Rules by family; importing this package fills the table."""

from ferrule.frontend.stablehlo.rules import (
    collectives,
    complex,
    control,
    dynamic,
    elements,
    fft,
    folds,
    lapack,
    linalg,
    norms,
    products,
    shapes,
    slices,
)

__all__ = [
    "collectives", "complex", "control", "dynamic", "elements", "fft", "folds", "lapack",
    "linalg", "norms", "products", "shapes", "slices",
]  # fmt: skip
