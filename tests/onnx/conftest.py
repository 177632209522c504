"""These tests need the onnx package."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")
