"""Runs compiled programs: loads their machine code, owns threads and memory, checks inputs.

    pool      threads: `ferrule_parallel`, which machine code calls
    quota     the CPU time that control groups allow
    cpu       a program in memory: load, bind parameters, run on addresses
    signature dims, guards and output shapes of a call, from its input shapes
    arrays    a program as a Python callable on NumPy arrays
    cache     compiled programs on disk
    trusted   whether a file of the cache is from somebody to trust
    counters  what has happened in this process

It imports `ferrule.base` alone, so an artifact ships without the compiler.
"""
