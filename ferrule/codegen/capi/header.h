/* @NAME@: a model compiled by ferrule, as a C library.
 *
 * The tensors are DLPack's: where <dlpack/dlpack.h> is used, include it before this header. All
 * functions may be called from many threads at once, on one model too. They give 0, or a code of
 * @NAME@_code; @NAME@_message() then tells the details. Nothing is printed and nothing exits.
 *
@SUMMARY@
 */
#ifndef FERRULE_BUNDLE_@UPPER@_H
#define FERRULE_BUNDLE_@UPPER@_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if !defined(DLPACK_DLPACK_H_) && !defined(FERRULE_DLPACK)
#define FERRULE_DLPACK
typedef enum { kDLCPU = 1 } DLDeviceType;
typedef struct { int32_t device_type, device_id; } DLDevice;
typedef enum { kDLInt = 0, kDLUInt = 1, kDLFloat = 2, kDLBfloat = 4, kDLBool = 6 } DLDataTypeCode;
typedef struct { uint8_t code, bits; uint16_t lanes; } DLDataType;
typedef struct {
  void *data;
  DLDevice device;     /* {kDLCPU, 0} */
  int32_t ndim;
  DLDataType dtype;    /* float is {kDLFloat, 32, 1} */
  int64_t *shape;
  int64_t *strides;    /* in elements; NULL: row-major */
  uint64_t byte_offset;
} DLTensor;
#endif

enum @NAME@_code {
@CODES@
};

/* What an input or output must be. */
typedef struct {
  const char *name;
  const char *text;       /* its sizes in words */
  const int64_t *shape;   /* ndim sizes, -1 where a size varies */
  const int64_t *order;   /* the axes as they follow in memory, outermost first; NULL: row-major */
  int32_t ndim;
  DLDataType dtype;
} @NAME@_spec;

/* Runs kernel(context, lo, hi, thread) for ranges lo..hi that are 0..n together, each once, and
 * returns when all are done. 0 <= thread < threads, of no two at a time. */
typedef void (*@NAME@_kernel)(void *context, int64_t lo, int64_t hi, int64_t thread);
typedef void (*@NAME@_parallel)(@NAME@_kernel kernel, void *context, int64_t n, int64_t threads,
                               void *user);

typedef struct {
  size_t size;                /* sizeof(@NAME@_options) */
  int32_t threads;            /* 1 to 64; 0: as many as the process has CPUs */
  @NAME@_parallel parallel;   /* NULL: the threads of this library */
  void *user;                 /* what parallel is given */
} @NAME@_options;

typedef struct @NAME@_model @NAME@_model;

/* Makes a model of the file of weights (here @PATH@), which is mapped and
 * shared between processes; options may be NULL. *out is NULL where it fails. */
int @NAME@_create(const char *weights, const @NAME@_options *options, @NAME@_model **out);

/* The same of weights in memory, at a multiple of 8 bytes, which must live as long as the model. */
int @NAME@_create_from(const void *weights, size_t size, const @NAME@_options *options,
                       @NAME@_model **out);

/* Frees a model, which nobody runs any more. NULL is none. */
void @NAME@_destroy(@NAME@_model *model);

/* What a code means. */
const char *@NAME@_error(int code);

/* What this thread's last failure was in detail; valid until its next one. */
const char *@NAME@_message(void);

/* The instruction set that a model uses. */
const char *@NAME@_level(const @NAME@_model *model);
@MEMORY@@FUNCTIONS@
#ifdef __cplusplus
}
#endif
#endif
