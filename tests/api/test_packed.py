"""Artifacts with weights that are packed ahead, and signed ones."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ferrule
from ferrule.base.cpu import architecture, supports
from ferrule.base.errors import InputError
from ferrule.base.manifest import MANIFEST, SIGNATURE, WEIGHTS
from ferrule.base.safetensors import tensors_of
from ferrule.base.stored import entries_of
from ferrule.runtime.load import load
from ferrule.target.cpu import PORTABLE

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning")]
HERE = [t for t, (m, level) in PORTABLE.items() if m == architecture() and supports(level)]
THERE = [t for t in PORTABLE if t not in HERE]
BATCH = torch.export.Dim("n", min=1, max=64)


class Net(torch.nn.Module):
    """Packed weights, folded constants, a bias that runs read as it is, and a fixed result."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8, 300)
        self.last = torch.nn.Linear(300, 200)

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.norm(self.conv(x))).mean((2, 3))
        return self.last(torch.tanh(self.head(y))), y.sum(-1)


def compiled(module: Any = None, sizes: tuple[int, ...] = (2, 3, 9, 9)) -> Any:
    torch.manual_seed(3)
    module = Net().eval() if module is None else module
    return ferrule.compile(module, (torch.randn(*sizes),), dynamic_shapes=({0: BATCH},))


def image(n: int) -> Any:
    return np.random.default_rng(n).standard_normal((n, 3, 9, 9)).astype("f4")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same model without packed weights and with them, for every level."""
    folder, model = tmp_path_factory.mktemp("packed"), compiled()
    model.save(folder / "plain.ferrule", HERE)
    model.save(folder / "packed.ferrule", HERE, packed=True)
    return folder / "plain.ferrule", folder / "packed.ferrule"


def parts(path: Path) -> dict[str, memoryview]:
    found = entries_of(memoryview(path.read_bytes()))
    return {name: part.data for name, part in found.items()}


def altered(path: Path, target: Path, name: str, data: bytes | None) -> Path:
    """A copy of an artifact with another entry, or without it."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            if info.filename != name:
                new.writestr(info.filename, old.read(info))
            elif data is not None:
                new.writestr(name, data)
    return target


def same(a: Path, b: Path, **options: Any) -> None:
    one, other = load(a), load(b, **options)
    for n in (1, 5):
        for x, y in zip(one(image(n)), other(image(n)), strict=True):
            np.testing.assert_array_equal(x, y)


def test_packed_weights_give_the_same_bits(saved: tuple[Path, Path]) -> None:
    same(*saved)
    same(*saved, verify=False)


@pytest.mark.parametrize("shift", [0, 1, 4, 31])
def test_a_file_that_another_program_wrote_again(
    shift: int, saved: tuple[Path, Path], tmp_path: Path
) -> None:
    """Its entries lie anywhere; code reads its constants from cache lines."""
    for path in saved:
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "x.ferrule", "w") as new:
            new.writestr("x", bytes(shift))
            for info in old.infolist():
                new.writestr(info.filename, old.read(info))
        same(path, tmp_path / "x.ferrule")
        program = load(tmp_path / "x.ferrule")._call.executable
        assert ctypes.addressof(program.constants) % 64 == 0


@pytest.mark.parametrize("target", HERE)
def test_each_level_has_its_own(target: str, saved: tuple[Path, Path], tmp_path: Path) -> None:
    model = compiled()
    model.save(tmp_path / "plain.ferrule", [target])
    model.save(tmp_path / "packed.ferrule", [target], packed=True)
    same(tmp_path / "plain.ferrule", tmp_path / "packed.ferrule")
    machine, level = PORTABLE[target]
    name = f"packed/{machine}-{level}/main.bin"
    assert parts(tmp_path / "packed.ferrule")[name] == parts(saved[1])[name]


