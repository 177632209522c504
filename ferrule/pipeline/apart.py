"""Compiling in another process, so that this one goes on.

    compiler = apart(settings)          # a Compiler as `native(settings)` gives one

The compiler is Python and holds the interpreter's lock for most of its time: a thread that compiles
makes each operator of an eager model that runs beside it wait for the lock, up to 5 ms each. So a
thread that compiles here waits, without the lock, for another Python process, which has a lower
priority than this one. It imports the compiler alone, takes one graph after another as pickled
`(logs, cache, graph, options)`, fills the disk cache, and gives the program's bytes; to load them
takes milliseconds. It ends as soon as its input ends, whatever it does: with `close`, or with this
process, however that ends.

What cannot be sent (a graph with operators that the user defined in this process) is compiled by
the calling thread itself.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import queue
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from ferrule.base import config, errors, log, watch
from ferrule.base.artifact import Compiled
from ferrule.base.compiler import Compiler
from ferrule.base.config import Settings
from ferrule.base.errors import CompileError, FerruleError
from ferrule.ir.graph import Graph, definitions
from ferrule.pipeline.compile import compile_fresh, compile_graph, native
from ferrule.pipeline.passes import Options
from ferrule.runtime.cache import Cache

NICE = 5  # less than the process that runs the model has
_READY = b"ready"
_START = "import sys; sys.path[:] = {path!r}; from ferrule.pipeline.apart import serve; serve()"


def apart(settings: Settings) -> Compiler:
    """What frontends are given: compiles in another process as `settings` say."""
    made = native(settings)
    compiled = functools.partial(compile_graph, settings=settings, fresh=_fresh)
    return replace(made, program_of=compiled, ahead=True)


def close() -> None:
    """Ends the other process, if there is one; a compilation that waits for it raises
    CompileError.
    """
    _process.close()


def rest() -> None:
    """Ends the other process unless somebody waits for it."""
    _process.rest()


class _Process:
    """The other process: started where it is first needed, one request at a time."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, request: bytes) -> tuple[str, Any] | None:
        """The reply to a request; None where no process can be started. Raises CompileError where
        it ends meanwhile.
        """
        with self._asking:
            child = self._running()
            if child is None:
                return None
            assert child.stdin is not None
            assert child.stdout is not None
            try:
                _send(child.stdin, request)
                reply = _receive(child.stdout)
            except OSError:
                reply = None
            except BaseException:  # an interrupt: what it would still answer is nobody's
                self.close()
                raise
            if reply is None:
                self.close()
                watch.tell(watch.Step())  # whoever ended it may end the compilation too
                raise CompileError(f"the process that compiles ended with {child.wait()}")
            kind, value = pickle.loads(reply)
            return str(kind), value

    def rest(self) -> None:
        """Ends the process unless somebody waits for it."""
        if self._asking.acquire(blocking=False):
            try:
                self.close()
            finally:
                self._asking.release()

    def close(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()

    def forget(self) -> None:
        """After a fork: the process is the parent's."""
        self._asking, self._child = threading.Lock(), None

    def _running(self) -> subprocess.Popen[bytes] | None:
        if self._child is None or self._child.poll() is not None:
            self._child = child = _begun()  # from here on `close` ends it
            if child is not None and not _is_ready(child):
                self._child = None
        return self._child


def _begun() -> subprocess.Popen[bytes] | None:
    root = str(Path(__file__).parent.parent.parent)
    command = [sys.executable, "-c", _START.format(path=[root, *sys.path])]
    try:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
    except (OSError, ValueError) as error:
        log.log(1, f"no other process to compile in: {error}")
        return None


def _is_ready(child: subprocess.Popen[bytes]) -> bool:
    """Waits until a process can take requests; False where it ends before."""
    assert child.stdout is not None
    if _receive(child.stdout) == _READY:
        return True
    log.log(1, f"the process to compile in ended with {child.wait()}")
    return False


def _fresh(cache: Cache, graph: Graph, options: Options) -> Compiled:
    """`graph` compiled by the other process and put into the cache. Raises what it raised."""
    reply = None
    if not definitions(graph):
        reply = _process.ask(pickle.dumps((int(config.get("logs")), cache, graph, options)))
    if reply is None:
        return compile_fresh(cache, graph, options)
    kind, value = reply
    if kind == "compiled":
        return Compiled.from_bytes(value)
    found = getattr(errors, kind, None)
    raise found(value) if found is not None else CompileError(f"{graph.name}: {kind}: {value}")


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.forget)


# ---- in the other process ------------------------------------------------------------------------


def serve() -> None:
    """Compiles what comes over the standard input, until it ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints does not print into the replies
    with contextlib.suppress(OSError, AttributeError):
        os.nice(NICE)
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    _send(replies, _READY)
    while True:
        _send(replies, pickle.dumps(_reply(requests.get())))


def _read(requests: queue.SimpleQueue[bytes]) -> None:
    """Hands requests on; ends the process with the input, in the middle of a compilation too."""
    while (request := _receive(sys.stdin.buffer)) is not None:
        requests.put(request)
    os._exit(0)


def _reply(request: bytes) -> tuple[str, Any]:
    try:
        logs, cache, graph, options = pickle.loads(request)
        with config.override(logs=logs), watch.watched(lambda step: None):
            return "compiled", compile_fresh(cache, graph, options).to_bytes()
    except FerruleError as error:
        return type(error).__name__, str(error)
    except Exception as error:
        return "a defect of ferrule, please report it", f"{type(error).__name__}: {error}"


# ---- messages: their length, then so many bytes --------------------------------------------------


def _send(file: IO[bytes], message: bytes) -> None:
    file.write(struct.pack("<q", len(message)) + message)
    file.flush()


def _receive(file: IO[bytes]) -> bytes | None:
    """The next message, or None where the file ends."""
    head = file.read(8)
    if len(head) < 8:
        return None
    (size,) = struct.unpack("<q", head)
    message = file.read(size)
    return message if len(message) == size else None
