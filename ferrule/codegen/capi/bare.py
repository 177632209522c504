"""What the API calls of a C library, where there is none: WebAssembly.

    block = bytes:8 next:8 .. | data, at a multiple of 64

Memory is a list of free blocks in the order of their addresses, which the first that is large
enough is taken from, and neighbours are made one ("The C Programming Language", 8.7). It grows by
pages. There is one thread, so that a lock is nothing and a thread's own value a global one.
"""

from __future__ import annotations

from ferrule.codegen.capi.body import Value, Writer

_HEAD, _PAGE = 64, 1 << 16
_SMALLEST = 2 * _HEAD  # of a block
_MOST = 1 << 31  # bytes of a block; the memory has twice as many
_NEXT = 8

_SIMPLE = """\
declare i32 @llvm.wasm.memory.size.i32(i32)
declare i32 @llvm.wasm.memory.grow.i32(i32, i32)
declare void @llvm.memcpy.p0.p0.i32(ptr, ptr, i32, i1)
declare void @llvm.memset.p0.i32(ptr, i8, i32, i1)
@__heap_base = external global i8
@bare.begun = internal global i8 0
@bare.free = internal global ptr null
@bare.own = internal global ptr null

define internal ptr @memcpy(ptr %to, ptr %from, i64 %size) {
  %n = trunc i64 %size to i32
  call void @llvm.memcpy.p0.p0.i32(ptr %to, ptr %from, i32 %n, i1 false)
  ret ptr %to
}
define internal ptr @aligned_alloc(i64 %alignment, i64 %size) {
  %p = call ptr @malloc(i64 %size)
  ret ptr %p
}
define internal ptr @calloc(i64 %size, i64 %count) {
  %p = call ptr @malloc(i64 %size)
  %none = icmp eq ptr %p, null
  br i1 %none, label %end, label %clear
clear:
  %n = trunc i64 %size to i32
  call void @llvm.memset.p0.i32(ptr %p, i8 0, i32 %n, i1 false)
  br label %end
end:
  ret ptr %p
}
define internal i32 @sched_getaffinity(i32 %process, i64 %size, ptr %mask) {
  ret i32 -1
}
define internal i32 @munmap(ptr %at, i64 %size) {
  ret i32 0
}
define internal i32 @pthread_once(ptr %once, ptr %make) {
  %before = load i32, ptr %once
  %done = icmp ne i32 %before, 0
  br i1 %done, label %end, label %first
first:
  store i32 1, ptr %once
  call void %make()
  br label %end
end:
  ret i32 0
}
define internal i32 @pthread_key_create(ptr %key, ptr %destroy) {
  ret i32 0
}
define internal ptr @pthread_getspecific(i32 %key) {
  %p = load ptr, ptr @bare.own
  ret ptr %p
}
define internal i32 @pthread_setspecific(i32 %key, ptr %value) {
  store ptr %value, ptr @bare.own
  ret i32 0
}
define internal i32 @pthread_mutex_init(ptr %lock, ptr %how) {
  ret i32 0
}
define internal i32 @pthread_mutex_lock(ptr %lock) {
  ret i32 0
}
define internal i32 @pthread_mutex_unlock(ptr %lock) {
  ret i32 0
}
define internal i32 @pthread_mutex_destroy(ptr %lock) {
  ret i32 0
}
"""


def define_bare(m: Writer) -> None:
    """Defines what `api.py` calls of a C library, but for files."""
    m.globals.append(_SIMPLE)
    _malloc(m)
    _grow(m)
    _free(m)


def _malloc(m: Writer) -> None:
    """`calloc` is given one element alone, and `aligned_alloc` no more than 64."""
    f = m.define("ptr", "malloc", {"size": "i64"})
    begun = f.value("ptr", "@bare.begun")
    with f.when(f.load("i8", begun).equals(0)):
        f.store(f.value("i8", 1), begun)
        start = (f.value("ptr", "@__heap_base").to("i64") + (_HEAD - 1)) & -_HEAD
        end = f.call("i32", "@llvm.wasm.memory.size.i32", f.value("i32", 0)).to("i64") * _PAGE
        with f.when((start + _SMALLEST).below(end)):
            f.store(end - start, start.to("ptr"))
            f.call("void", "@free", start.to("ptr") + _HEAD)
    with f.when(~f["size"].below(_MOST)):
        f.give(f.value("ptr", "null"))
    needed = (f["size"] + (2 * _HEAD - 1)) & -_HEAD
    link = f.variable("ptr", f.value("ptr", "@bare.free"))
    block = f.variable("ptr", f.load("ptr", link.get()))

    def more() -> Value:
        return ~block.get().is_null

    with f.while_(more):
        own = block.get()
        size = f.load("i64", own)
        with f.when((size - needed).less(0)):
            link.set(own + _NEXT)
            block.set(f.load("ptr", own, _NEXT))
        with f.when(~(size - needed).less(0)):
            left = size - needed
            with f.when(left.less(_SMALLEST)):
                f.store(f.load("ptr", own, _NEXT), link.get())
                f.give(own + _HEAD)
            f.store(left, own)
            f.store(needed, own + left)
            f.give(own + left + _HEAD)
    grown = f.call("i1", "@bare.grow", needed)
    with f.when(~grown):
        f.give(f.value("ptr", "null"))
    f.give(f.call("ptr", "@malloc", f["size"]))


def _grow(m: Writer) -> None:
    """Makes pages for so many bytes a free block, if there are any."""
    f = m.define("i1", "bare.grow", {"size": "i64"})
    pages = (f["size"] + (_PAGE - 1)).right(16)
    number = f.value("i32", 0)
    old = f.call("i32", "@llvm.wasm.memory.grow.i32", number, pages.to("i32"))
    with f.when(old.equals(-1)):
        f.give(f.value("i1", "false"))
    block = (old.to("i64") * _PAGE).to("ptr")
    f.store(pages * _PAGE, block)
    f.call("void", "@free", block + _HEAD)
    f.give(f.value("i1", "true"))


def _free(m: Writer) -> None:
    f = m.define("void", "free", {"data": "ptr"})
    with f.when(f["data"].is_null):
        f.give()
    block = f["data"] + -_HEAD
    link, last = f.variable("ptr", f.value("ptr", "@bare.free")), f.variable("ptr", "null")
    place = block.to("i64")

    def before() -> Value:
        """Whether the block that is linked lies before this one."""
        at = f.load("ptr", link.get()).to("i64")
        return (at - 1).below(place)  # null lies behind all

    with f.while_(before):
        last.set(f.load("ptr", link.get()))
        link.set(last.get() + _NEXT)
    behind = f.load("ptr", link.get())
    f.store(behind, block, _NEXT)
    f.store(block, link.get())
    own = f.load("i64", block)
    with f.when((block + own).equals(behind.text)):
        f.store(own + f.load("i64", behind), block)
        f.store(f.load("ptr", behind, _NEXT), block, _NEXT)
    with f.when(~last.get().is_null):
        size = f.load("i64", last.get())
        with f.when((last.get() + size).equals(block.text)):
            f.store(size + f.load("i64", block), last.get())
            f.store(f.load("ptr", block, _NEXT), last.get(), _NEXT)
    f.give()
