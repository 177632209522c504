"""Digests: short keys for what something consists of."""

from __future__ import annotations

import hashlib


def digest(*parts: str | bytes) -> str:
    """A key for these parts: 64 hexadecimal digits that differ whenever any part differs."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()
