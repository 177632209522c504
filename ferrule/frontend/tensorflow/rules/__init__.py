"""Rules by family; importing this package fills the table."""

from ferrule.frontend.tensorflow.rules import (
    control,
    elements,
    images,
    lists,
    loops,
    places,
    products,
    reduce,
    shapes,
    slices,
    variables,
    windows,
)

__all__ = [
    "control", "elements", "images", "lists", "loops", "places", "products", "reduce", "shapes",
    "slices", "variables", "windows",
]  # fmt: skip
