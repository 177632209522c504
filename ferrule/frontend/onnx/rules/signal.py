"""Host rules: Fourier transforms, determinants, regions of interest, and folding of columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule.base.errors import InputError
from ferrule.frontend.onnx.model import Array
from ferrule.frontend.onnx.rules.data import number
from ferrule.frontend.onnx.table import Attributes, element_type, host

Maybe = Array | None


def _complex(x: Array) -> Array:
    """[.., 1] or [.., 2] as real or complex numbers."""
    return x[..., 0] + 1j * x[..., 1] if x.shape[-1] == 2 else x[..., 0]


def _pairs(x: Array, dtype: np.dtype[Any]) -> Array:
    """Complex numbers as [.., 2]."""
    return np.stack([x.real, x.imag], -1).astype(dtype)


@host("DFT", since=20)
def _dft(a: Attributes, x: Array, length: Maybe = None, axis: Maybe = None) -> Array:
    return _transformed(a, x, length, int(number(axis, -2)))


@host("DFT")
def _dft_17(a: Attributes, x: Array, length: Maybe = None) -> Array:
    return _transformed(a, x, length, a.int("axis", 1))


def _transformed(a: Attributes, x: Array, length: Maybe, axis: int) -> Array:
    axis = axis + x.ndim if axis < 0 else axis
    inverse, half = bool(a.int("inverse", 0)), bool(a.int("onesided", 0))
    n = None if length is None else int(number(length))
    values = _complex(x)
    if inverse and half:
        return np.fft.irfft(values, n, axis)[..., None].astype(x.dtype)
    out = np.fft.ifft(values, n, axis) if inverse else np.fft.fft(values, n, axis)
    if half:
        out = np.take(out, np.arange(out.shape[axis] // 2 + 1), axis)
    return _pairs(out, x.dtype)


@host("STFT")
def _stft(
    a: Attributes, x: Array, step: Array, window: Maybe = None, length: Maybe = None
) -> Array:
    hop = int(number(step))
    size = (
        int(number(length))
        if length is not None
        else (x.shape[1] if window is None else window.shape[0])
    )
    if hop < 1 or not 1 <= size <= x.shape[1]:
        raise InputError(f"STFT of {x.shape[1]} values by frames of {size}, every {hop}")
    frames = np.lib.stride_tricks.sliding_window_view(_complex(x), size, 1)[:, ::hop]
    if window is not None:
        frames = frames * window
    out = np.fft.fft(frames, size, -1)
    if a.int("onesided", 1):
        out = out[..., : size // 2 + 1]
    return _pairs(out, x.dtype)


@host("MelWeightMatrix")
def _mel(a: Attributes, bins: Array, length: Array, rate: Array, low: Array, high: Array) -> Array:
    """Triangular filters that are evenly spaced on the mel scale."""
    n, size = int(number(bins)), int(number(length))
    ends = [2595 * np.log10(1 + float(number(f)) / 700) for f in (low, high)]
    mels = np.arange(n + 2) * ((ends[1] - ends[0]) / (n + 2)) + ends[0]
    hertz = 700 * (10 ** (mels / 2595) - 1)
    edges = ((size + 1) * hertz // float(number(rate))).astype(int)
    out = np.zeros((size // 2 + 1, n))
    for i, (first, middle, last) in enumerate(zip(edges, edges[1:], edges[2:])):
        if middle == first:
            out[middle, i] = 1
        else:
            rising = np.arange(first, middle + 1)
            out[rising, i] = (rising - first) / (middle - first)
        falling = np.arange(middle, last)
        out[falling, i] = (last - falling) / max(last - middle, 1)
    return out.astype(element_type(a.int("output_datatype", 1)))


@host("Det")
def _det(a: Attributes, x: Array) -> Array:
    return np.asarray(np.linalg.det(x.astype(np.float64))).astype(x.dtype)


@host("Col2Im")
def _col2im(a: Attributes, x: Array, image: Array, block: Array) -> Array:
    """Columns of windows summed back into an image."""
    size, kernel = [int(s) for s in image], [int(s) for s in block]
    n = len(size)
    stride, dilation = a.ints("strides", (1,) * n), a.ints("dilations", (1,) * n)
    pads = a.ints("pads", (0,) * (2 * n))
    count = [
        (s + pads[d] + pads[n + d] - (k - 1) * dilation[d] - 1) // stride[d] + 1
        for d, (s, k) in enumerate(zip(size, kernel))
    ]
    batch, channels = x.shape[0], x.shape[1] // int(np.prod(kernel))
    columns = x.reshape(batch, channels, *kernel, *count)
    out = np.zeros(
        (batch, channels, *(s + pads[d] + pads[n + d] for d, s in enumerate(size))), x.dtype
    )
    whole = (slice(None), slice(None))
    for k in np.ndindex(*kernel):
        cut = tuple(
            slice(i * dilation[d], i * dilation[d] + count[d] * stride[d], stride[d])
            for d, i in enumerate(k)
        )
        out[whole + cut] += columns[whole + k]
    inner = tuple(slice(pads[d], pads[d] + s) for d, s in enumerate(size))
    return out[whole + inner]


# ---- regions of interest -------------------------------------------------------------------------


@host("RoiAlign", since=16)
def _roi_align(a: Attributes, x: Array, rois: Array, batch: Array) -> Array:
    half = a.text("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    return _aligned(a, x, rois, batch, half)


@host("RoiAlign")
def _roi_align_10(a: Attributes, x: Array, rois: Array, batch: Array) -> Array:
    return _aligned(a, x, rois, batch, False)


def _aligned(a: Attributes, x: Array, rois: Array, batch: Array, half: bool) -> Array:
    """Bilinear samples of each bin, averaged or maximised (He et al., 2017)."""
    high, wide = a.int("output_height", 1), a.int("output_width", 1)
    ratio, scale = a.int("sampling_ratio", 0), a.float("spatial_scale", 1.0)
    largest = a.text("mode", "avg").lower() == "max"
    out = np.zeros((len(rois), x.shape[1], high, wide), x.dtype)
    for i, (roi, b) in enumerate(zip(rois.astype(np.float32), batch)):
        x1, y1, x2, y2 = roi * np.float32(scale) - np.float32(0.5 if half else 0)
        h, w = y2 - y1, x2 - x1
        if not half:
            h, w = max(h, np.float32(1)), max(w, np.float32(1))
        rows, columns = (_samples(s, n, m, ratio) for s, n, m in ((y1, h, high), (x1, w, wide)))
        y = _bilinear(x[int(b)], rows, columns, largest)
        y = y.reshape(x.shape[1], high, rows.size // high, wide, columns.size // wide)
        if y.size:  # a box without area has no samples, and 0 in all its bins
            out[i] = y.max((2, 4)) if largest else y.mean((2, 4))
    return out


def _samples(start: Any, size: Any, bins: int, ratio: int) -> Array:
    """The places of all bins' samples along one axis."""
    step = size / bins
    each = ratio if ratio > 0 else max(int(np.ceil(step)), 0)
    place = np.arange(bins)[:, None] * step + (np.arange(each) + 0.5) * step / each
    return np.asarray(start + place).reshape(-1)


