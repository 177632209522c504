"""Runs compiled programs: loads their machine code, owns threads and memory, checks inputs.

    pool      threads: `ferrule_parallel`, which machine code finds in the host table
    quota     the CPU time that control groups allow
    cpu       a program in memory: bind parameters, run on addresses
    linked    machine code that LLVM links into this process
    library   machine code in a shared library, opened from memory
    load      an artifact as a model
    call      calls from Python as one native function
    native    LLVM IR that serves every program
    trace     when each launch began and ended, while somebody looks
    hardware  what the CPU and the system count
    signature dims, guards and output shapes of a call, from its input shapes
    arrays    a program as a Python callable on NumPy arrays
    cache     compiled programs on disk
    trusted   whether a file of the cache is from somebody to trust
    counters  what has happened in this process

It imports `ferrule.base` alone, so an artifact ships without the compiler.
"""
