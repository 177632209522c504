; The thread pool: fork and join over a range, on pthreads and futexes.
;
;   void ferrule_parallel(void (*fn)(void *ctx, i64 lo, i64 hi, i64 tid), void *ctx,
;                         i64 n, i64 threads, void *user)
;
; does not look at `user`, and splits [0, n) into min(n, threads, 64) contiguous ranges whose lengths differ by at most one. The
; caller is tid 0 and worker w is tid w, and range w is worker w's own. Each range is cut into up to
; 16 pieces. Whoever runs points has claimed their pieces before; `tid` says who it is, whosever
; range they belong to, so that two that run at once never have the same. A thread claims
; pieces of its own range first, half of what is left at a time: so it finds in its caches what it
; wrote in the job before. Then it goes through the others' ranges and claims a quarter of what is
; left at a time. When nothing is left anywhere, it is through with the job. The caller then
; waits, but only for pieces that a worker has claimed and not ended. A worker that gets no CPU has
; claimed nothing, so nobody waits for it, and its range is run by the others.
;
; How a claim is made. Each job has a number, counted from 1 and never used again. A range is one
; word: the number of its job, and in the low byte the pieces that nobody has claimed. A claim is
; a compare-and-swap of that word, so it fails where the word is of another job. A worker
; is told a job's number, claims only under this number, and reads the job (function, context,
; n, pieces) only while it holds a claim. The caller cannot end a job with claimed pieces, so the
; job is never read while it is written. A worker that comes late finds no range of its
; number with pieces left, and goes back to sleep. How many ranges there are is read without a
; claim, and may be the next job's; then no claim succeeds.
;
; @pending counts the pieces of the job that are not ended. Each thread takes off those that it ran
; when it is through. The worker that brings it to zero wakes a caller that sleeps.
;
; A worker has a slot of its own: the number of the last job it was called to, on which it spins and
; then sleeps, its range, and a mark that it sleeps, which it alone writes. The caller opens the
; range, then writes the number, and wakes the worker where the mark is set. A side that goes to
; sleep sets its mark first and looks again after; the other changes the number first and then looks
; at the mark, all sequentially consistent: so no wake-up is lost. (If one were, a worker would miss
; a job, and the others would run its range.)
;
; Where a thread has a team of OpenMP threads already (PyTorch's), its jobs are theirs in place of
; our workers': threads that wait for work of either kind would spin on the same CPUs. Members
; claim as workers do, each as the worker of its number. The team is always the whole one, of which
; members beyond what a job wants return at once: OpenMP ends threads that a smaller team has no
; use for. ferrule_pool_join says how to run a function in the team of the thread that calls it. A
; job that wants more threads, or another thread's, is the workers'.
;
; OpenMP ends a job when all members have come, also those for whom nothing was left. So on busy
; CPUs a caller still waits for members that have not begun. Where it has waited, after the last
; claim, for longer than `patience` and than it has worked itself, the team is late: jobs go to the
; workers for a second. A team that is late again, within as long as it has rested, rests twice as
; long, up to 16 seconds.
;
; One caller at a time has the pool. Any other (another thread of the process, or a task that calls
; again) runs its whole range itself, as tid 0. If a worker cannot be made, the range is split
; among those that there are.
;
; pool.py fills in @PAUSE@ and @FUTEX@ (the number of the system call).

; the job it was called to, its range (number of the job * 256 + pieces left), asleep; a cache line
%Slot = type { i64, i64, i32, [44 x i8] }

@slots = internal global [64 x %Slot] zeroinitializer, align 64
@workers = internal global i64 0, align 64     ; how many exist; worker w has slot w, from 1
@busy = internal global i32 0, align 64
@job_fn = internal global ptr null, align 64
@job_ctx = internal global ptr null
@job_n = internal global i64 0
@job_ranges = internal global i64 0
@job_pieces = internal global i64 0            ; of each range
@number = internal global i64 0                ; of the job
@team_run = internal global ptr null           ; void (void (*fn)(void *), void *, i32, i32)
@team_number = internal global ptr null        ; i32 ()
@team_most = internal global ptr null          ; i32 ()
@team_patience = internal global i64 0         ; nanoseconds, as all that follow
@team_left = internal global i64 0             ; when nothing was left to claim
@team_rest = internal global i64 0             ; how long it rested last
@team_until = internal global i64 0            ; and until when
@team_owner = internal global i64 0            ; the thread whose team it is
@pending = internal global i32 0, align 64                   ; pieces of the job that are not ended
@caller_asleep = internal global i32 0, align 64

declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(i64)
declare i64 @pthread_self()
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @clock_gettime(i32, ptr)
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

; Where part i of [0, n) in `parts` begins.
define internal i64 @start(i64 %n, i64 %parts, i64 %i) {
  %each = udiv i64 %n, %parts
  %rest = urem i64 %n, %parts
  %before = call i64 @llvm.umin.i64(i64 %i, i64 %rest)
  %base = mul i64 %i, %each
  %lo = add i64 %base, %before
  ret i64 %lo
}

; Writes a job of so many ranges, and gives the word of a range of which nothing is claimed.
define internal i64 @describe(ptr %fn, ptr %ctx, i64 %n, i64 %ranges) {
  %each = udiv i64 %n, %ranges
  %pieces = call i64 @llvm.umin.i64(i64 %each, i64 16)
  store ptr %fn, ptr @job_fn
  store ptr %ctx, ptr @job_ctx
  store i64 %n, ptr @job_n
  store i64 %pieces, ptr @job_pieces
  store atomic i64 %ranges, ptr @job_ranges monotonic, align 8
  %all = mul i64 %ranges, %pieces
  %all32 = trunc i64 %all to i32
  store atomic i32 %all32, ptr @pending seq_cst, align 4
  %before = load i64, ptr @number
  %number = add i64 %before, 1
  store i64 %number, ptr @number
  %tag = shl i64 %number, 8
  %word = or i64 %tag, %pieces
  ret i64 %word
}

; Lets the pieces of range r be claimed.
define internal void @open(i64 %r, i64 %word) {
  %range = getelementptr [64 x %Slot], ptr @slots, i64 0, i64 %r, i32 1
  store atomic i64 %word, ptr %range release, align 8
  ret void
}

; Runs claimed pieces of range r, from..to, as thread `tid`.
define internal void @run_pieces(i64 %r, i64 %from, i64 %to, i64 %tid) {
  %fn = load ptr, ptr @job_fn
  %ctx = load ptr, ptr @job_ctx
  %n = load i64, ptr @job_n
  %ranges = load atomic i64, ptr @job_ranges monotonic, align 8
  %pieces = load i64, ptr @job_pieces
  %r1 = add i64 %r, 1
  %lo = call i64 @start(i64 %n, i64 %ranges, i64 %r)
  %hi = call i64 @start(i64 %n, i64 %ranges, i64 %r1)
  %length = sub i64 %hi, %lo
  %skip = call i64 @start(i64 %length, i64 %pieces, i64 %from)
  %stop = call i64 @start(i64 %length, i64 %pieces, i64 %to)
  %a = add i64 %lo, %skip
  %b = add i64 %lo, %stop
  call void %fn(ptr %ctx, i64 %a, i64 %b, i64 %tid)
  ret void
}

; Claims and runs pieces of job `number` as thread `tid`, of its own range first, until none is
; left; gives how many it ran.
define internal i32 @take_part(i64 %number, i64 %tid) noinline {
entry:
  %ranges = load atomic i64, ptr @job_ranges monotonic, align 8
  br label %visit
visit:
  %visits = phi i64 [ 0, %entry ], [ %visits1, %leave ]
  %r = phi i64 [ %tid, %entry ], [ %r1, %leave ]
  %share = phi i64 [ 1, %entry ], [ 2, %leave ]              ; half of what is left, or a quarter
  %ran = phi i32 [ 0, %entry ], [ %ran.r, %leave ]
  %range = getelementptr [64 x %Slot], ptr @slots, i64 0, i64 %r, i32 1
  %first = load atomic i64, ptr %range acquire, align 8
  br label %look
look:
  %word = phi i64 [ %first, %visit ], [ %found, %claim ], [ %rest, %run ]
  %ran.r = phi i32 [ %ran, %visit ], [ %ran.r, %claim ], [ %ran.more, %run ]
  %tag = lshr i64 %word, 8
  %left = and i64 %word, 255
  %is_this = icmp eq i64 %tag, %number
  %is_left = icmp ne i64 %left, 0
  %is_open = and i1 %is_this, %is_left
  br i1 %is_open, label %claim, label %leave
claim:
  %part = lshr i64 %left, %share
  %count = call i64 @llvm.umax.i64(i64 %part, i64 1)
  %rest = sub i64 %word, %count
  %swapped = cmpxchg ptr %range, i64 %word, i64 %rest acq_rel acquire
  %found = extractvalue { i64, i1 } %swapped, 0
  %is_mine = extractvalue { i64, i1 } %swapped, 1
  br i1 %is_mine, label %run, label %look
run:
  %pieces = load i64, ptr @job_pieces
  %from = sub i64 %pieces, %left
  %to = add i64 %from, %count
  call void @run_pieces(i64 %r, i64 %from, i64 %to, i64 %tid)
  %count32 = trunc i64 %count to i32
  %ran.more = add i32 %ran.r, %count32
  br label %look
leave:
  %after = add i64 %r, 1
  %is_within = icmp ult i64 %after, %ranges
  %r1 = select i1 %is_within, i64 %after, i64 0
  %visits1 = add i64 %visits, 1
  %is_more = icmp ult i64 %visits1, %ranges
  br i1 %is_more, label %visit, label %end
end:
  ret i32 %ran.r
}

declare i64 @llvm.umin.i64(i64, i64)
declare i64 @llvm.umax.i64(i64, i64)

; Nanoseconds on a clock that is never set.
define internal i64 @clock() noinline {
  %time = alloca { i64, i64 }
  %failed = call i32 @clock_gettime(i32 1, ptr %time)
  %fraction = getelementptr { i64, i64 }, ptr %time, i64 0, i32 1
  %seconds = load i64, ptr %time
  %rest = load i64, ptr %fraction
  %whole = mul i64 %seconds, 1000000000
  %now = add i64 %whole, %rest
  ret i64 %now
}

; What each thread of a team does. OpenMP waits for all, so @pending is not asked.
define internal void @member(ptr %unused) {
  %team.number = load ptr, ptr @team_number
  %tid32 = call i32 %team.number()
  %tid = sext i32 %tid32 to i64
  %ranges = load atomic i64, ptr @job_ranges monotonic, align 8
  %is_idle = icmp sge i64 %tid, %ranges
  br i1 %is_idle, label %end, label %run
run:
  %number = load i64, ptr @number
  %ran = call i32 @take_part(i64 %number, i64 %tid)
  %is_caller = icmp eq i64 %tid, 0
  br i1 %is_caller, label %look, label %end
look:
  %now = call i64 @clock()
  store i64 %now, ptr @team_left
  br label %end
end:
  ret void
}

; Runs a job by the team; false where the team rests.
define internal i1 @run_by_team(ptr %team, ptr %fn, ptr %ctx, i64 %n, i64 %ranges) noinline {
entry:
  %began = call i64 @clock()
  %until = load i64, ptr @team_until
  %rests = icmp slt i64 %began, %until
  br i1 %rests, label %no, label %job
job:
  %word = call i64 @describe(ptr %fn, ptr %ctx, i64 %n, i64 %ranges)
  br label %open
open:
  %r = phi i64 [ 0, %job ], [ %r1, %open ]
  call void @open(i64 %r, i64 %word)
  %r1 = add i64 %r, 1
  %is_more = icmp ult i64 %r1, %ranges
  br i1 %is_more, label %open, label %gather
gather:
  call void %team(ptr @member, ptr null, i32 0, i32 0)
  %ended = call i64 @clock()
  %left = load i64, ptr @team_left
  %worked = sub i64 %left, %began
  %waited = sub i64 %ended, %left
  %patience = load i64, ptr @team_patience
  %fair = call i64 @llvm.smax.i64(i64 %worked, i64 %patience)
  %late = icmp sgt i64 %waited, %fair
  br i1 %late, label %tire, label %yes
tire:
  %rest = load i64, ptr @team_rest
  %since = sub i64 %began, %until
  %again = icmp slt i64 %since, %rest
  %twice = shl i64 %rest, 1
  %longer = call i64 @llvm.smin.i64(i64 %twice, i64 16000000000)
  %next = select i1 %again, i64 %longer, i64 1000000000
  %then = add i64 %ended, %next
  store i64 %next, ptr @team_rest
  store i64 %then, ptr @team_until
  br label %yes
yes:
  ret i1 true
no:
  ret i1 false
}

declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)


