"""Small programs for the runtime's tests: LLVM IR by hand that follows the ABI of `Compiled`."""

from __future__ import annotations

from collections.abc import Callable

import llvmlite.binding as llvm
import pytest

from ferrule.base.artifact import Compiled, DimSource, Guard, TensorSpec

Build = Callable[..., Compiled]

HEAD = """
define internal ptr @pointer(ptr %args, i64 %slot) alwaysinline {
  %at = getelementptr i64, ptr %args, i64 %slot
  %value = load ptr, ptr %at
  ret ptr %value
}

define internal i64 @integer(ptr %args, i64 %slot) alwaysinline {
  %at = getelementptr i64, ptr %args, i64 %slot
  %value = load i64, ptr %at
  ret i64 %value
}
"""

NOTHING = """
define i64 @ferrule_arena_bytes_KEY(ptr %args) {
  ret i64 0
}
define i32 @ferrule_prepare_KEY(ptr %args) {
  ret i32 0
}
"""

# y[i] = x[i] + x[i] over n elements in parallel, by way of an arena of 4 n bytes.
# Slots: 3 x, 4 y, 5 n.
DOUBLE = """
define internal void @fill(ptr %args, i64 %lo, i64 %hi, i64 %tid) {
entry:
  %arena = call ptr @pointer(ptr %args, i64 0)
  %x = call ptr @pointer(ptr %args, i64 4)
  %y = call ptr @pointer(ptr %args, i64 5)
  br label %check
check:
  %i = phi i64 [ %lo, %entry ], [ %next, %step ]
  %more = icmp slt i64 %i, %hi
  br i1 %more, label %step, label %end
step:
  %xi = getelementptr float, ptr %x, i64 %i
  %ai = getelementptr float, ptr %arena, i64 %i
  %yi = getelementptr float, ptr %y, i64 %i
  %value = load float, ptr %xi
  store volatile float %value, ptr %ai
  %kept = load volatile float, ptr %ai
  %sum = fadd float %value, %kept
  store float %sum, ptr %yi
  %next = add i64 %i, 1
  br label %check
end:
  ret void
}
define i32 @ferrule_entry_KEY(ptr %args) {
  %n = call i64 @integer(ptr %args, i64 6)
  %threads = call i64 @integer(ptr %args, i64 1)
  %host = call ptr @pointer(ptr %args, i64 3)
  %parallel = call ptr @pointer(ptr %host, i64 1)
  %user = call ptr @pointer(ptr %host, i64 2)
  call void %parallel(ptr @fill, ptr %args, i64 %n, i64 %threads, ptr %user)
  ret i32 0
}
define i64 @ferrule_arena_bytes_KEY(ptr %args) {
  %n = call i64 @integer(ptr %args, i64 6)
  %bytes = mul i64 %n, 4
  ret i64 %bytes
}
define i32 @ferrule_prepare_KEY(ptr %args) {
  ret i32 0
}
"""

# y = x + 2 * w over 4 doubles, 2 * w kept in the const arena. Slots: 3 x, 4 y, 5 w.
BOUND = """
define i32 @ferrule_entry_KEY(ptr %args) {
  %const = call ptr @pointer(ptr %args, i64 2)
  %x = call ptr @pointer(ptr %args, i64 4)
  %y = call ptr @pointer(ptr %args, i64 5)
  %xs = load <4 x double>, ptr %x, align 8
  %ws = load <4 x double>, ptr %const, align 32
  %ys = fadd <4 x double> %xs, %ws
  store <4 x double> %ys, ptr %y, align 8
  ret i32 0
}
define i64 @ferrule_arena_bytes_KEY(ptr %args) {
  ret i64 0
}
define i32 @ferrule_prepare_KEY(ptr %args) {
  %const = call ptr @pointer(ptr %args, i64 2)
  %w = call ptr @pointer(ptr %args, i64 6)
  %ws = load <4 x double>, ptr %w, align 8
  %twice = fadd <4 x double> %ws, %ws
  store <4 x double> %twice, ptr %const, align 32
  ret i32 0
}
"""

# Returns the integer input x as its code. Slots: 3 x.
CODE = """
define i32 @ferrule_entry_KEY(ptr %args) {
  %x = call ptr @pointer(ptr %args, i64 4)
  %code = load i32, ptr %x
  ret i32 %code
}
"""


def _object_code(text: str) -> bytes:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(text)
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(opt=2, reloc="pic", codemodel="default")
    return bytes(machine.emit_object(module))


@pytest.fixture(scope="session")
def build() -> Build:
    """Makes a Compiled of IR text, whose symbols end in `_KEY`, and of the descriptor's fields."""

    def made(text: str, key: str, **fields: object) -> Compiled:
        code = _object_code(HEAD + text.replace("_KEY", f"_{key}"))
        parts = {"name": key, "inputs": (), "params": (), "outputs": ()} | fields
        return Compiled(key=key, object_code=code, **parts)

    return made


@pytest.fixture(scope="session")
def double(build: Build) -> Compiled:
    """y = 2 x over [n] f32, 1 <= n <= 10000000."""
    return build(
        DOUBLE,
        "double",
        inputs=(TensorSpec("x", "f32", ("n",)),),
        outputs=(TensorSpec("y", "f32", ("n",)),),
        dims=(DimSource("n", 0, 0),),
        guards=(Guard("n >= 1 and n <= 10000000", "the batch must not be empty"),),
    )


@pytest.fixture(scope="session")
def bound(build: Build) -> Compiled:
    """y = x + 2 w over [4] f64, with w a parameter."""
    spec = ("f64", (4,))
    return build(
        BOUND,
        "bound",
        inputs=(TensorSpec("x", *spec),),
        params=(TensorSpec("w", *spec),),
        outputs=(TensorSpec("y", *spec),),
        const_bytes=32,
    )


@pytest.fixture(scope="session")
def code(build: Build) -> Compiled:
    """Fails with the code that its integer input gives."""
    return build(
        CODE + NOTHING,
        "code",
        inputs=(TensorSpec("x", "i32", ()),),
        errors=("index 7 is out of range in gather", "the loop did not end"),
    )
