; What the host table's `trace` is while a profile is on (ferrule.base.artifact): runs a launch as it
; would have been run, and writes down when. Times are those of the CPU's counter.
;
; A table belongs to one argument block, which one call at a time has. So what is written here has one
; writer, but for cells, which have one for each thread: nothing is locked.
;
; trace.py fills in @CYCLES@, its @DECLARATION@ and @THREAD@, and makes the memory.

%Host = type {
  i64, ptr, ptr, ptr,   ; as all host tables: bytes, parallel, user, trace
  ptr, ptr,             ; where the next event goes, and where there is room for no more
  ptr,                  ; the row of the whole entry, -1; those of calls follow
  ptr,                  ; cells
  i64                   ; how many events found no room
}

; Of a call: how often it ran, and for how long, divided by the threads of its launch. Of the launch
; that it is the first call of: how many, how long, how long until the first thread began, how long
; after the last had ended, the sum of their threads, the shortest one.
%Row = type { i64, i64, i64, i64, i64, i64, i64, i64 }

; What one thread did for one call of a launch: how long, when first, until when. A cache line.
%Cell = type { i64, i64, i64, [5 x i64] }

; number, thread (-1: the launch itself), from, to, how long of that it ran (how many threads)
%Event = type { i64, i64, i64, i64, i64 }

%Part = type { ptr, ptr, ptr }  ; a kernel, its ctx, its cells

declare i64 @llvm.umin.i64(i64, i64)
declare i64 @llvm.umax.i64(i64, i64)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
@DECLARATION@
declare i64 @THREAD@()

define i64 @ferrule_cycles() {
  %now = @CYCLES@
  ret i64 %now
}

; A kernel of a shared launch: that of the part, and the time in the thread's cell.
define internal void @part(ptr %part, i64 %lo, i64 %hi, i64 %tid) {
  %p.ctx = getelementptr %Part, ptr %part, i64 0, i32 1
  %p.cells = getelementptr %Part, ptr %part, i64 0, i32 2
  %kernel = load ptr, ptr %part
  %ctx = load ptr, ptr %p.ctx
  %cells = load ptr, ptr %p.cells
  %from = @CYCLES@
  call void %kernel(ptr %ctx, i64 %lo, i64 %hi, i64 %tid)
  %to = @CYCLES@
  %p.busy = getelementptr %Cell, ptr %cells, i64 %tid, i32 0
  %p.first = getelementptr %Cell, ptr %cells, i64 %tid, i32 1
  %p.last = getelementptr %Cell, ptr %cells, i64 %tid, i32 2
  %long = sub i64 %to, %from
  %busy = load i64, ptr %p.busy
  %busy1 = add i64 %busy, %long
  store i64 %busy1, ptr %p.busy
  %first = load i64, ptr %p.first
  %fresh = icmp eq i64 %first, 0
  %first1 = select i1 %fresh, i64 %from, i64 %first
  store i64 %first1, ptr %p.first
  store i64 %to, ptr %p.last
  ret void
}

define internal void @event(ptr %host, i64 %number, i64 %who, i64 %from, i64 %to, i64 %busy) {
  %p.next = getelementptr %Host, ptr %host, i64 0, i32 4
  %p.end = getelementptr %Host, ptr %host, i64 0, i32 5
  %next = load ptr, ptr %p.next
  %end = load ptr, ptr %p.end
  %room = icmp ult ptr %next, %end
  br i1 %room, label %write, label %full
write:
  %p.who = getelementptr %Event, ptr %next, i64 0, i32 1
  %p.from = getelementptr %Event, ptr %next, i64 0, i32 2
  %p.to = getelementptr %Event, ptr %next, i64 0, i32 3
  %p.busy = getelementptr %Event, ptr %next, i64 0, i32 4
  store i64 %number, ptr %next
  store i64 %who, ptr %p.who
  store i64 %from, ptr %p.from
  store i64 %to, ptr %p.to
  store i64 %busy, ptr %p.busy
  %after = getelementptr %Event, ptr %next, i64 1
  store ptr %after, ptr %p.next
  ret void
full:
  %p.lost = getelementptr %Host, ptr %host, i64 0, i32 8
  %lost = load i64, ptr %p.lost
  %lost1 = add i64 %lost, 1
  store i64 %lost1, ptr %p.lost
  ret void
}

define internal void @increase(ptr %word, i64 %by) alwaysinline {
  %old = load i64, ptr %word
  %new = add i64 %old, %by
  store i64 %new, ptr %word
  ret void
}

define internal ptr @row(ptr %host, i64 %number) alwaysinline {
  %p.rows = getelementptr %Host, ptr %host, i64 0, i32 6
  %rows = load ptr, ptr %p.rows
  %at = add i64 %number, 1
  %row = getelementptr %Row, ptr %rows, i64 %at
  ret ptr %row
}