define internal ptr @worker(ptr %arg) {
entry:
  %tid = ptrtoint ptr %arg to i64
  %slot = getelementptr [64 x %Slot], ptr @slots, i64 0, i64 %tid
  %asleep = getelementptr %Slot, ptr %slot, i64 0, i32 2
  br label %wait

wait:                                                        ; spin for the next number
  %seen = phi i64 [ 0, %entry ], [ %now, %done ]
  %seen32 = trunc i64 %seen to i32
  br label %spin
spin:
  %turn = phi i32 [ 0, %wait ], [ %next_turn, %spin_more ]
  %spun = load atomic i64, ptr %slot acquire, align 8
  %news = icmp ne i64 %spun, %seen
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
  %woken = load atomic i64, ptr %slot seq_cst, align 8
  %awake = icmp ne i64 %woken, %seen
  br i1 %awake, label %rise, label %nap
nap:                                                         ; on the low half of the number
  call void @futex_wait(ptr %slot, i32 %seen32)
  br label %sleep
rise:
  store atomic i32 0, ptr %asleep seq_cst, align 4
  br label %work

work:
  %now = phi i64 [ %spun, %spin ], [ %woken, %rise ]
  %ran = call i32 @take_part(i64 %now, i64 %tid)
  %late = icmp eq i32 %ran, 0
  br i1 %late, label %done, label %count
count:
  %left = atomicrmw sub ptr @pending, i32 %ran seq_cst
  %last = icmp eq i32 %left, %ran
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
  %is_done = call i1 @run_by_team(ptr %team, ptr %fn, ptr %ctx, i64 %n, i64 %wanted)
  br i1 %is_done, label %release, label %staff

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
  %word = call i64 @describe(ptr %fn, ptr %ctx, i64 %n, i64 %ranges)
  %number = lshr i64 %word, 8
  call void @open(i64 0, i64 %word)
  %none = icmp eq i64 %count, 0
  br i1 %none, label %own, label %call_up
call_up:
  %w = phi i64 [ 1, %fork ], [ %next_w, %called ]
  %slot = getelementptr [64 x %Slot], ptr @slots, i64 0, i64 %w
  %asleep = getelementptr %Slot, ptr %slot, i64 0, i32 2
  call void @open(i64 %w, i64 %word)
  %told = atomicrmw xchg ptr %slot, i64 %number seq_cst
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
  %ran = call i32 @take_part(i64 %number, i64 0)
  %unended = atomicrmw sub ptr @pending, i32 %ran seq_cst
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

; How many workers there are.
define i64 @ferrule_pool_workers() {
  %count = load i64, ptr @workers
  ret i64 %count
}

; From now on the caller's jobs are its team's, or our own workers' where `run` is null.
define void @ferrule_pool_join(ptr %run, ptr %number, ptr %most, i64 %patience) {
  %self = call i64 @pthread_self()
  store i64 %self, ptr @team_owner
  store ptr %number, ptr @team_number
  store ptr %most, ptr @team_most
  store i64 %patience, ptr @team_patience
  store i64 0, ptr @team_rest
  store i64 0, ptr @team_until
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
