"""The C API of a bundle: `ferrule.codegen.capi.api` makes it, as text of LLVM IR."""
