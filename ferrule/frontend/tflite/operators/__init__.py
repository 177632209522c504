"""Builders by family; importing this package fills the table."""

from ferrule.frontend.tflite.operators import control, elements, products, recurrent, shapes

__all__ = ["control", "elements", "products", "recurrent", "shapes"]
