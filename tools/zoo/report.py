"""The results of the zoo as text: counts for the terminal, docs/zoo.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tools.zoo.case import DEAD, GROUPS, LATE, NOTHING, RIGHT, WRONG, Result

_STATUSES = (RIGHT, WRONG, DEAD, LATE, NOTHING)
_TITLES = {
    "architecture": "Architectures of `transformers`",
    "module": "Modules of PyTorch",
    "higher order": "Higher-order operators of PyTorch",
    "export": "Examples of `torch.export`",
    "onnx": "ONNX models of packages",
}


def summary(done: Sequence[Result]) -> str:
    """Counts by group, as text."""
    lines = []
    for group in _groups(done):
        mine = [r for r in done if r.group == group]
        each = ", ".join(f"{s} {_count(mine, s)}" for s in _STATUSES if _count(mine, s))
        whole = sum(r.status == RIGHT and not r.fallbacks for r in mine)
        lines.append(f"{group}: {len(mine)} cases; {each}; {whole} without a fallback")
    return "\n".join(lines)


def markdown(done: Sequence[Result], of: int) -> str:
    """The report for docs/zoo.md; `of` is how many cases there are."""
    import torch
    import transformers

    out = [
        "# The zoo",
        "",
        "Whole programs, each in a process of its own, against the framework it comes from: "
        f"architectures of `transformers` {transformers.__version__} at tiny sizes with random "
        f"weights, modules and examples of PyTorch {torch.__version__.split('+')[0]}, and those "
        "ONNX models of `make models` that were downloaded, against ONNX Runtime. Each runs "
        'through `torch.compile(backend="ferrule")`, and through `ferrule.compile` where '
        "`torch.export` takes it. Written by `make zoo`.",
        "",
        f"- **{RIGHT}**: all results of all programs agree, whatever ran them;",
        f"- **{WRONG}**: a result differs, or ferrule raises where the framework does not;",
        f"- **{DEAD}**: the process ended; **{LATE}**: it took too long;",
        f"- **{NOTHING}**: the framework itself raises, so there is nothing to compare with.",
        "",
        *([f"Only {len(done)} of {of} cases were run.", ""] if len(done) < of else []),
        f"| group | cases | {' | '.join(_STATUSES)} | without a fallback |",
        "| --- " * (len(_STATUSES) + 3) + "|",
    ]
    for group in _groups(done):
        mine = [r for r in done if r.group == group]
        counts = " | ".join(str(_count(mine, s)) for s in _STATUSES)
        whole = sum(r.status == RIGHT and not r.fallbacks for r in mine)
        out.append(f"| {group} | {len(mine)} | {counts} | {whole} |")
    out += _failures(done) + _fallbacks(done)
    for group in _groups(done):
        out += _table(group, [r for r in done if r.group == group])
    return "\n".join(out) + "\n"


def _groups(done: Sequence[Result]) -> list[str]:
    return [g for g in GROUPS if any(r.group == g for r in done)]


def _count(mine: Sequence[Result], status: str) -> int:
    return sum(r.status == status for r in mine)


def _failures(done: Sequence[Result]) -> list[str]:
    failed = [r for r in done if r.status not in (RIGHT, NOTHING)]
    lines = [f"- `{r.name}` ({r.group}), {r.status}: `{_cell(r.error, 300)}`" for r in failed]
    return ["", "## What is not right", "", *(lines or ["None."])]


def _fallbacks(done: Sequence[Result]) -> list[str]:
    """Which operators ran in PyTorch, why, and where."""
    where, why = defaultdict[str, list[str]](list), dict[str, str]()
    for r in done:
        for operator, reason in r.fallbacks.items():
            where[operator].append(r.name)
            why.setdefault(operator, reason)
    out = ["", "## What ran in PyTorch", "", "| operator | the first reason | cases |",
           "| --- | --- | --- |"]  # fmt: skip
    for operator, names in sorted(where.items()):
        out.append(f"| `{operator}` | {_cell(why[operator], 160)} | {', '.join(names)} |")
    return out


def _table(group: str, mine: Sequence[Result]) -> list[str]:
    out = ["", f"## {_TITLES[group]}", "",
           "| case | | programs | exported | kernels | s to compile | ran in PyTorch |",
           "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for r in sorted(mine, key=lambda r: r.name):
        fell = ", ".join(f"`{_operator(o)}`" for o in r.fallbacks)
        exported = str(r.exported) if r.exported or not r.uncaptured else "no"
        out.append(f"| {r.name} | {r.status} | {r.programs} | {exported} | {r.kernels} "
                   f"| {r.seconds:.1f} | {fell} |")  # fmt: skip
    refused = [r for r in mine if r.uncaptured]
    if refused:
        out += ["", "PyTorch's own capture refuses, or changes results:", ""]
        out += [f"- {r.name}: `{_cell(r.uncaptured, 160)}`" for r in refused]
    return out


def _operator(name: str) -> str:
    return name.removeprefix("aten.").removesuffix(".default")


def _cell(text: str, most: int) -> str:
    return text.replace("|", "\\|").replace("`", "'")[:most]
