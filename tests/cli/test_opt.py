"""The command line: what it writes, and what it says and returns where it refuses."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ferrule
from ferrule.base import config
from ferrule.cli.main import main
from ferrule.cli.opt import GOALS
from ferrule.ir.text import parse, parse_all, to_text
from ferrule.ir.verify import verify

GRAPH = "graph g { input x: f32[8, 40] y: f32[8, 40] = softmax(x) {axis = 1} return y }"
SYSTEM = """\
system s {
  input x: f32[5]
  output y: f32[5]
  y: [i: 5] y[i] = x[i] * 2.0
}
"""
KERNELS = """\
kernel double { buf x: f32[5] buf y: f32[5] grid i: 5 y: [] y[i] = x[i] * 2.0 }
kernel halve { buf y: f32[5] buf z: f32[5] grid i: 5 z: [] z[i] = y[i] * 0.5 }
"""
PRODUCT = """\
graph g {
  input x: f32[48, 64]
  param w: f32[64, 96]
  y: f32[48, 96] = dot_general(x, w) {batch = ((), ()), contract = ((1,), (0,))}
  return y
}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "program.txt"
    found.write_text(GRAPH)
    return found


def fails(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The message of a command that must end with 1 and write nothing else."""
    assert main(argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ferrule: ")
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("level", [g for g in GOALS if g not in ("llvm", "asm")])
def test_opt_writes_sound_programs(
    level: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["opt", str(file), "--to", level, "--target", "generic"]) == 0
    found = parse_all(capsys.readouterr().out)
    (kind,) = {type(x).__name__ for x in found}
    assert kind == ("Graph" if level == "segments" else level.capitalize())
    for x in found:
        verify(x)


def test_opt_goes_on_from_every_level(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for level in (g for g in GOALS if g != "llvm"):
        assert main(["opt", str(file), "--to", level]) == 0
        file.write_text(capsys.readouterr().out)
    assert "ferrule_entry_program" in file.read_text()


@pytest.mark.parametrize("level", ["kernels", "scheduled", "functions"])
def test_code_alone_is_a_program_whose_results_are_what_it_writes(
    level: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "kernels.txt"
    file.write_text(KERNELS)
    assert main(["opt", str(file), "--to", level]) == 0
    whole = parse(capsys.readouterr().out)
    assert [b.name for b in whole.interface.inputs] == ["x"]
    assert [b.name for b in whole.interface.outputs] == ["y", "z"]
    code = whole.functions if level == "functions" else whole.kernels
    file.write_text("\n".join(map(to_text, code)))
    assert main(["opt", str(file), "--to", "llvm"]) == 0
    assert "ferrule_entry" in capsys.readouterr().out


def test_a_schedule_in_a_text_is_the_one_that_a_kernel_gets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "product.txt"
    file.write_text(PRODUCT)
    assert main(["opt", str(file), "--to", "kernels", "--target", "avx2"]) == 0
    chosen = capsys.readouterr().out
    (sizes,) = re.findall(r"schedule contraction \{(rows = \d+, vectors = \d+),", chosen)
    file.write_text(chosen.replace(sizes, "rows = 3, vectors = 1"))
    assert main(["opt", str(file), "--to", "scheduled", "--target", "avx2"]) == 0
    assert "acc0: f32[3, 1, 8]" in capsys.readouterr().out
    for wrong, message in (
        ("rows = 0, vectors = 2", "cannot have the schedule contraction rows=0"),
        ("lines = 3, vectors = 2", "contraction with rows, vectors, depth"),
    ):
        file.write_text(chosen.replace(sizes, wrong))
        assert message in fails(["opt", str(file), "--to", "scheduled"], capsys)
    file.write_text(KERNELS.replace("grid i: 5 z", "grid i: 5 schedule winograd {tile = 4} z"))
    assert "it is no contraction" in fails(["opt", str(file), "--to", "scheduled"], capsys)


def test_opt_reads_the_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(SYSTEM))
    assert main(["opt", "-", "--to", "system"]) == 0
    assert capsys.readouterr().out == SYSTEM.replace("system s", "system s fused")


def test_print_after_shows_passes_aside(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["opt", str(file), "--to", "kernels", "--print-after", "equations"]
    assert main([*command, "--print-after", "choose"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("---- after equations\nsystem g {")
    assert err.endswith(f"---- after choose\n{out}\n")
    assert "after inline" not in err


def test_the_target_decides_the_schedule(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for name in ("generic", "avx512"):
        assert main(["opt", str(file), "--to", "scheduled", "--target", name]) == 0
        texts.append(capsys.readouterr().out)
    assert "v0l: 4]" in texts[0]
    assert "v0l: 16]" in texts[1]


def test_explain_tells_kernels_and_decisions(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(file)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("kernel y: grid 8, 4 stages")
    assert "decisions:" in out


def test_below_kernels_there_is_nothing_to_explain(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["opt", str(file), "--to", "scheduled"]) == 0
    file.write_text(capsys.readouterr().out)
    assert "is at the level scheduled" in fails(["explain", str(file)], capsys)


def test_settings_are_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings"]) == 0
    assert capsys.readouterr().out == config.table() + "\n"


@pytest.mark.parametrize(
    ("text", "argv", "message"),
    [
        ("", ["--to", "system"], "expected one of graph, system, kernels"),
        ("graph g { input x f32[2] return x }", ["--to", "system"], "line 1, column 19"),
        (GRAPH.replace("softmax", "soft"), ["--to", "system"], "there is no operator soft"),
        (
            GRAPH.replace("y: f32[8, 40]", "y: f32[8, 4]"),
            ["--to", "system"],
            "should be f32[8, 40]",
        ),
        (SYSTEM, ["--to", "graph"], "graph is above system: passes lead down only"),
        (GRAPH + SYSTEM, ["--to", "kernels"], "holds graph, system; it must hold one"),
        (KERNELS + SYSTEM, ["--to", "scheduled"], "holds kernel, kernel, system"),
    ],
)
def test_bad_programs_are_refused(
    text: str,
    argv: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "bad.txt"
    file.write_text(text)
    assert message in fails(["opt", str(file), *argv], capsys)


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "nowhere.txt")
    assert missing in fails(["explain", missing], capsys)


def test_a_bad_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FERRULE_LOGS", "loud")
    assert "FERRULE_LOGS must be an integer" in fails(["settings"], capsys)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["optimise"],
        ["opt"],
        ["opt", "x"],
        ["opt", "x", "--to", "object"],
        ["opt", "x", "--to", "llvm", "--print-after", "fusion"],
        ["opt", "x", "--to", "llvm", "--target", "sse9"],
        ["settings", "--fast"],
    ],
)
def test_wrong_usage_exits_with_two(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "usage: ferrule" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["opt"], ["explain"], ["settings"], ["demo"]])
def test_help_exits_with_zero(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert "usage: ferrule" in capsys.readouterr().out


def test_the_demo_gets_the_arguments_that_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package, script = tmp_path / "ferrule" / "__init__.py", tmp_path / "examples" / "demo.py"
    monkeypatch.setattr(ferrule, "__file__", str(package))
    monkeypatch.setattr(sys, "argv", sys.argv)
    assert "demo.py" in fails(["demo"], capsys)
    script.parent.mkdir()
    script.write_text("import sys; print(__name__, sys.argv[1:])")
    assert main(["demo", "--backend", "eager"]) == 0
    assert capsys.readouterr().out == "__main__ ['--backend', 'eager']\n"
    script.write_text("import a_module_that_is_not_there")
    assert "the demo needs a_module_that_is_not_there" in fails(["demo"], capsys)


def test_the_module_runs_and_a_closed_pipe_is_no_error_message(file: Path) -> None:
    root = Path(ferrule.__file__).parent.parent
    command = [sys.executable, "-m", "ferrule", "opt", str(file), "--to", "llvm"]
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, cwd=root, timeout=120)
    assert done.returncode == 1
    assert done.stderr == b""