def _bilinear(x: Array, rows: Array, columns: Array, largest: bool) -> Array:
    """x[channels, h, w] at all pairs of places; each corner's share apart where the largest of
    them is asked for.
    """
    (r0, r1, rw, rin), (c0, c1, cw, cin) = (
        _corners(p, n) for p, n in ((rows, x.shape[1]), (columns, x.shape[2]))
    )
    parts = [
        x[:, r][:, :, c] * (u[:, None] * v)
        for r, u in ((r0, 1 - rw), (r1, rw))
        for c, v in ((c0, 1 - cw), (c1, cw))
    ]
    y = np.max(parts, 0) if largest else np.sum(parts, 0)
    return np.asarray(np.where(rin[:, None] & cin, y, 0))


def _corners(p: Array, size: int) -> tuple[Array, Array, Array, Array]:
    inside = (p >= -1) & (p <= size)
    place = np.maximum(p, 0)
    low = np.minimum(place.astype(np.int64), size - 1)
    high = np.minimum(low + 1, size - 1)
    weight = np.where(low >= size - 1, 0, place - low)
    return low, high, weight, inside


@host("MaxRoiPool")
def _max_roi_pool(a: Attributes, x: Array, rois: Array) -> Array:
    """The greatest element of each of a grid of bins (Girshick, 2015)."""
    high, wide = a.ints("pooled_shape")
    scale = a.float("spatial_scale", 1.0)
    out = np.zeros((len(rois), x.shape[1], high, wide), x.dtype)
    for i, roi in enumerate(rois):
        image = x[int(roi[0])]
        x1, y1, x2, y2 = (int(np.floor(v * scale + 0.5)) for v in roi[1:])
        rows = _bins(y1, max(y2 - y1 + 1, 1), high, x.shape[2])
        columns = _bins(x1, max(x2 - x1 + 1, 1), wide, x.shape[3])
        for p, (r0, r1) in enumerate(rows):
            for q, (c0, c1) in enumerate(columns):
                if r1 > r0 and c1 > c0:
                    out[i, :, p, q] = image[:, r0:r1, c0:c1].max((1, 2))
    return out


def _bins(start: int, size: int, bins: int, limit: int) -> list[tuple[int, int]]:
    step = size / bins
    ends = [(int(np.floor(k * step)), int(np.ceil((k + 1) * step))) for k in range(bins)]
    return [(min(max(lo + start, 0), limit), min(max(hi + start, 0), limit)) for lo, hi in ends]
