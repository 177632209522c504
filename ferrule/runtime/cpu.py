"""A compiled program in memory: linked, bound to its parameters, run on addresses.

    executable = load(compiled)
    executable.bind([(address, keepalive), ...])        # one pair a param; runs `prepare` once
    executable.run([x_address], [y_address], (n, m))    # inputs, outputs, dims

`run` checks nothing: whoever calls it has checked ranks, sizes and dtypes (see arrays). It may be
called from many threads at once: each call takes a state (argument block and arena) that nobody
has, or makes one. A state's arena is kept between calls and grows when dims ask for more, so that a
call touches no fresh pages. A call with the dims of the one before costs one native call (see
call).
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ferrule.base.artifact import (
    ALIGNMENT,
    SLOT_ARENA,
    SLOT_CONST,
    SLOT_FIRST,
    SLOT_HOST,
    SLOT_THREADS,
    Compiled,
)
from ferrule.base.cpu import supports
from ferrule.base.errors import CompileError, InputError, RunError, RunIndexError, is_index
from ferrule.runtime import pool
from ferrule.runtime.call import Maker, Record, Watched, prepared, record_of

if TYPE_CHECKING:
    from ferrule.runtime.trace import Trace, Tracer  # which a load does not need

_HUGE = 4 << 20
_PAGE = 2 << 20
# Python's default is memory that a forked process shares, and that never lies in huge pages.
_PRIVATE: dict[str, int] = (
    {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
)
_SLOT = 8


class Arena:
    """Zeroed memory, aligned to 64 bytes, freed when nothing refers to it. Raises RunError where
    there is none left.

    It is the process's own: after a fork the child has a copy.
    """

    __slots__ = ("_memory", "address", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        huge = size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE")
        whole = -(-size // _PAGE) * _PAGE if huge else max(size, ALIGNMENT)
        try:
            self._memory = mmap.mmap(-1, whole, **_PRIVATE)
        except (OSError, OverflowError) as error:
            raise RunError(
                f"out of memory: {size} bytes for a program's intermediate results: {error}"
            ) from error
        if huge:  # Linux aligns whole pages of 2 MB
            self._memory.madvise(mmap.MADV_HUGEPAGE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))


class _State:
    """What one call owns while it runs: the argument block, its arena, the dims it is for, and what
    is told of it while somebody looks.

    `count` arguments begin at SLOT_FIRST, of which those from index `dims` on are dims.
    """

    __slots__ = ("address", "arena", "args", "made_for", "record", "trace")

    def __init__(self, slots: int, entry: int, count: int, dims: int) -> None:
        self.args = bytearray(slots * _SLOT)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.args))
        self.arena: Arena | None = None
        self.made_for: tuple[tuple[int, ...], int] | None = None  # dims and threads
        self.record = record_of(entry, self.address, count, dims)
        self.trace: Trace | None = None

    def unmake(self) -> None:
        """From here the block is for no number of threads, so that no call takes it."""
        self.made_for = None
        self.set(SLOT_THREADS, [0])

    def set(self, slot: int, values: Sequence[int]) -> None:
        struct.pack_into(f"={len(values)}q", self.args, slot * _SLOT, *values)


class _Binding:
    """Parameters, the constants prepared from them, and the states of calls that use them."""

    __slots__ = ("constants", "keepalive", "latest", "params", "states")

    def __init__(self, params: Sequence[tuple[int, Any]], constants: tuple[int, Any]) -> None:
        self.params = tuple(address for address, _ in params)
        self.constants, held = constants
        self.keepalive = (held, *(owner for _, owner in params))
        self.states: list[_State] = []
        self.latest: _State | None = None  # the one that `_run_anew` took last


class Code(Protocol):
    """The code of a program in this process, for as long as this lives."""

    def function(self, symbol: str, result: Any) -> Any:
        """The exported function `symbol` of one pointer, as a foreign function."""


class Executable:
    """A program that can run. Made by `load`, or with code that is in this process already."""

    def __init__(self, compiled: Compiled, code: Code | None = None) -> None:
        needed = compiled.meta.get("target", "generic")
        if code is None and not supports(needed):  # a library has told which code runs here
            raise CompileError(
                f"{compiled.name} was compiled for {needed}, which this CPU lacks: compile it "
                "here, or for the target generic"
            )
        self.compiled = compiled
        self._code = _linked(compiled) if code is None else code
        self._entry = self._code.function(compiled.entry, ctypes.c_int32)
        self._prepare = self._code.function(compiled.prepare, ctypes.c_int32)
        self._arena_bytes = self._code.function(compiled.arena_bytes, ctypes.c_int64)
        self._dims_slot = SLOT_FIRST + len(compiled.inputs) + len(compiled.outputs)
        self._params_slot = self._dims_slot + len(compiled.dims)
        self._binding: _Binding | None = None
        with _lock:
            _loaded.add(self)
        if not compiled.params:
            self.bind(())

    def bind(
        self, params: Sequence[tuple[int, Any]], constants: tuple[int, Any] | None = None
    ) -> None:
        """Gives the parameters, each as its address and whatever keeps that memory alive.

        Allocates the const arena and fills it once with what the program derives from them, such as
        packed weights. Where these `constants` are given, which such a program has made of the same
        parameters, they are used as they lie, and parameters that a run does not read may be null.
        A later call rebinds; runs that are under way end with what they began with.
        Raises InputError for a wrong number of parameters, RunError where `prepare` fails.
        """
        compiled = self.compiled
        if len(params) != len(compiled.params):
            raise InputError(
                f"{compiled.name} has {len(compiled.params)} parameters, and bind was given "
                f"{len(params)}"
            )
        if constants is not None:
            self._binding = _Binding(params, constants)
            return
        arena = Arena(compiled.const_bytes)
        binding = _Binding(params, (arena.address, arena))
        state = self._state(binding)
        state.set(SLOT_THREADS, [pool.get_num_threads()])
        self._grow(state)
        code = self._prepare(state.address)
        if code:
            self._fail(code)
        binding.states.append(state)
        self._binding = binding

    def address(self, symbol: str) -> int:
        """Where the exported function `symbol` lies, for as long as this lives."""
        found = self._code.function(symbol, ctypes.c_int64)
        return ctypes.cast(found, ctypes.c_void_p).value or 0

    @property
    def constants(self) -> ctypes.Array[ctypes.c_char]:
        """What the program has prepared from the parameters that are bound, as it lies in memory
        that the present binding keeps. Raises InputError where none are bound.
        """
        binding = self._bound()
        return (ctypes.c_char * self.compiled.const_bytes).from_address(binding.constants)

    def run(
        self, inputs: Iterable[int], outputs: Iterable[int], dims: tuple[int, ...] = ()
    ) -> None:
        """Runs the program on the memory at these addresses, with these values of its dims.

        The memory must stay alive and hold tensors of the descriptor's shapes. Raises what the
        program reports: RunIndexError for an index out of bounds, RunError for anything else.
        """
        binding = self._bound()
        arguments = [pool.get_num_threads(), *inputs, *outputs, *dims]
        latest = binding.latest
        code = None if latest is None else latest.record.launch(*arguments)
        if code is None:
            code = self._run_anew(binding, arguments, dims)
        if code:
            self._fail(code)

    def _bound(self) -> _Binding:
        if self._binding is None:
            raise InputError(f"{self.compiled.name} has parameters: bind them before the first run")
        return self._binding

    def _run_anew(self, binding: _Binding, arguments: list[int], dims: tuple[int, ...]) -> int:
        """A run on a state that is not busy, which is made to fit these dims and threads."""
        state = next((s for s in binding.states if s.record.take()), None)
        if state is None:
            state = self._state(binding)
            state.record.take()
            binding.states.append(state)  # before it asks whom to tell: see `trace`
        try:
            threads, *rest = arguments
            fits = state.made_for == (dims, threads)
            if not fits:
                state.unmake()
            state.set(SLOT_FIRST, rest)
            if not fits:
                self._resize(state, dims, threads)
            code: int = self._entry(state.address)
        finally:
            state.record.release()
        binding.latest = state
        return code

    @property
    def latest(self) -> Any:
        """The state that ran last where a new one had to be found, of which prepared calls are."""
        return None if self._binding is None else self._binding.latest

    def prepared(
        self,
        state: Any,
        like: Callable[..., bool],
        address: Callable[[Any], int],
        makers: Sequence[Maker],
        dims: tuple[int, ...],
        params: Sequence[Watched],
        held: Any,
    ) -> Callable[..., tuple[Any, ...] | None] | None:
        """A whole call with tensors as one native function (see call.prepared) on the state that is
        `latest`, for the parameters that are bound now; None where it did not run with these dims.

        Nobody may bind others meanwhile.
        """
        binding = self._binding
        made_for = None if binding is None or state is None else state.made_for
        if made_for is None or made_for[0] != dims or not isinstance(state.record, Record):
            return None
        inputs = len(self.compiled.inputs)
        return prepared(
            state.record, like, address, inputs, makers, dims, params, pool.get_num_threads,
            self._fail, (self._code, binding, state, held),
        )  # fmt: skip

    def arena_bytes(self, dims: tuple[int, ...] = ()) -> int:
        """Bytes of scratch that one run with these dims needs, at the present number of threads."""
        state = self._blank()
        state.set(SLOT_THREADS, [pool.get_num_threads()])
        state.set(self._dims_slot, dims)
        return int(self._arena_bytes(state.address))

    def _state(self, binding: _Binding) -> _State:
        state = self._blank()
        state.set(SLOT_CONST, [binding.constants, ctypes.addressof(pool.host_table())])
        state.set(self._params_slot, binding.params)
        return state

    def _blank(self) -> _State:
        compiled, dims = self.compiled, self._dims_slot - SLOT_FIRST
        entry = ctypes.cast(self._entry, ctypes.c_void_p).value or 0
        return _State(compiled.slots, entry, dims + len(compiled.dims), dims)

    def _resize(self, state: _State, dims: tuple[int, ...], threads: int) -> None:
        """Makes the arena of `state` large enough for a run with these dims and threads."""
        state.set(SLOT_THREADS, [threads])
        try:
            self._grow(state, dims)
        except BaseException:
            state.unmake()
            raise
        state.made_for = dims, threads
        self._tell(state)

    def look(self) -> None:
        """Lets each block tell the present tracer of its calls, or nobody; calls that are under way
        are waited for.
        """
        binding = self._binding
        for state in [] if binding is None else list(binding.states):
            while not state.record.take():
                time.sleep(_PAUSE)
            try:
                self._tell(state)
            finally:
                state.record.release()

    def _tell(self, state: _State) -> None:
        tracer, made_for = _tracer, state.made_for
        trace = None
        if tracer is not None and made_for is not None:
            trace = tracer.trace(state, self.compiled, *made_for)
        if trace is not state.trace:
            own = ctypes.addressof(pool.host_table()) if trace is None else trace.address
            state.set(SLOT_HOST, [own])
            state.trace = trace

    def _grow(self, state: _State, dims: tuple[int, ...] = ()) -> None:
        """Makes the arena of `state` as large as its block asks for."""
        needed = self._arena_bytes(state.address)
        if needed < 0:
            raise RunError(
                f"{self.compiled.name}: no sizes can be computed for dims "
                f"{dict(zip(self.compiled.dim_names, dims))}"
            )
        if state.arena is None or state.arena.size < needed:
            state.arena = None  # freed before its successor is made
            state.arena = Arena(needed)
            state.set(SLOT_ARENA, [state.arena.address])

    def _fail(self, code: int) -> None:
        """Raises the error that a non-zero return stands for."""
        name, errors = self.compiled.name, self.compiled.errors
        if not 1 <= code <= len(errors):
            raise RunError(f"{name} failed with code {code}, which it has no message for")
        text = errors[code - 1]
        kind = RunIndexError if is_index(text) else RunError
        raise kind(f"{name}: {text}")


def _linked(compiled: Compiled) -> Code:
    from ferrule.runtime.linked import Linked  # which artifacts do not need

    return Linked(compiled)


_lock = threading.Lock()
_loaded: weakref.WeakSet[Executable] = weakref.WeakSet()
_tracer: Tracer | None = None
_PAUSE = 20e-6


def trace(tracer: Tracer | None) -> None:
    """From here on every program of this process tells `tracer` of its calls; nobody where None."""
    global _tracer
    _tracer = tracer  # first: a block that is made meanwhile is either seen here or asks for it
    with _lock:
        programs = list(_loaded)
    for program in programs:
        program.look()


def load(compiled: Compiled) -> Executable:
    """Links a compiled program into this process. The code is freed with the Executable.

    A program without params can run at once; others need `bind`. Raises CompileError where the
    object code is not for this machine or lacks one of the three functions.
    """
    return Executable(compiled)
