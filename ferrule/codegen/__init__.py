"""Code generation: Loop functions to LLVM text and machine code, Kernels to Triton source."""
