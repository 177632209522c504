"""Who decides how a kernel runs: schedules for row kernels and for contractions."""
