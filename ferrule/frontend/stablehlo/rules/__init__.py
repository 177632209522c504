"""Rules by family; importing this package fills the table."""

from ferrule.frontend.stablehlo.rules import (
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
    "complex", "control", "dynamic", "elements", "fft", "folds", "lapack", "linalg", "norms",
    "products", "shapes", "slices",
]  # fmt: skip
