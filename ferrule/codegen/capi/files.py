"""The texts of a bundle: its C header, an example that runs it, and a file for CMake; for a
WebAssembly module a script that calls it, and one that runs it.

Templates stand beside this file; what they lack is written between two `@`.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from importlib import resources

from ferrule.base.dtype import from_name
from ferrule.base.shapes import evaluate
from ferrule.codegen.capi.layout import NARROW
from ferrule.codegen.capi.message import CODES
from ferrule.codegen.capi.spec import Bundle, Dim, Function, Tensor

_MEMORY = """
/* Memory of the module, at a multiple of 64 bytes; NULL where there is none left. */
void *@NAME@_alloc(size_t size);
void @NAME@_free(void *memory);
"""
_TRIED = 4096  # combinations of sizes, until one of them satisfies the guards
_LIKELY = (4, 1, 2, 3, 8, 16, 32, 64, 128)


def header_text(bundle: Bundle) -> str:
    """NAME.h."""
    functions = "".join(_function(bundle, f) for f in bundle.functions)
    codes = [f"  {bundle.name}_{n} = {c}, /* {text} */" for n, (c, text) in CODES.items()]
    names = {
        **_names(bundle),
        "SUMMARY": f" * It was compiled for {', '.join(bundle.levels)}; the best that the CPU has "
        "is used.",
        "CODES": "\n".join(codes),
        "FUNCTIONS": functions,
        "MEMORY": _MEMORY.replace("@NAME@", bundle.name) if bundle.levels == ("wasm32",) else "",
    }
    return _filled("header.h", names)


def example_text(bundle: Bundle) -> str:
    """main.c, which runs the first function."""
    f = bundle.functions[0]
    dims = example_dims(f)
    shapes = [f"  int64_t shape{k}[] = {{{_sizes(x, dims)}}};" for k, x in enumerate(f.inputs)]
    names_of = ", ".join(f"shape{k}" for k in range(len(f.inputs))) or "0"
    shapes.append(f"  int64_t *shapes[] = {{{names_of}}};")
    numbers = [
        f"  *({_c_type(f.inputs[d.place])} *)inputs[{d.place}].data = {dims[d.name]};"
        for d in f.dims if d.axis is None
    ]  # fmt: skip
    names = {
        **_names(bundle), "PREFIX": f.prefix, "SHAPES": "\n".join(shapes),
        "NUMBERS": "\n".join(numbers),
    }  # fmt: skip
    return _filled("main.c", names)


def script_text(bundle: Bundle) -> str:
    """NAME.mjs, which calls a WebAssembly module's C API."""
    names = {
        **_names(bundle), "PREFIX": bundle.functions[0].prefix,
        "TENSOR": json.dumps(NARROW.tensor._asdict()), "SPEC": json.dumps(NARROW.spec._asdict()),
    }  # fmt: skip
    return _filled("model.mjs", names)


def script_example_text(bundle: Bundle) -> str:
    """main.mjs, which runs the first function in Node."""
    f = bundle.functions[0]
    dims = example_dims(f)
    numbers = {d.place: dims[d.name] for d in f.dims if d.axis is None}
    names = {
        **_names(bundle),
        "READ": f'read("{weights_name(bundle)}")' if bundle.weights else "null",
        "SHAPES": json.dumps([[evaluate(e, dims) for e in x.shape] for x in f.inputs]),
        "NUMBERS": json.dumps(numbers),
    }
    return _filled("main.mjs", names)


def cmake_text(bundle: Bundle) -> str:
    """CMakeLists.txt."""
    return _filled("CMakeLists.txt", _names(bundle))


def weights_name(bundle: Bundle) -> str:
    """The name of the file of weights."""
    return f"{bundle.name}.safetensors"


def example_dims(f: Function) -> dict[str, int]:
    """Values of a function's dims that it takes; where none are found, the least ones."""
    names = [d.name for d in f.dims]
    ranges = [list(dict.fromkeys(_likely(d))) for d in f.dims]
    for values in itertools.islice(itertools.product(*ranges), _TRIED):
        found = dict(zip(names, values))
        if all(_holds(g.text, found) for g in f.guards):
            return found
    return {d.name: d.lo for d in f.dims}


def _likely(d: Dim) -> list[int]:
    first = -(-d.lo // d.multiple) * d.multiple
    some = [x * d.multiple for x in _LIKELY] + [first]
    return [x for x in some if x >= d.lo and (d.hi is None or x <= d.hi)]


def _holds(text: str, dims: dict[str, int]) -> bool:
    try:
        return bool(evaluate(text, dims))
    except ZeroDivisionError:
        return False


def _sizes(x: Tensor, dims: dict[str, int]) -> str:
    return ", ".join(str(evaluate(e, dims)) for e in x.shape) or "0"


def _c_type(x: Tensor) -> str:
    return ("int" if x.element.is_signed else "uint") + f"{x.element.bits}_t"


def _function(bundle: Bundle, f: Function) -> str:
    rows = [_row("input", k, x) for k, x in enumerate(f.inputs)]
    rows += [_row("output", k, x) for k, x in enumerate(f.outputs)]
    ranks = [len(x.shape) for x in (*f.inputs, *f.outputs)]
    names = {
        "NAME": bundle.name, "PREFIX": f.prefix, "FUNCTION": _commented(f.name),
        "TENSORS": "\n".join(rows), "INPUTS": str(len(f.inputs)),
        "OUTPUTS": str(len(f.outputs)), "RANK": str(max(ranks, default=0)),
    }  # fmt: skip
    return _filled("functions.h", names)


def _row(role: str, k: int, x: Tensor) -> str:
    order = "" if x.order is None else f", its axes in memory in the order {list(x.order)}"
    words = from_name(x.dtype).name
    return f" * {role} {k}: {_commented(x.name)}: {words}{_commented(x.text)}{order}"


def _commented(text: str) -> str:
    """Text that does not end a comment."""
    return text.replace("*/", "* /").replace("\n", " ")


def _names(bundle: Bundle) -> Mapping[str, str]:
    return {
        "NAME": bundle.name,
        "UPPER": bundle.name.upper(),
        "WEIGHTS": weights_name(bundle) if bundle.weights else "",
        "PATH": f'"{weights_name(bundle)}"' if bundle.weights else "NULL",
    }


def _filled(template: str, names: Mapping[str, str]) -> str:
    text = (resources.files(__package__) / template).read_text(encoding="utf-8")
    return re.sub(r"@([A-Z]+)@", lambda found: names[found[1]], text)


def identifier(name: str) -> str:
    """A plain C identifier from any text."""
    made = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not made or made[0].isdigit() or made in _WORDS.split():
        made = f"m_{made}"
    return made


_WORDS = """
auto break case char const continue default do double else enum extern float for goto if int long
register return short signed sizeof static struct switch typedef union unsigned void volatile while
inline restrict class new delete template this operator
"""
