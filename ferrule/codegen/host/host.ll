; What every entry uses. host.py adds the kernels' declarations and the functions of one program.

declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)

; Runs kernel(ctx, 0..n) on at most `wanted` of `threads` threads, several by the host table's
; `parallel`. The host table's `trace`, where there is one, does it instead; `number` is the launch's.
define internal void @ferrule.launch(ptr %host, ptr %kernel, ptr %ctx, i64 %n, i64 %wanted,
                                      i64 %threads, i64 %number) noinline {
  %empty = icmp sle i64 %n, 0
  br i1 %empty, label %end, label %some
some:
  %count = call i64 @llvm.smin.i64(i64 %wanted, i64 %threads)
  %p.trace = getelementptr i8, ptr %host, i64 24
  %trace = load ptr, ptr %p.trace
  %untold = icmp eq ptr %trace, null
  br i1 %untold, label %plain, label %told
told:
  %several = icmp eq ptr %kernel, @ferrule.dispatch
  br i1 %several, label %parts, label %tell
parts:
  %rows = load i64, ptr %ctx
  br label %tell
tell:
  %size = phi i64 [ 1, %told ], [ %rows, %parts ]
  call void %trace(ptr %host, ptr %kernel, ptr %ctx, i64 %n, i64 %count, i64 %number, i64 %size)
  br label %end
plain:
  %serial = icmp sle i64 %count, 1
  br i1 %serial, label %one, label %many
one:
  call void %kernel(ptr %ctx, i64 0, i64 %n, i64 0)
  br label %end
many:
  %p.parallel = getelementptr i8, ptr %host, i64 8
  %parallel = load ptr, ptr %p.parallel
  %p.user = getelementptr i8, ptr %host, i64 16
  %user = load ptr, ptr %p.user
  call void %parallel(ptr %kernel, ptr %ctx, i64 %n, i64 %count, ptr %user)
  br label %end
end:
  ret void
}

; Runs the steps of an entry, and gives its status. The host table's `trace` is told of it as of a
; launch of number -1.
define internal i32 @ferrule.enter(ptr %args, ptr %steps) noinline {
  %arena = load ptr, ptr %args
  %p.host = getelementptr i8, ptr %args, i64 HOST_SLOT
  %host = load ptr, ptr %p.host
  %p.trace = getelementptr i8, ptr %host, i64 24
  %trace = load ptr, ptr %p.trace
  %untold = icmp eq ptr %trace, null
  br i1 %untold, label %plain, label %tell
plain:
  %status = call i32 %steps(ptr %args, ptr %arena)
  ret i32 %status
tell:
  %ctx = alloca { ptr, ptr, ptr, i32 }
  %p.steps = getelementptr { ptr, ptr, ptr, i32 }, ptr %ctx, i64 0, i32 1
  %p.arena = getelementptr { ptr, ptr, ptr, i32 }, ptr %ctx, i64 0, i32 2
  %p.status = getelementptr { ptr, ptr, ptr, i32 }, ptr %ctx, i64 0, i32 3
  store ptr %args, ptr %ctx
  store ptr %steps, ptr %p.steps
  store ptr %arena, ptr %p.arena
  store i32 0, ptr %p.status
  call void %trace(ptr %host, ptr @ferrule.whole, ptr %ctx, i64 1, i64 1, i64 -1, i64 1)
  %told = load i32, ptr %p.status
  ret i32 %told
}

; An entry as a kernel of one point.
define internal void @ferrule.whole(ptr %ctx, i64 %lo, i64 %hi, i64 %tid) {
  %p.steps = getelementptr { ptr, ptr, ptr, i32 }, ptr %ctx, i64 0, i32 1
  %p.arena = getelementptr { ptr, ptr, ptr, i32 }, ptr %ctx, i64 0, i32 2
  %p.status = getelementptr { ptr, ptr, ptr, i32 }, ptr %ctx, i64 0, i32 3
  %args = load ptr, ptr %ctx
  %steps = load ptr, ptr %p.steps
  %arena = load ptr, ptr %p.arena
  %status = call i32 %steps(ptr %args, ptr %arena)
  store i32 %status, ptr %p.status
  ret void
}

; Runs the part of several kernels that the units lo..hi stand for. The table holds the number of
; kernels, and then for each: the kernel, its ctx, its grid's extent, its first unit, its units.
define internal void @ferrule.dispatch(ptr %table, i64 %lo, i64 %hi, i64 %tid) {
entry:
  %rows = load i64, ptr %table
  br label %next
next:
  %k = phi i64 [ 0, %entry ], [ %k1, %done ]
  %over = icmp eq i64 %k, %rows
  br i1 %over, label %end, label %row
row:
  %skip = mul i64 %k, 40
  %at = add i64 %skip, 8
  %p.kernel = getelementptr i8, ptr %table, i64 %at
  %p.ctx = getelementptr i8, ptr %p.kernel, i64 8
  %p.n = getelementptr i8, ptr %p.kernel, i64 16
  %p.first = getelementptr i8, ptr %p.kernel, i64 24
  %p.units = getelementptr i8, ptr %p.kernel, i64 32
  %first = load i64, ptr %p.first
  %units = load i64, ptr %p.units
  %last = add i64 %first, %units
  %a0 = call i64 @llvm.smax.i64(i64 %lo, i64 %first)
  %b0 = call i64 @llvm.smin.i64(i64 %hi, i64 %last)
  %some = icmp slt i64 %a0, %b0
  br i1 %some, label %split, label %done
split:
  %n = load i64, ptr %p.n
  %a1 = sub i64 %a0, %first
  %b1 = sub i64 %b0, %first
  %a2 = mul i64 %a1, %n
  %b2 = mul i64 %b1, %n
  %a = udiv i64 %a2, %units
  %b = udiv i64 %b2, %units
  %points = icmp slt i64 %a, %b
  br i1 %points, label %run, label %done
run:
  %kernel = load ptr, ptr %p.kernel
  %ctx = load ptr, ptr %p.ctx
  call void %kernel(ptr %ctx, i64 %a, i64 %b, i64 %tid)
  br label %done
done:
  %k1 = add i64 %k, 1
  br label %next
end:
  ret void
}

; Division that rounds towards minus infinity. By zero it gives some value, and never traps.
define internal i64 @ferrule.floordiv(i64 %a, i64 %b) alwaysinline {
  %zero = icmp eq i64 %b, 0
  %d = select i1 %zero, i64 1, i64 %b
  %q = sdiv i64 %a, %d
  %r = srem i64 %a, %d
  %inexact = icmp ne i64 %r, 0
  %signs = xor i64 %r, %d
  %differ = icmp slt i64 %signs, 0
  %down = and i1 %inexact, %differ
  %less = sext i1 %down to i64
  %out = add i64 %q, %less
  ret i64 %out
}

define internal i64 @ferrule.floormod(i64 %a, i64 %b) alwaysinline {
  %q = call i64 @ferrule.floordiv(i64 %a, i64 %b)
  %m = mul i64 %q, %b
  %out = sub i64 %a, %m
  ret i64 %out
}
