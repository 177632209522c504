"""Rules by family; importing this package fills the table."""

from ferrule.frontend.stablehlo.rules import (
    complex,
    control,
    dynamic,
    elements,
    folds,
    products,
    shapes,
    slices,
)

__all__ = ["complex", "control", "dynamic", "elements", "folds", "products", "shapes", "slices"]