; A launch in the row of its first call.
define internal void @launched(ptr %host, i64 %number, i64 %long, i64 %fork, i64 %join,
                               i64 %threads) {
  %row = call ptr @row(ptr %host, i64 %number)
  %p.launches = getelementptr %Row, ptr %row, i64 0, i32 2
  %p.long = getelementptr %Row, ptr %row, i64 0, i32 3
  %p.fork = getelementptr %Row, ptr %row, i64 0, i32 4
  %p.join = getelementptr %Row, ptr %row, i64 0, i32 5
  %p.threads = getelementptr %Row, ptr %row, i64 0, i32 6
  %p.least = getelementptr %Row, ptr %row, i64 0, i32 7
  call void @increase(ptr %p.launches, i64 1)
  call void @increase(ptr %p.long, i64 %long)
  call void @increase(ptr %p.fork, i64 %fork)
  call void @increase(ptr %p.join, i64 %join)
  call void @increase(ptr %p.threads, i64 %threads)
  %least = load i64, ptr %p.least
  %less = call i64 @llvm.umin.i64(i64 %least, i64 %long)
  store i64 %less, ptr %p.least
  ret void
}

; A call in its row: `long` is the time of its threads together over their number.
define internal void @ran(ptr %host, i64 %number, i64 %long) {
  %row = call ptr @row(ptr %host, i64 %number)
  %p.long = getelementptr %Row, ptr %row, i64 0, i32 1
  call void @increase(ptr %row, i64 1)
  call void @increase(ptr %p.long, i64 %long)
  ret void
}

define void @ferrule_trace(ptr %host, ptr %kernel, ptr %ctx, i64 %n, i64 %wanted, i64 %number,
                           i64 %parts) {
  %several = icmp sgt i64 %parts, 1
  %many = icmp sgt i64 %wanted, 1
  %shared = or i1 %several, %many
  br i1 %shared, label %share, label %alone
alone:
  %from = @CYCLES@
  call void %kernel(ptr %ctx, i64 0, i64 %n, i64 0)
  %to = @CYCLES@
  %long = sub i64 %to, %from
  call void @launched(ptr %host, i64 %number, i64 %long, i64 0, i64 0, i64 1)
  call void @ran(ptr %host, i64 %number, i64 %long)
  %whole = icmp slt i64 %number, 0
  br i1 %whole, label %entry.thread, label %tell
entry.thread:
  %self = call i64 @THREAD@()
  br label %tell
tell:
  %who = phi i64 [ 0, %alone ], [ %self, %entry.thread ]
  call void @event(ptr %host, i64 %number, i64 %who, i64 %from, i64 %to, i64 %long)
  ret void
share:
  call void @shared(ptr %host, ptr %kernel, ptr %ctx, i64 %n, i64 %wanted, i64 %number, i64 %parts)
  ret void
}