def test_nothing_is_prepared_and_nothing_is_held_twice(
    saved: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    arena = ferrule.runtime.cpu.Arena

    def seen(size: int) -> Any:
        made.append(size)
        return arena(size)

    monkeypatch.setattr("ferrule.runtime.cpu.Arena", seen)
    model = load(saved[1])
    assert made == []
    load(saved[0])
    entry = model.manifest.entries[0]
    assert made[0] == entry.programs[f"{architecture()}/{model.target}"].const_bytes > 200 * 300 * 4


def test_parameters_that_only_packing_reads_are_left_out(saved: tuple[Path, Path]) -> None:
    plain, packed = (tensors_of(parts(p)[WEIGHTS]) for p in saved)
    assert set(packed) < set(plain)
    assert "last.weight" not in packed
    assert "last.bias" in packed
    assert load(saved[1]).manifest.requires == ("packed",)
    assert load(saved[0]).manifest.requires == ()


def test_packing_depends_on_no_number_of_threads(
    saved: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for threads in (1, 3):
        monkeypatch.setattr("ferrule.runtime.pool._threads", threads)
        compiled().save(tmp_path / f"{threads}.ferrule", HERE, packed=True)
    one, other = (parts(tmp_path / f"{threads}.ferrule") for threads in (1, 3))
    packed = [n for n in one if n.startswith("packed/")]
    assert packed
    assert all(one[n] == other[n] for n in packed)


def test_functions_with_the_same_constants_share_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 300).eval()
    wide = torch.nn.Sequential(layer, torch.nn.ReLU())
    one, other = compiled(layer, (2, 64)), compiled(wide, (2, 64))
    ferrule.save(tmp_path / "two.ferrule", {"a": one, "b": other}, HERE[-1:], packed=True)
    assert len([n for n in parts(tmp_path / "two.ferrule") if n.startswith("packed/")]) == 1
    model, x = load(tmp_path / "two.ferrule"), np.ones((4, 64), "f4")
    np.testing.assert_array_equal(np.maximum(model["a"](x), 0), model["b"](x))


def test_a_model_without_constants(tmp_path: Path) -> None:
    compiled(torch.nn.Softmax(-1), (2, 9)).save(tmp_path / "s.ferrule", HERE, packed=True)
    x = np.ones((3, 9), "f4")
    np.testing.assert_allclose(load(tmp_path / "s.ferrule")(x), x / 9, rtol=1e-6)


def test_other_levels_cannot_be_packed_here(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"packed by code that this machine does not run"):
        compiled().save(tmp_path / "x.ferrule", THERE[:1], packed=True)
    assert not (tmp_path / "x.ferrule").exists()


def test_packed_weights_that_are_others_are_refused(
    saved: tuple[Path, Path], tmp_path: Path
) -> None:
    name = f"packed/{architecture()}-{load(saved[1]).target}/main.bin"
    data = bytearray(parts(saved[1])[name])
    data[1000] ^= 1
    with pytest.raises(InputError, match=f"checksum of {name}"):
        load(altered(saved[1], tmp_path / "a.ferrule", name, bytes(data)))
    with pytest.raises(InputError, match=f"lacks {name}"):
        load(altered(saved[1], tmp_path / "b.ferrule", name, None))
    with pytest.raises(InputError, match="not stored as it was"):
        load(altered(saved[1], tmp_path / "c.ferrule", name, bytes(data[:-64])), verify=False)
    facts = json.loads(bytes(parts(saved[1])[MANIFEST]))
    facts["entries"][0]["packed"] = dict.fromkeys(facts["entries"][0]["packed"], "")
    with pytest.raises(InputError, match="size of its constants"):
        load(altered(saved[1], tmp_path / "d.ferrule", MANIFEST, json.dumps(facts).encode()))


def test_weights_of_other_shapes_are_refused(saved: tuple[Path, Path], tmp_path: Path) -> None:
    facts = json.loads(bytes(parts(saved[0])[MANIFEST]))
    for program in facts["entries"][0]["programs"].values():
        spec = next(s for s in program["params"] if s[2] == [200, 300])
        spec[2] = [200, 300, 2]
    with pytest.raises(InputError, match=r"another last\.weight than the code"):
        load(altered(saved[0], tmp_path / "e.ferrule", MANIFEST, json.dumps(facts).encode()))


# ---- signatures ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pairs of keys."""
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder = tmp_path_factory.mktemp("keys")
    for name in ("mine", "other"):
        key = Ed25519PrivateKey.generate()
        own = key.private_bytes(
            form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
        )
        (folder / name).write_bytes(own)
        public = key.public_key()
        pem = public.public_bytes(
            form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
        )
        (folder / f"{name}.pub").write_bytes(pem)
        raw = public.public_bytes(form.Encoding.Raw, form.PublicFormat.Raw)
        (folder / f"{name}.raw").write_bytes(raw)
    return folder


@pytest.fixture(scope="module")
def signed(keys: Path) -> Path:
    compiled().save(keys / "signed.ferrule", HERE[:1], sign=keys / "mine")
    return keys / "signed.ferrule"


def test_a_signed_artifact_is_taken(signed: Path, keys: Path) -> None:
    assert load(signed).inputs == load(signed, trusted=keys / "mine.pub").inputs
    assert ferrule.load(signed, trusted=(keys / "mine.raw").read_bytes()).inputs


def test_nothing_is_opened_without_the_right_signature(
    saved: tuple[Path, Path], signed: Path, keys: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("ferrule.runtime.load.Library", pytest.fail)
    text = bytes(parts(signed)[MANIFEST])
    other = text.replace(b'"made_by":"ferrule', b'"made_by":"ferrulf')
    assert other != text
    signature = bytes(parts(signed)[SIGNATURE])
    changed = [
        (saved[0], "not signed"),
        (altered(signed, tmp_path / "a.ferrule", SIGNATURE, None), "not signed"),
        (altered(signed, tmp_path / "b.ferrule", MANIFEST, other), "by the trusted key"),
        (altered(signed, tmp_path / "c.ferrule", SIGNATURE, signature[:-1]), "by the trusted"),
        (altered(signed, tmp_path / "d.ferrule", SIGNATURE, bytes(64)), "by the trusted key"),
    ]
    for path, message in changed:
        with pytest.raises(InputError, match=f"{path.name}: it.*{message}"):
            load(path, trusted=keys / "mine.pub")
    with pytest.raises(InputError, match="by the trusted key"):
        load(signed, trusted=keys / "other.pub")


def test_a_signature_holds_for_all_that_the_manifest_names(
    signed: Path, keys: Path, tmp_path: Path
) -> None:
    weights = bytearray(parts(signed)[WEIGHTS])
    weights[-1] ^= 1
    path = altered(signed, tmp_path / "w.ferrule", WEIGHTS, bytes(weights))
    with pytest.raises(InputError, match="checksum of weights"):
        load(path, trusted=keys / "mine.pub")


def test_keys_that_are_none(signed: Path, keys: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"-----BEGIN")
    for trusted in (tmp_path / "x", b"too short", keys / "mine"):
        with pytest.raises(InputError, match="no public key"):
            load(signed, trusted=trusted)
    with pytest.raises(InputError, match="cannot be read"):
        load(signed, trusted=tmp_path / "none")
    for key in (tmp_path / "x", keys / "mine.pub"):
        with pytest.raises(InputError, match="no private key"):
            compiled().save(tmp_path / "y.ferrule", HERE[:1], sign=key)
    assert not (tmp_path / "y.ferrule").exists()


def test_without_the_library_a_signature_is_no_success(
    signed: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(InputError, match=r"pip install 'ferrule\[sign\]'"):
        load(signed, trusted=keys / "mine.pub")


def test_the_command_line_signs_packs_and_asks(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx")
    from ferrule.cli.main import main

    h, t = onnx.helper, onnx.TensorProto
    w = onnx.numpy_helper.from_array(np.ones((6, 4), "f4"), "w")
    graph = h.make_graph(
        [h.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [h.make_tensor_value_info("x", t.FLOAT, ["n", 6])],
        [h.make_tensor_value_info("y", t.FLOAT, ["n", 4])], [w],
    )  # fmt: skip
    file, out = str(tmp_path / "o.onnx"), str(tmp_path / "o.ferrule")
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)]), file)
    build = ["build", file, "--target", HERE[-1], "--packed", "--sign", str(keys / "mine")]
    assert main(build) == 0
    assert main(["run", out, "--random", "--trusted", str(keys / "mine.pub")]) == 0
    assert "output y: float32 [1, 4]" in capsys.readouterr().out
    assert main(["run", out, "--random", "--trusted", str(keys / "other.pub")]) == 1
    assert "signature is not by" in capsys.readouterr().err
    assert main(["run", file, "--random", "--trusted", str(keys / "mine.pub")]) == 1
    assert main([*build, "--c-bundle", str(tmp_path / "c")]) == 1


def test_openssl_makes_such_keys(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    try:
        made = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(private)]
        subprocess.run(made, check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no openssl with Ed25519")
    told = ["openssl", "pkey", "-in", str(private), "-pubout", "-out", str(public)]
    subprocess.run(told, check=True, capture_output=True)
    compiled().save(tmp_path / "m.ferrule", HERE[:1], sign=private)
    assert load(tmp_path / "m.ferrule", trusted=public).inputs
