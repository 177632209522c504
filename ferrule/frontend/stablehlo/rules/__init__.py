"""Rules by family; importing this package fills the table."""

from ferrule.frontend.stablehlo.rules import (
    control,
    dynamic,
    elements,
    folds,
    products,
    shapes,
    slices,
)

__all__ = ["control", "dynamic", "elements", "folds", "products", "shapes", "slices"]
