"""ferrule as a platform of JAX: a PJRT plugin in Python (see docs/stablehlo.md).

layout        what pjrt_c_api.h says, made by tools/make_pjrt.py
structs       its structures by ctypes
handles       what C holds of ours, and our errors as C sees them
guards        what stands between C and a function of Python
table         functions of Python as functions of C, and all of them as one PJRT_Api
texts         texts and arrays that C reads
errors, events, client, devices, buffers, programs, execution
              the functions
register      the plugin in JAX
"""
