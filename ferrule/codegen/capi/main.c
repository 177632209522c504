/* Runs @NAME@ once on inputs that are a ramp, and prints what comes out.
 *
 *   cc main.c -L. -l@NAME@ -Wl,-rpath,'$ORIGIN' -pthread -o main   (or: cc main.c lib@NAME@.a -pthread)
 *   ./main @WEIGHTS@
 */
#include "@NAME@.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t elements(const DLTensor *t) {
  size_t n = 1;
  for (int i = 0; i < t->ndim; i++) n *= (size_t)t->shape[i];
  return n;
}

static size_t bytes(const DLTensor *t) { return elements(t) * t->dtype.bits / 8; }

/* Memory for a tensor whose sizes are set, with its axes in the order that the spec asks for. */
static void place(DLTensor *t, const int64_t *order) {
  t->data = calloc(bytes(t) + 1, 1);
  if (order) {
    int64_t stride = 1;
    t->strides = malloc(sizeof(int64_t) * (size_t)t->ndim);
    for (int k = t->ndim - 1; k >= 0; k--) {
      t->strides[order[k]] = stride;
      stride *= t->shape[order[k]];
    }
  }
}

/* 0, 1/8, 2/8, .. 7/8, 0, .. for floats; 0 and 1 in turn for integers. */
static void ramp(DLTensor *t) {
  static const uint16_t halves[] = {0, 0x3000, 0x3400, 0x3600, 0x3800, 0x3900, 0x3a00, 0x3b00};
  size_t n = elements(t), size = t->dtype.bits / 8;
  for (size_t i = 0; i < n; i++) {
    char *at = (char *)t->data + i * size;
    float x = (float)(i % 8) / 8;
    double wide = x;
    uint32_t word;
    memcpy(&word, &x, 4);
    uint16_t half = t->dtype.code == kDLBfloat ? (uint16_t)(word >> 16) : halves[i % 8];
    if (t->dtype.code != kDLFloat && t->dtype.code != kDLBfloat) *at = (char)(i % 2);
    else memcpy(at, size == 8 ? (void *)&wide : size == 4 ? (void *)&x : (void *)&half, size);
  }
}

static int failed(int code) {
  fprintf(stderr, "%s: %s\n", @NAME@_error(code), @NAME@_message());
  return 1;
}

int main(int argc, char **argv) {
  @NAME@_model *model = NULL;
  int code = @NAME@_create(argc > 1 ? argv[1] : @PATH@, NULL, &model);
  if (code) return failed(code);
  printf("@NAME@ on %s\n", @NAME@_level(model));
@SHAPES@
  DLTensor inputs[@PREFIX@_INPUTS + 1] = {{0}}, outputs[@PREFIX@_OUTPUTS + 1] = {{0}};
  for (int i = 0; i < @PREFIX@_INPUTS; i++) {
    const @NAME@_spec *spec = @PREFIX@_input(i);
    inputs[i].device.device_type = kDLCPU;
    inputs[i].ndim = spec->ndim;
    inputs[i].dtype = spec->dtype;
    inputs[i].shape = shapes[i];
    place(&inputs[i], spec->order);
    ramp(&inputs[i]);
  }
@NUMBERS@
  for (int i = 0; i < @PREFIX@_OUTPUTS; i++)
    outputs[i].shape = malloc(sizeof(int64_t) * (@PREFIX@_MAX_RANK + 1));
  code = @PREFIX@_output_shapes(inputs, outputs);
  if (code) return failed(code);
  for (int i = 0; i < @PREFIX@_OUTPUTS; i++) place(&outputs[i], @PREFIX@_output(i)->order);
  code = @PREFIX@_run(model, inputs, outputs);
  if (code) return failed(code);

  for (int i = 0; i < @PREFIX@_OUTPUTS; i++) {
    uint64_t sum = 0xcbf29ce484222325u; /* FNV-1a of the bytes */
    for (size_t k = 0; k < bytes(&outputs[i]); k++)
      sum = (sum ^ ((unsigned char *)outputs[i].data)[k]) * 0x100000001b3u;
    printf("%s [", @PREFIX@_output(i)->name);
    for (int k = 0; k < outputs[i].ndim; k++)
      printf("%s%lld", k ? ", " : "", (long long)outputs[i].shape[k]);
    printf("] %016llx\n", (unsigned long long)sum);
  }

  for (int i = 0; i < @PREFIX@_INPUTS; i++) free(inputs[i].data), free(inputs[i].strides);
  for (int i = 0; i < @PREFIX@_OUTPUTS; i++)
    free(outputs[i].data), free(outputs[i].strides), free(outputs[i].shape);
  @NAME@_destroy(model);
  return 0;
}
