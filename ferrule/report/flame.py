"""Time by module of the user's model, as an icicle: the model on top, its modules below, and at
the lower ends the kernels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

from ferrule.report.amount import percent, seconds
from ferrule.report.charts import CLASSES, WIDTH, figure
from ferrule.report.data import Kernel, Report

_ROW, _LETTER, _LEAST = 22, 6.4, 0.3  # pixels: of a row, of a letter, of what is still drawn


@dataclass
class Module:
    """A module, or the kernel at a lower end: `parts` by name."""

    name: str
    seconds: float = 0.0
    kernel: Kernel | None = None
    parts: dict[str, Module] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        """How many rows it takes."""
        return 1 + max((p.depth for p in self.parts.values()), default=0)


def tree(report: Report) -> Module:
    """The model's modules with the kernels in them. A kernel is in the innermost module that all
    of its operators are in.
    """
    root = Module(report.name)
    for i, k in enumerate(report.kernels):
        at = root
        at.seconds += k.seconds
        for name in k.module.split(".") if k.module else ():
            at = at.parts.setdefault(name, Module(name))
            at.seconds += k.seconds
        at.parts[f"{k.name} {i}"] = Module(k.name, k.seconds, k)  # no module has a space in it
    return root


def flame(report: Report) -> str:
    """The icicle; nothing where no kernel is in a module that is known."""
    if not any(k.module for k in report.kernels):
        return ""
    root = tree(report)
    if not root.seconds:
        return ""
    parts = list(_drawn(root, 0.0, 0, WIDTH / root.seconds, root.seconds, ""))
    return figure(
        parts, root.depth * _ROW + 2, "The time of kernels by module. A kernel that holds "
        "operators of several modules is in the innermost one around all of them.",
    )  # fmt: skip


def _drawn(
    m: Module, x: float, row: int, scale: float, whole: float, path: str
) -> Iterator[str]:
    width = m.seconds * scale
    if width < _LEAST:
        return
    told = f"{path or m.name}: {seconds(m.seconds)}, {percent(m.seconds / whole)}"
    kind = "module" if m.kernel is None else CLASSES[m.kernel.kind]
    if m.kernel is not None:
        told = f"{told}, {', '.join(m.kernel.operators) or 'a copy'}"
    y = row * _ROW + 1
    box = f'x="{x:.2f}" y="{y}" width="{max(width - 0.6, _LEAST):.2f}" height="{_ROW - 2}" rx="2"'
    yield f'<rect class="{kind}" {box}><title>{escape(told)}</title></rect>'
    letters = int((width - 8) / _LETTER)
    if letters >= min(len(m.name), 3):
        text = m.name if len(m.name) <= letters else m.name[: letters - 1] + "…"
        style = "name" if m.kernel is None else "on"
        yield f'<text class="{style}" x="{x + 4:.1f}" y="{y + 14}">{escape(text)}</text>'
    for part in _ordered(list(m.parts.values())):
        inner = f"{path}.{part.name}" if path else part.name
        yield from _drawn(part, x, row + 1, scale, whole, inner)
        x += part.seconds * scale


def _ordered(parts: Sequence[Module]) -> list[Module]:
    """Modules by their names, numbers as such, and then kernels by their time."""

    def key(m: Module) -> tuple[bool, float, list[tuple[int, str]]]:
        pieces = re.split(r"(\d+)", m.name)
        named = [(int(p), "") if p.isdigit() else (-1, p) for p in pieces]
        return m.kernel is not None, -m.seconds if m.kernel is not None else 0.0, named

    return sorted(parts, key=key)
