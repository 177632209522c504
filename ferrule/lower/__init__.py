"""Who carries schedules out: kernels to loops, mathematics to arithmetic, buffers to memory."""
