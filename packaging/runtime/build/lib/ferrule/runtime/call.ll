; Calls from Python, as C functions of CPython whose `self` is the address of a structure as a Python
; integer. None tells that nothing was run.
;
; `launch` takes the number of threads, the addresses of inputs and outputs, and the dims, all as
; Python integers. It writes them into the argument block, and runs the program without the GIL. It
; runs nothing where the record is busy, or was made for other dims or another number of threads.
; What is taken, by whoever wrote 1 where there was 0, is the record and all that it points to.
;
; `call` takes the tensors of a framework, inputs and then parameters, and knows the objects of Python
; that tell whether inputs are like those of an earlier call, what addresses are, and how to make the
; outputs; and of each parameter what shows that it was changed. FIRST is the slot of the first
; argument (ferrule.base.artifact).

%Record = type {
  ptr,      ; the entry
  ptr,      ; the argument block
  i64,      ; how many arguments follow the number of threads
  i64,      ; the first of them that is a dim
  i64       ; busy
}

%Call = type {
  ptr,      ; the record
  ptr,      ; like(*tensors): True, or nothing is run
  ptr,      ; address(tensor)
  ptr,      ; threads()
  ptr,      ; fail(code), which raises
  i64,      ; how many inputs
  i64,      ; how many outputs
  ptr,      ; the outputs' makers
  i64,      ; how many dims
  ptr,      ; the dims
  i64,      ; how many parameters
  ptr,      ; what they were
  ptr       ; the name of the attribute that counts a parameter's changes
}

%Maker = type { ptr, ptr, i64 }        ; make(*arguments): the function, the arguments, how many
%Param = type { i64, i64, ptr, ptr, i64 }  ; address, version or -1, some bytes: where, what, how many

declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare i64 @PyLong_AsLongLong(ptr)
declare ptr @PyLong_AsVoidPtr(ptr)
declare ptr @PyLong_FromLongLong(i64)
declare ptr @PyErr_Occurred()
declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)
declare ptr @PyObject_VectorcallDict(ptr, ptr, i64, ptr)
declare ptr @PyTuple_New(i64)
declare i32 @PyTuple_SetItem(ptr, i64, ptr)
declare void @PyObject_GC_UnTrack(ptr)
declare void @PyObject_GC_Track(ptr)
declare ptr @PyObject_GetAttr(ptr, ptr)
declare i32 @memcmp(ptr, ptr, i64)
@_Py_NoneStruct = external global i8
@_Py_TrueStruct = external global i8

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

