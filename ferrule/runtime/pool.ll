; The thread pool: fork and join over a range, on pthreads and futexes.
;
;   void ferrule_parallel(void (*fn)(void *ctx, i64 lo, i64 hi, i64 tid), void *ctx,
;                         i64 n, i64 threads)
;
; splits [0, n) into min(n, threads, 64) contiguous ranges whose lengths differ by at most one. The
; caller is tid 0 and worker w is tid w; each first runs the first three quarters of the range of its
; own number, so that it finds in its caches what it wrote in the job before. The last quarters are
; cut into four pieces each, which all take one after another until none is left: a core that is
; slower, because somebody else uses it too, then takes fewer. The call returns when all are done.
;
; A worker has a slot of its own: a generation counter, on which it spins and then sleeps, and a
; mark that it sleeps. The caller writes the job, then raises the counters of the workers it wants
; and wakes the sleepers. Only those workers read the job, and the caller waits for all of them, so
; the job is never read while it is written. A side that goes to sleep sets its mark first and looks
; again after; the other changes the counter first and then looks at the mark, all sequentially
; consistent: so no wake-up is lost. The last worker to end wakes a caller that sleeps.
;
; Where a thread has a team of OpenMP threads already (PyTorch's), its jobs are theirs in place of our
; workers': threads that wait for work of either kind would spin on the same CPUs. The team is always
; the whole one, of which members beyond what a job wants return at once: OpenMP ends threads that a
; smaller team has no use for. ferrule_pool_join says how to run a function in the team of the thread
; that calls it. A job that wants more threads, or another thread's, is the workers'.
;
; One caller at a time has the pool. Any other (another thread of the process, or a task that calls
; again) runs its whole range itself, as tid 0. If a worker cannot be made, the range is split
; among those that there are.
;
; pool.py fills in @PAUSE@ and @FUTEX@ (the number of the system call).

%Slot = type { i32, i32, [56 x i8] }           ; generation, asleep, and the rest of a cache line

@slots = internal global [64 x %Slot] zeroinitializer, align 64
@workers = internal global i64 0, align 64     ; how many exist; worker w has slot w, from 1
@busy = internal global i32 0, align 64
@job_fn = internal global ptr null, align 64
@job_ctx = internal global ptr null
@job_n = internal global i64 0
@job_threads = internal global i64 0
@team_run = internal global ptr null           ; void (void (*fn)(void *), void *, i32 threads, i32 0)
@team_number = internal global ptr null        ; i32 ()
@team_size = internal global ptr null          ; i32 ()
@team_most = internal global ptr null          ; i32 ()
@team_owner = internal global i64 0            ; the thread whose team it is
@next = internal global i64 0, align 64                      ; the first piece that nobody took
@pending = internal global i32 0, align 64                   ; workers that have not ended the job
@caller_asleep = internal global i32 0, align 64

declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(i64)
declare i64 @pthread_self()
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i64 @syscall(i64, ...)
@PAUSE_DECLARATION@

; Sleeps until *word is woken, or returns at once where it no longer holds `value`.
define internal void @futex_wait(ptr %word, i32 %value) noinline {
  call i64 (i64, ...) @syscall(i64 @FUTEX@, ptr %word, i32 128, i32 %value, ptr null, ptr null,
                               i32 0)
  ret void
}

define internal void @futex_wake(ptr %word) noinline {
  call i64 (i64, ...) @syscall(i64 @FUTEX@, ptr %word, i32 129, i32 1, ptr null, ptr null,
                               i32 0)
  ret void
}

; The start of range r of [0, n) in `threads` ranges.
define internal i64 @start(i64 %n, i64 %threads, i64 %r) {
  %each = udiv i64 %n, %threads
  %rest = urem i64 %n, %threads
  %before = call i64 @llvm.umin.i64(i64 %r, i64 %rest)
  %base = mul i64 %r, %each
  %lo = add i64 %base, %before
  ret i64 %lo
}

; Runs what is thread `tid`'s own of the job, of so many, and then pieces that nobody has taken.
define internal void @run_range(i64 %tid, i64 %threads) {
  %fn = load ptr, ptr @job_fn
  %ctx = load ptr, ptr @job_ctx
  %n = load i64, ptr @job_n
  %after = add i64 %tid, 1
  %lo = call i64 @start(i64 %n, i64 %threads, i64 %tid)
  %hi = call i64 @start(i64 %n, i64 %threads, i64 %after)
  %length = sub i64 %hi, %lo
  %tail = lshr i64 %length, 2
  %mid = sub i64 %hi, %tail
  call void %fn(ptr %ctx, i64 %lo, i64 %mid, i64 %tid)
  %pieces = shl i64 %threads, 2
  br label %take
take:
  %piece = atomicrmw add ptr @next, i64 1 monotonic
  %is_left = icmp ult i64 %piece, %pieces
  br i1 %is_left, label %cut, label %end
cut:
  %r = lshr i64 %piece, 2
  %r1 = add i64 %r, 1
  %k = and i64 %piece, 3
  %k1 = add i64 %k, 1
  %r.lo = call i64 @start(i64 %n, i64 %threads, i64 %r)
  %r.hi = call i64 @start(i64 %n, i64 %threads, i64 %r1)
  %r.length = sub i64 %r.hi, %r.lo
  %r.tail = lshr i64 %r.length, 2
  %r.mid = sub i64 %r.hi, %r.tail
  %a0 = mul i64 %k, %r.tail
  %b0 = mul i64 %k1, %r.tail
  %a1 = lshr i64 %a0, 2
  %b1 = lshr i64 %b0, 2
  %a = add i64 %r.mid, %a1
  %b = add i64 %r.mid, %b1
  %some = icmp ult i64 %a, %b
  br i1 %some, label %run, label %take
run:
  call void %fn(ptr %ctx, i64 %a, i64 %b, i64 %tid)
  br label %take
end:
  ret void
}

declare i64 @llvm.umin.i64(i64, i64)

; What each thread of a team does; a team may be smaller than was asked for.
define internal void @member(ptr %unused) {
  %number = load ptr, ptr @team_number
  %size = load ptr, ptr @team_size
  %tid32 = call i32 %number()
  %all32 = call i32 %size()
  %tid = sext i32 %tid32 to i64
  %all = sext i32 %all32 to i64
  %wanted = load i64, ptr @job_threads
  %threads = call i64 @llvm.smin.i64(i64 %all, i64 %wanted)
  %idle = icmp sge i64 %tid, %threads
  br i1 %idle, label %end, label %run
run:
  call void @run_range(i64 %tid, i64 %threads)
  br label %end
end:
  ret void
}

define internal ptr @worker(ptr %arg) {
entry:
  %tid = ptrtoint ptr %arg to i64
  %slot = getelementptr [64 x %Slot], ptr @slots, i64 0, i64 %tid
  %asleep = getelementptr %Slot, ptr %slot, i64 0, i32 1
  br label %wait

wait:                                                        ; spin for the next generation
  %seen = phi i32 [ 0, %entry ], [ %now, %done ]
  br label %spin
spin:
  %turn = phi i32 [ 0, %wait ], [ %next_turn, %spin_more ]
  %spun = load atomic i32, ptr %slot acquire, align 4
  %news = icmp ne i32 %spun, %seen
  br i1 %news, label %work, label %spin_more
spin_more:
  @PAUSE@
  %next_turn = add i32 %turn, 1
  %tired = icmp uge i32 %next_turn, 16000
  br i1 %tired, label %park, label %spin

park:                                                        ; say so, look once more, then sleep
  store atomic i32 1, ptr %asleep seq_cst, align 4
  br label %sleep
sleep:
  %woken = load atomic i32, ptr %slot seq_cst, align 4
  %awake = icmp ne i32 %woken, %seen
  br i1 %awake, label %rise, label %nap
nap:
  call void @futex_wait(ptr %slot, i32 %seen)
  br label %sleep
rise:
  store atomic i32 0, ptr %asleep seq_cst, align 4
  br label %work

work:
  %now = phi i32 [ %spun, %spin ], [ %woken, %rise ]
  %threads = load i64, ptr @job_threads
  call void @run_range(i64 %tid, i64 %threads)
  %left = atomicrmw sub ptr @pending, i32 1 seq_cst
  %last = icmp eq i32 %left, 1
  br i1 %last, label %tell, label %done
tell:
  %waits = load atomic i32, ptr @caller_asleep seq_cst, align 4
  %is_asleep = icmp ne i32 %waits, 0
  br i1 %is_asleep, label %wake, label %done
wake:
  call void @futex_wake(ptr @pending)
  br label %done
done:
  br label %wait
}

; Makes workers until `wanted` exist or one cannot be made; gives how many there are. They block all
; signals, which the program's own threads are to receive.
define internal i64 @grow(i64 %wanted) noinline {
entry:
  %thread = alloca i64
  %all = alloca [128 x i8], align 8
  %old = alloca [128 x i8], align 8
  call void @llvm.memset.p0.i64(ptr %all, i8 -1, i64 128, i1 false)
  %masked = call i32 @pthread_sigmask(i32 2, ptr %all, ptr %old)
  br label %check
check:
  %have = load i64, ptr @workers
  %enough = icmp uge i64 %have, %wanted
  br i1 %enough, label %end, label %make
make:
  %tid = add i64 %have, 1
  %arg = inttoptr i64 %tid to ptr
  %code = call i32 @pthread_create(ptr %thread, ptr null, ptr @worker, ptr %arg)
  %made = icmp eq i32 %code, 0
  br i1 %made, label %count, label %end
count:
  %id = load i64, ptr %thread
  call i32 @pthread_detach(i64 %id)
  store i64 %tid, ptr @workers
  br label %check
end:
  call i32 @pthread_sigmask(i32 2, ptr %old, ptr null)
  %total = load i64, ptr @workers
  ret i64 %total
}

declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

define void @ferrule_parallel(ptr %fn, ptr %ctx, i64 %n, i64 %threads, ptr %user) {
entry:
  %empty = icmp sle i64 %n, 0
  br i1 %empty, label %return, label %sized
sized:
  %capped = call i64 @llvm.smin.i64(i64 %threads, i64 64)
  %wanted = call i64 @llvm.smin.i64(i64 %capped, i64 %n)
  %several = icmp sgt i64 %wanted, 1
  br i1 %several, label %claim, label %serial
claim:
  %claimed = cmpxchg ptr @busy, i32 0, i32 1 acquire monotonic
  %is_mine = extractvalue { i32, i1 } %claimed, 1
  br i1 %is_mine, label %mine, label %serial
serial:
  call void %fn(ptr %ctx, i64 0, i64 %n, i64 0)
  br label %return

mine:
  store ptr %fn, ptr @job_fn
  store ptr %ctx, ptr @job_ctx
  store i64 %n, ptr @job_n
  store atomic i64 0, ptr @next monotonic, align 8
  %team = load atomic ptr, ptr @team_run acquire, align 8
  %alone = icmp eq ptr %team, null
  br i1 %alone, label %staff, label %ask
ask:
  %self = call i64 @pthread_self()
  %owner = load i64, ptr @team_owner
  %is_owner = icmp eq i64 %self, %owner
  br i1 %is_owner, label %measure, label %staff
measure:
  %most.fn = load ptr, ptr @team_most
  %most = call i32 %most.fn()
  %wanted32 = trunc i64 %wanted to i32
  %enough = icmp sge i32 %most, %wanted32
  br i1 %enough, label %join, label %staff
join:
  store i64 %wanted, ptr @job_threads
  call void %team(ptr @member, ptr null, i32 0, i32 0)
  br label %release

staff:
  %helpers = sub i64 %wanted, 1
  %existing = load i64, ptr @workers
  %short = icmp ult i64 %existing, %helpers
  br i1 %short, label %hire, label %fork
hire:
  %hired = call i64 @grow(i64 %helpers)
  br label %fork
fork:
  %available = phi i64 [ %existing, %staff ], [ %hired, %hire ]
  %count = call i64 @llvm.umin.i64(i64 %available, i64 %helpers)
  %ranges = add i64 %count, 1
  store i64 %ranges, ptr @job_threads
  %count32 = trunc i64 %count to i32
  store atomic i32 %count32, ptr @pending seq_cst, align 4
  %none = icmp eq i64 %count, 0
  br i1 %none, label %own, label %call_up
call_up:
  %w = phi i64 [ 1, %fork ], [ %next_w, %called ]
  %slot = getelementptr [64 x %Slot], ptr @slots, i64 0, i64 %w
  %asleep = getelementptr %Slot, ptr %slot, i64 0, i32 1
  %raised = atomicrmw add ptr %slot, i32 1 seq_cst
  %sleeps = load atomic i32, ptr %asleep seq_cst, align 4
  %is_asleep = icmp ne i32 %sleeps, 0
  br i1 %is_asleep, label %wake, label %called
wake:
  call void @futex_wake(ptr %slot)
  br label %called
called:
  %next_w = add i64 %w, 1
  %is_more = icmp ule i64 %next_w, %count
  br i1 %is_more, label %call_up, label %own

own:
  call void @run_range(i64 0, i64 %ranges)
  br label %spin
spin:                                                        ; join: spin, then sleep
  %turn = phi i32 [ 0, %own ], [ %next_turn, %spin_more ]
  %left = load atomic i32, ptr @pending seq_cst, align 4
  %over = icmp eq i32 %left, 0
  br i1 %over, label %release, label %spin_more
spin_more:
  @PAUSE@
  %next_turn = add i32 %turn, 1
  %tired = icmp uge i32 %next_turn, 20000
  br i1 %tired, label %park, label %spin
park:
  store atomic i32 1, ptr @caller_asleep seq_cst, align 4
  br label %sleep
sleep:
  %still = load atomic i32, ptr @pending seq_cst, align 4
  %ended = icmp eq i32 %still, 0
  br i1 %ended, label %rise, label %nap
nap:
  call void @futex_wait(ptr @pending, i32 %still)
  br label %sleep
rise:
  store atomic i32 0, ptr @caller_asleep seq_cst, align 4
  br label %release
release:
  store atomic i32 0, ptr @busy release, align 4
  br label %return
return:
  ret void
}

declare i64 @llvm.smin.i64(i64, i64)

; How many workers there are.
define i64 @ferrule_pool_workers() {
  %count = load i64, ptr @workers
  ret i64 %count
}

; From now on the caller's jobs are its team's, or our own workers' where `run` is null.
define void @ferrule_pool_join(ptr %run, ptr %number, ptr %size, ptr %most) {
  %self = call i64 @pthread_self()
  store i64 %self, ptr @team_owner
  store ptr %number, ptr @team_number
  store ptr %size, ptr @team_size
  store ptr %most, ptr @team_most
  store atomic ptr %run, ptr @team_run release, align 8
  ret void
}

; For the child of a fork, which has the memory of its parent's workers but not their threads, nor
; those of its team, with which OpenMP would wait for ever.
define void @ferrule_pool_reset() {
  call void @llvm.memset.p0.i64(ptr @slots, i8 0, i64 4096, i1 false)
  store ptr null, ptr @team_run
  store i64 0, ptr @workers
  store i32 0, ptr @pending
  store i32 0, ptr @caller_asleep
  store atomic i32 0, ptr @busy seq_cst, align 4
  ret void
}
