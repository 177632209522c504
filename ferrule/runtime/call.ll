; A call from Python: `launch` is a C function of CPython (METH_FASTCALL) that takes the number of
; threads, the addresses of inputs and outputs, and the dims, all as Python integers. It writes them
; into the argument block, and runs the program without the GIL. None tells that it did not run: the
; record is busy, or was made for other dims or another number of threads.
;
; `self` is the address of the record as a Python integer. What is taken, by whoever wrote 1 where
; there was 0, is the record and all that it points to.

%Record = type {
  ptr,      ; the entry
  ptr,      ; the argument block
  i64,      ; how many arguments follow the number of threads
  i64,      ; the first of them that is a dim
  i64       ; busy
}

declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare i64 @PyLong_AsLongLong(ptr)
declare ptr @PyLong_AsVoidPtr(ptr)
declare ptr @PyLong_FromLongLong(i64)
declare ptr @PyErr_Occurred()
declare void @Py_IncRef(ptr)
@_Py_NoneStruct = external global i8

; Whether the record was free, and is now taken.
define internal i1 @taken(ptr %record) {
  %busy = getelementptr %Record, ptr %record, i64 0, i32 4
  %pair = cmpxchg ptr %busy, i64 0, i64 1 acquire monotonic
  %free = extractvalue { i64, i1 } %pair, 1
  ret i1 %free
}

define internal void @release(ptr %record) {
  %busy = getelementptr %Record, ptr %record, i64 0, i32 4
  store atomic i64 0, ptr %busy release, align 8
  ret void
}

; METH_NOARGS: takes the record for what Python does with it, and tells whether it was free.
define ptr @ferrule_take(ptr %self, ptr %unused) {
  %record = call ptr @PyLong_AsVoidPtr(ptr %self)
  %free = call i1 @taken(ptr %record)
  %number = zext i1 %free to i64
  %answer = call ptr @PyLong_FromLongLong(i64 %number)
  ret ptr %answer
}

define ptr @ferrule_launch(ptr %self, ptr %given, i64 %n) {
entry:
  %record = call ptr @PyLong_AsVoidPtr(ptr %self)
  %p.entry = getelementptr %Record, ptr %record, i64 0, i32 0
  %p.block = getelementptr %Record, ptr %record, i64 0, i32 1
  %p.count = getelementptr %Record, ptr %record, i64 0, i32 2
  %p.dims = getelementptr %Record, ptr %record, i64 0, i32 3
  %block = load ptr, ptr %p.block
  %count = load i64, ptr %p.count
  %dims = load i64, ptr %p.dims
  %expected = add i64 %count, 1
  %fits = icmp eq i64 %n, %expected
  br i1 %fits, label %try, label %none
try:
  %free = call i1 @taken(ptr %record)
  br i1 %free, label %threads, label %none
threads:
  %o.threads = load ptr, ptr %given
  %wanted = call i64 @PyLong_AsLongLong(ptr %o.threads)
  %p.threads = getelementptr i64, ptr %block, i64 1
  %made = load i64, ptr %p.threads
  %same = icmp eq i64 %wanted, %made
  br i1 %same, label %next, label %unlike
unlike:
  %no.number = call ptr @PyErr_Occurred()
  %is.number = icmp eq ptr %no.number, null
  br i1 %is.number, label %other, label %raise

next:                                          ; argument i goes to slot i + 3
  %i = phi i64 [ 0, %threads ], [ %i1, %set ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %argument, label %run
argument:
  %i1 = add i64 %i, 1
  %p.o = getelementptr ptr, ptr %given, i64 %i1
  %o = load ptr, ptr %p.o
  %value = call i64 @PyLong_AsLongLong(ptr %o)
  %at = add i64 %i, 3
  %slot = getelementptr i64, ptr %block, i64 %at
  %suspect = icmp eq i64 %value, -1
  br i1 %suspect, label %look, label %known
look:
  %error = call ptr @PyErr_Occurred()
  %failed = icmp ne ptr %error, null
  br i1 %failed, label %raise, label %known
known:
  %is.dim = icmp sge i64 %i, %dims
  br i1 %is.dim, label %compare, label %set
compare:
  %before = load i64, ptr %slot
  %unchanged = icmp eq i64 %value, %before
  br i1 %unchanged, label %set, label %other
set:
  store i64 %value, ptr %slot
  br label %next

run:
  %entry.fn = load ptr, ptr %p.entry
  %thread = call ptr @PyEval_SaveThread()
  %code = call i32 %entry.fn(ptr %block)
  call void @PyEval_RestoreThread(ptr %thread)
  call void @release(ptr %record)
  %number = sext i32 %code to i64
  %answer = call ptr @PyLong_FromLongLong(i64 %number)
  ret ptr %answer

raise:
  call void @release(ptr %record)
  ret ptr null
other:
  call void @release(ptr %record)
  br label %none
none:
  call void @Py_IncRef(ptr @_Py_NoneStruct)
  ret ptr @_Py_NoneStruct
}