; The same of a launch of several calls, or of one for several threads: each call is wrapped by @part.
define internal void @shared(ptr %host, ptr %kernel, ptr %ctx, i64 %n, i64 %wanted, i64 %number,
                             i64 %parts) noinline {
entry:
  %count = call i64 @llvm.umax.i64(i64 %wanted, i64 1)
  %p.cells = getelementptr %Host, ptr %host, i64 0, i32 7
  %cells = load ptr, ptr %p.cells
  %all = mul i64 %parts, %count
  %bytes = mul i64 %all, 64
  call void @llvm.memset.p0.i64(ptr %cells, i8 0, i64 %bytes, i1 false)
  %wraps = alloca %Part, i64 %parts
  %several = icmp sgt i64 %parts, 1
  br i1 %several, label %copy, label %single
single:
  call void @wrap(ptr %wraps, ptr %kernel, ptr %ctx, ptr %cells)
  br label %run
copy:                                  ; of the table, with each kernel and ctx replaced
  %words = mul i64 %parts, 5
  %words1 = add i64 %words, 1
  %table = alloca i64, i64 %words1
  %size = mul i64 %words1, 8
  call void @llvm.memcpy.p0.p0.i64(ptr %table, ptr %ctx, i64 %size, i1 false)
  br label %each
each:
  %k = phi i64 [ 0, %copy ], [ %k1, %each ]
  %k1 = add i64 %k, 1
  %skip = mul i64 %k, 5
  %at = add i64 %skip, 1
  %p.kernel = getelementptr i64, ptr %table, i64 %at
  %p.ctx = getelementptr i64, ptr %p.kernel, i64 1
  %own.kernel = load ptr, ptr %p.kernel
  %own.ctx = load ptr, ptr %p.ctx
  %own.first = mul i64 %k, %count
  %own.cells = getelementptr %Cell, ptr %cells, i64 %own.first
  %wrap = getelementptr %Part, ptr %wraps, i64 %k
  call void @wrap(ptr %wrap, ptr %own.kernel, ptr %own.ctx, ptr %own.cells)
  store ptr @part, ptr %p.kernel
  store ptr %wrap, ptr %p.ctx
  %over = icmp eq i64 %k1, %parts
  br i1 %over, label %run, label %each
run:
  %fn = phi ptr [ @part, %single ], [ %kernel, %each ]
  %arg = phi ptr [ %wraps, %single ], [ %table, %each ]
  %from = @CYCLES@
  %serial = icmp eq i64 %count, 1
  br i1 %serial, label %here, label %fork
here:
  call void %fn(ptr %arg, i64 0, i64 %n, i64 0)
  br label %done
fork:
  %p.parallel = getelementptr %Host, ptr %host, i64 0, i32 1
  %p.user = getelementptr %Host, ptr %host, i64 0, i32 2
  %parallel = load ptr, ptr %p.parallel
  %user = load ptr, ptr %p.user
  call void %parallel(ptr %fn, ptr %arg, i64 %n, i64 %count, ptr %user)
  br label %done
done:
  %to = @CYCLES@
  call void @event(ptr %host, i64 %number, i64 -1, i64 %from, i64 %to, i64 %count)
  br label %call
call:                                  ; sums over the cells of each call
  %c = phi i64 [ 0, %done ], [ %c1, %summed ]
  %earliest = phi i64 [ %to, %done ], [ %earliest.c, %summed ]
  %latest = phi i64 [ %from, %done ], [ %latest.c, %summed ]
  %c1 = add i64 %c, 1
  %number.c = add i64 %number, %c
  %c.first = mul i64 %c, %count
  br label %thread
thread:
  %t = phi i64 [ 0, %call ], [ %t1, %next ]
  %sum = phi i64 [ 0, %call ], [ %sum1, %next ]
  %earliest.t = phi i64 [ %earliest, %call ], [ %earliest1, %next ]
  %latest.t = phi i64 [ %latest, %call ], [ %latest1, %next ]
  %t1 = add i64 %t, 1
  %index = add i64 %c.first, %t
  %cell = getelementptr %Cell, ptr %cells, i64 %index
  %p.first = getelementptr %Cell, ptr %cell, i64 0, i32 1
  %p.last = getelementptr %Cell, ptr %cell, i64 0, i32 2
  %busy = load i64, ptr %cell
  %first = load i64, ptr %p.first
  %last = load i64, ptr %p.last
  %worked = icmp ne i64 %last, 0
  br i1 %worked, label %told, label %next
told:
  call void @event(ptr %host, i64 %number.c, i64 %t, i64 %first, i64 %last, i64 %busy)
  br label %next
next:
  %first.seen = select i1 %worked, i64 %first, i64 %to
  %last.seen = select i1 %worked, i64 %last, i64 %from
  %sum1 = add i64 %sum, %busy
  %earliest1 = call i64 @llvm.umin.i64(i64 %earliest.t, i64 %first.seen)
  %latest1 = call i64 @llvm.umax.i64(i64 %latest.t, i64 %last.seen)
  %through = icmp eq i64 %t1, %count
  br i1 %through, label %sums, label %thread
sums:
  %any = icmp ne i64 %sum1, 0
  br i1 %any, label %add, label %summed
add:
  %mean = udiv i64 %sum1, %count
  call void @ran(ptr %host, i64 %number.c, i64 %mean)
  br label %summed
summed:
  %earliest.c = phi i64 [ %earliest1, %sums ], [ %earliest1, %add ]
  %latest.c = phi i64 [ %latest1, %sums ], [ %latest1, %add ]
  %ended = icmp eq i64 %c1, %parts
  br i1 %ended, label %end, label %call
end:                                   ; counters of two cores may differ a little: never below 0
  %long = sub i64 %to, %from
  %begun = call i64 @llvm.umax.i64(i64 %earliest.c, i64 %from)
  %stopped = call i64 @llvm.umin.i64(i64 %latest.c, i64 %to)
  %forked = sub i64 %begun, %from
  %joined = sub i64 %to, %stopped
  call void @launched(ptr %host, i64 %number, i64 %long, i64 %forked, i64 %joined, i64 %count)
  ret void
}

define internal void @wrap(ptr %wrap, ptr %kernel, ptr %ctx, ptr %cells) {
  %p.ctx = getelementptr %Part, ptr %wrap, i64 0, i32 1
  %p.cells = getelementptr %Part, ptr %wrap, i64 0, i32 2
  store ptr %kernel, ptr %wrap
  store ptr %ctx, ptr %p.ctx
  store ptr %cells, ptr %p.cells
  ret void
}
