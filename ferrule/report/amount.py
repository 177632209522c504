"""Numbers as people read them."""

from __future__ import annotations


def seconds(t: float | None) -> str:
    """A time: "1.23 ms"."""
    if t is None:
        return "-"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(t) >= scale:
            return f"{three(t / scale)} {unit}"
    return f"{three(t * 1e9)} ns"


def scaled(x: float | None, unit: str) -> str:
    """An amount: "1.23 GB/s"."""
    if x is None:
        return "-"
    for prefix, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(x) >= scale:
            return f"{three(x / scale)} {prefix}{unit}"
    return f"{three(x)} {unit}"


def percent(x: float | None) -> str:
    """A part of one."""
    return "-" if x is None else f"{100 * x:.1f} %" if abs(x) < 0.995 else f"{100 * x:.0f} %"


def three(x: float) -> str:
    """Three digits, without an exponent."""
    digits = 2 if abs(x) < 10 else 1 if abs(x) < 100 else 0
    return f"{x:.{digits}f}"
