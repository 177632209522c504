/* Calls of all kinds of a bundled model of a perceptron: right ones and wrong ones, by 8 threads at
 * once, on models that are made and destroyed. Memory checkers watch.
 */
#include "mlp.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what) \
  do { if (!(what)) { fprintf(stderr, "line %d: %s: %s\n", __LINE__, #what, mlp_message()); \
    exit(1); } } while (0)

static DLTensor tensor(float *data, int64_t *shape) {
  DLTensor t = {data, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, NULL, 0};
  return t;
}

static void call(mlp_model *model, int64_t rows) {
  int64_t in[] = {rows, 64}, out[] = {0, 0}, many[] = {rows, 65};
  float *x = malloc(sizeof(float) * (size_t)rows * 64), *y = malloc(sizeof(float) * (size_t)rows * 10);
  for (int64_t i = 0; i < rows * 64; i++) x[i] = (float)(i % 7) - 3;
  DLTensor input = tensor(x, in), output = {.shape = out};
  CHECK(mlp_output_shapes(&input, &output) == mlp_OK);
  CHECK(output.ndim == 2 && out[0] == rows && out[1] == 10);
  output.data = y;
  CHECK(mlp_run(model, &input, &output) == mlp_OK);
  float sum = 0;
  for (int64_t i = 0; i < rows * 10; i++) sum += y[i] > 0 ? 1.0f : 0.0f; /* all bytes are defined */
  CHECK(sum >= 0);

  input.ndim = (int32_t)rows + 9;
  CHECK(mlp_run(model, &input, &output) == mlp_RANK);
  char expected[32];
  snprintf(expected, sizeof expected, "not rank %d", (int)rows + 9);
  CHECK(strstr(mlp_message(), expected));
  input = tensor(x, many);
  CHECK(mlp_run(model, &input, &output) == mlp_SIZE);
  input = tensor(NULL, in);
  CHECK(mlp_run(model, &input, &output) == mlp_NULL);
  input = tensor(x, in);
  input.strides = many;
  CHECK(mlp_run(model, &input, &output) == mlp_STRIDES);
  CHECK(mlp_run(model, NULL, &output) == mlp_NULL);
  CHECK(mlp_run(NULL, &input, &output) == mlp_NULL);
  free(x);
  free(y);
}

static void *calls(void *model) {
  for (int64_t rows = 2; rows < 20; rows += 3) call(model, rows);
  return NULL;
}

int main(int argc, char **argv) {
  const char *weights = argv[argc - 1];
  mlp_model *model = NULL;
  CHECK(mlp_create("absent", NULL, &model) == mlp_FILE && !model);
  CHECK(mlp_create(argv[0], NULL, &model) == mlp_WEIGHTS && !model);
  for (int round = 0; round < 3; round++) {
    mlp_options options = {sizeof options, round, NULL, NULL};
    CHECK(mlp_create(weights, &options, &model) == mlp_OK);
    pthread_t threads[8];
    for (int i = 0; i < 8; i++) CHECK(!pthread_create(&threads[i], NULL, calls, model));
    for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
    mlp_destroy(model);
  }
  puts("all well");
  return 0;
}