next:                                          ; argument i goes to slot i + FIRST
  %i = phi i64 [ 0, %threads ], [ %i1, %set ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %argument, label %run
argument:
  %i1 = add i64 %i, 1
  %p.o = getelementptr ptr, ptr %given, i64 %i1
  %o = load ptr, ptr %p.o
  %value = call i64 @PyLong_AsLongLong(ptr %o)
  %at = add i64 %i, FIRST
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

; Whether an object, whose reference is given up, was an integer: then it is in the slot. Else the
; error is set.
define internal i1 @number(ptr %object, ptr %slot) {
  %failed = icmp eq ptr %object, null
  br i1 %failed, label %no, label %convert
convert:
  %value = call i64 @PyLong_AsLongLong(ptr %object)
  call void @Py_DecRef(ptr %object)
  store i64 %value, ptr %slot
  %suspect = icmp eq i64 %value, -1
  br i1 %suspect, label %look, label %yes
look:
  %error = call ptr @PyErr_Occurred()
  %fine = icmp eq ptr %error, null
  br i1 %fine, label %yes, label %no
yes:
  ret i1 true
no:
  ret i1 false
}

define ptr @ferrule_call(ptr %self, ptr %given, i64 %n) {
entry:
  %call = call ptr @PyLong_AsVoidPtr(ptr %self)
  %p.record = getelementptr %Call, ptr %call, i64 0, i32 0
  %record = load ptr, ptr %p.record
  %p.entry = getelementptr %Record, ptr %record, i64 0, i32 0
  %entry.fn = load ptr, ptr %p.entry
  %p.block = getelementptr %Record, ptr %record, i64 0, i32 1
  %block = load ptr, ptr %p.block
  %p.address = getelementptr %Call, ptr %call, i64 0, i32 2
  %address = load ptr, ptr %p.address
  %p.inputs = getelementptr %Call, ptr %call, i64 0, i32 5
  %inputs = load i64, ptr %p.inputs
  %p.outputs = getelementptr %Call, ptr %call, i64 0, i32 6
  %outputs = load i64, ptr %p.outputs
  %p.makers = getelementptr %Call, ptr %call, i64 0, i32 7
  %makers = load ptr, ptr %p.makers
  %p.n.dims = getelementptr %Call, ptr %call, i64 0, i32 8
  %n.dims = load i64, ptr %p.n.dims
  %p.dims = getelementptr %Call, ptr %call, i64 0, i32 9
  %dims = load ptr, ptr %p.dims
  %p.n.params = getelementptr %Call, ptr %call, i64 0, i32 10
  %n.params = load i64, ptr %p.n.params
  %p.params = getelementptr %Call, ptr %call, i64 0, i32 11
  %params = load ptr, ptr %p.params
  %p.name = getelementptr %Call, ptr %call, i64 0, i32 12
  %name = load ptr, ptr %p.name
  %number = alloca i64
  %made = alloca ptr
  %tensors = add i64 %inputs, %n.params
  %fits = icmp eq i64 %n, %tensors
  br i1 %fits, label %guard, label %none

guard:
  %p.like = getelementptr %Call, ptr %call, i64 0, i32 1
  %like = load ptr, ptr %p.like
  %alike = call ptr @PyObject_VectorcallDict(ptr %like, ptr %given, i64 %inputs, ptr null)
  %unknown = icmp eq ptr %alike, null
  br i1 %unknown, label %error, label %answered
answered:
  %true = icmp eq ptr %alike, @_Py_TrueStruct
  call void @Py_DecRef(ptr %alike)
  br i1 %true, label %param, label %none

param:
  %k = phi i64 [ 0, %answered ], [ %k1, %bytes ]
  %more.params = icmp slt i64 %k, %n.params
  br i1 %more.params, label %place, label %threads
place:
  %k1 = add i64 %k, 1
  %k.given = add i64 %inputs, %k
  %p.param = getelementptr ptr, ptr %given, i64 %k.given
  %o.place = call ptr @PyObject_VectorcallDict(ptr %address, ptr %p.param, i64 1, ptr null)
  %placed.param = call i1 @number(ptr %o.place, ptr %number)
  br i1 %placed.param, label %moved, label %error
moved:
  %p.was.at = getelementptr %Param, ptr %params, i64 %k, i32 0
  %was.at = load i64, ptr %p.was.at
  %is.at = load i64, ptr %number
  %stayed = icmp eq i64 %is.at, %was.at
  br i1 %stayed, label %counts, label %none
counts:
  %p.version = getelementptr %Param, ptr %params, i64 %k, i32 1
  %version = load i64, ptr %p.version
  %is.counted = icmp sge i64 %version, 0
  br i1 %is.counted, label %count, label %bytes
count:
  %param.object = load ptr, ptr %p.param
  %o.version = call ptr @PyObject_GetAttr(ptr %param.object, ptr %name)
  %has.version = call i1 @number(ptr %o.version, ptr %number)
  br i1 %has.version, label %counted.now, label %error
counted.now:
  %version.now = load i64, ptr %number
  %unwritten = icmp eq i64 %version.now, %version
  br i1 %unwritten, label %bytes, label %none
bytes:
  %p.where = getelementptr %Param, ptr %params, i64 %k, i32 2
  %p.what = getelementptr %Param, ptr %params, i64 %k, i32 3
  %p.size.bytes = getelementptr %Param, ptr %params, i64 %k, i32 4
  %where = load ptr, ptr %p.where
  %what = load ptr, ptr %p.what
  %size.bytes = load i64, ptr %p.size.bytes
  %differs = call i32 @memcmp(ptr %where, ptr %what, i64 %size.bytes)
  %unseen = icmp eq i32 %differs, 0
  br i1 %unseen, label %param, label %none

threads:
  %p.threads = getelementptr %Call, ptr %call, i64 0, i32 3
  %threads.fn = load ptr, ptr %p.threads
  %o.threads = call ptr @PyObject_VectorcallDict(ptr %threads.fn, ptr null, i64 0, ptr null)
  %counted = call i1 @number(ptr %o.threads, ptr %number)
  br i1 %counted, label %try, label %error
try:
  %free = call i1 @taken(ptr %record)
  br i1 %free, label %compare, label %none
compare:
  %wanted = load i64, ptr %number
  %p.made.for = getelementptr i64, ptr %block, i64 1
  %made.for = load i64, ptr %p.made.for
  %same = icmp eq i64 %wanted, %made.for
  br i1 %same, label %first, label %other
first:
  %results = add i64 %inputs, FIRST    ; the slot of the first output
  %sizes = add i64 %results, %outputs  ; and of the first dim
  br label %dim
dim:
  %d = phi i64 [ 0, %first ], [ %d1, %equal ]
  %more.dims = icmp slt i64 %d, %n.dims
  br i1 %more.dims, label %size, label %input
size:
  %d1 = add i64 %d, 1
  %p.dim = getelementptr i64, ptr %dims, i64 %d
  %dim.wanted = load i64, ptr %p.dim
  %d.slot = add i64 %sizes, %d
  %p.size = getelementptr i64, ptr %block, i64 %d.slot
  %dim.before = load i64, ptr %p.size
  %unchanged = icmp eq i64 %dim.wanted, %dim.before
  br i1 %unchanged, label %equal, label %other
equal:
  br label %dim

input:
  %i = phi i64 [ 0, %dim ], [ %i1, %placed ]
  %more.inputs = icmp slt i64 %i, %inputs
  br i1 %more.inputs, label %tensor, label %outs
tensor:
  %i1 = add i64 %i, 1
  %i.slot = add i64 %i, FIRST
  %p.tensor = getelementptr ptr, ptr %given, i64 %i
  %o.input = call ptr @PyObject_VectorcallDict(ptr %address, ptr %p.tensor, i64 1, ptr null)
  %p.input = getelementptr i64, ptr %block, i64 %i.slot
  %known = call i1 @number(ptr %o.input, ptr %p.input)
  br i1 %known, label %placed, label %raise
placed:
  br label %input

outs:
  %tuple = call ptr @PyTuple_New(i64 %outputs)
  %no.tuple = icmp eq ptr %tuple, null
  br i1 %no.tuple, label %raise, label %hide
hide:                                  ; nobody else may see a tuple that is not full yet
  call void @PyObject_GC_UnTrack(ptr %tuple)
  br label %output
output:
  %j = phi i64 [ 0, %hide ], [ %j1, %held ]
  %more.outputs = icmp slt i64 %j, %outputs
  br i1 %more.outputs, label %make, label %run
make:
  %j1 = add i64 %j, 1
  %p.fn = getelementptr %Maker, ptr %makers, i64 %j, i32 0
  %p.args = getelementptr %Maker, ptr %makers, i64 %j, i32 1
  %p.count = getelementptr %Maker, ptr %makers, i64 %j, i32 2
  %make.fn = load ptr, ptr %p.fn
  %make.args = load ptr, ptr %p.args
  %make.count = load i64, ptr %p.count
  %o.output = call ptr @PyObject_VectorcallDict(ptr %make.fn, ptr %make.args, i64 %make.count,
                                                ptr null)
  %no.output = icmp eq ptr %o.output, null
  br i1 %no.output, label %drop, label %keep
keep:
  store ptr %o.output, ptr %made
  %refused = call i32 @PyTuple_SetItem(ptr %tuple, i64 %j, ptr %o.output)
  %is.kept = icmp eq i32 %refused, 0
  br i1 %is.kept, label %locate, label %drop
locate:
  %o.at = call ptr @PyObject_VectorcallDict(ptr %address, ptr %made, i64 1, ptr null)
  %j.slot = add i64 %results, %j
  %p.output = getelementptr i64, ptr %block, i64 %j.slot
  %placed.too = call i1 @number(ptr %o.at, ptr %p.output)
  br i1 %placed.too, label %held, label %drop
held:
  br label %output

run:
  %thread = call ptr @PyEval_SaveThread()
  %code = call i32 %entry.fn(ptr %block)
  call void @PyEval_RestoreThread(ptr %thread)
  call void @release(ptr %record)
  %done = icmp eq i32 %code, 0
  br i1 %done, label %answer, label %failed
answer:
  call void @PyObject_GC_Track(ptr %tuple)
  ret ptr %tuple
failed:
  call void @Py_DecRef(ptr %tuple)
  %wide = sext i32 %code to i64
  %o.code = call ptr @PyLong_FromLongLong(i64 %wide)
  %no.code = icmp eq ptr %o.code, null
  br i1 %no.code, label %error, label %tell
tell:
  store ptr %o.code, ptr %made
  %p.fail = getelementptr %Call, ptr %call, i64 0, i32 4
  %fail = load ptr, ptr %p.fail
  %raised = call ptr @PyObject_VectorcallDict(ptr %fail, ptr %made, i64 1, ptr null)
  call void @Py_DecRef(ptr %o.code)
  ret ptr %raised

drop:
  call void @Py_DecRef(ptr %tuple)
  br label %raise
raise:
  call void @release(ptr %record)
  br label %error
error:
  ret ptr null
other:
  call void @release(ptr %record)
  br label %none
none:
  call void @Py_IncRef(ptr @_Py_NoneStruct)
  ret ptr @_Py_NoneStruct
}
