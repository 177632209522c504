"""C functions that call Python where C may not: while an exception is on its way, and at the end.

jaxlib gives up buffers in the middle of what Python does, perhaps because an exception leaves a
frame: it is put aside while our function runs. jaxlib's own threads go on while the process ends.
One that waits for the interpreter then is ended by it, and with it the process. So what only gives
things up does nothing from then on, and the end waits for the calls that have begun.
"""

from __future__ import annotations

import atexit
import ctypes
import time
from collections.abc import Mapping
from typing import Any

from ferrule.runtime import native

_EXTERNALS = ("PyGILState_Ensure", "PyGILState_Release", "PyErr_Fetch", "PyErr_Restore")
_GIVES_UP = ("_Destroy", "_Delete", "_DecreaseExternalReferenceCount")
_PATIENCE = 5.0  # seconds that the end waits for calls
_HEAD = """
declare i32 @PyGILState_Ensure()
declare void @PyGILState_Release(i32)
declare void @PyErr_Fetch(ptr, ptr, ptr)
declare void @PyErr_Restore(ptr, ptr, ptr)

define internal i64 @aside(i64 %args, ptr %function) noinline {{
  %error = alloca [3 x ptr]
  %type = getelementptr [3 x ptr], ptr %error, i64 0, i64 0
  %value = getelementptr [3 x ptr], ptr %error, i64 0, i64 1
  %trace = getelementptr [3 x ptr], ptr %error, i64 0, i64 2
  %before = atomicrmw add ptr inttoptr (i64 {inside} to ptr), i64 1 seq_cst
  %state = call i32 @PyGILState_Ensure()
  call void @PyErr_Fetch(ptr %type, ptr %value, ptr %trace)
  %result = call i64 %function(i64 %args)
  %t = load ptr, ptr %type
  %v = load ptr, ptr %value
  %tb = load ptr, ptr %trace
  call void @PyErr_Restore(ptr %t, ptr %v, ptr %tb)
  call void @PyGILState_Release(i32 %state)
  %after = atomicrmw sub ptr inttoptr (i64 {inside} to ptr), i64 1 seq_cst
  ret i64 %result
}}

define internal i64 @unless_ending(i64 %args, ptr %function) noinline {{
  %before = atomicrmw add ptr inttoptr (i64 {inside} to ptr), i64 1 seq_cst
  %state = load atomic i64, ptr inttoptr (i64 {ending} to ptr) seq_cst, align 8
  %ending = icmp ne i64 %state, 0
  br i1 %ending, label %end, label %run
run:
  %made = call i64 @aside(i64 %args, ptr %function)
  br label %end
end:
  %result = phi i64 [ 0, %0 ], [ %made, %run ]
  %after = atomicrmw sub ptr inttoptr (i64 {inside} to ptr), i64 1 seq_cst
  ret i64 %result
}}
"""
_EACH = """
define i64 @ferrule_{name}(i64 %args) {{
  %result = call i64 @{how}(i64 %args, ptr inttoptr (i64 {address} to ptr))
  ret i64 %result
}}
"""
_ending = ctypes.c_int64(0)
_inside = ctypes.c_int64(0)
"""How many calls have begun and not ended, some of them twice."""


def guarded(functions: Mapping[str, int]) -> dict[str, int]:
    """The addresses of C functions that call those at these addresses, one for each name."""
    api: Any = ctypes.pythonapi
    symbols = {n: ctypes.cast(getattr(api, n), ctypes.c_void_p).value or 0 for n in _EXTERNALS}
    inside, ending = map(ctypes.addressof, (_inside, _ending))
    text = _HEAD.format(inside=inside, ending=ending) + "".join(
        _EACH.format(name=n, how=_how(n), address=a) for n, a in functions.items()
    )
    found = native.addresses(text, [f"ferrule_{n}" for n in functions], symbols)
    atexit.register(_end)
    return dict(zip(functions, found, strict=True))


def _how(name: str) -> str:
    return "unless_ending" if name.endswith(_GIVES_UP) else "aside"


def _end() -> None:
    _ending.value = 1
    until = time.monotonic() + _PATIENCE
    while _inside.value and time.monotonic() < until:
        time.sleep(0.001)  # without the interpreter's lock, which these calls need
