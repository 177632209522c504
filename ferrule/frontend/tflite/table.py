"""The table of rules for operators that TensorFlow does not have: "tfl.CONV_2D" -> its rule, as
TensorFlow's own are (`frontend/tensorflow/table.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ferrule.frontend.tensorflow.table import Build, Rule, Text
from ferrule.ir.graph import Value

LITE: dict[str, Rule] = {}


def lite(*names: str) -> Callable[[Build], Build]:
    """Register a rule."""

    def register(build: Build) -> Build:
        LITE.update((f"tfl.{name}", Rule(build)) for name in names)
        return build

    return register


@lite("ABSENT")
def _absent(cx: Any) -> Text:
    """An operand that is left out."""
    return Text()


def there(x: Any) -> Value | None:
    """An operand, None where it is left out."""
    return x if isinstance(x, Value) else None
