"""Rules of operators that TensorFlow does not have; importing this package fills the table."""

from ferrule.frontend.tflite.rules import bytes as _bytes
from ferrule.frontend.tflite.rules import elements, hybrid, products, recurrent
from ferrule.frontend.tflite.table import LITE

__all__ = ["LITE", "_bytes", "elements", "hybrid", "products", "recurrent"]
