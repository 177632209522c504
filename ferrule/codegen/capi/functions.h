
/* ---- @FUNCTION@
@TENSORS@
 */
enum { @PREFIX@_INPUTS = @INPUTS@, @PREFIX@_OUTPUTS = @OUTPUTS@, @PREFIX@_MAX_RANK = @RANK@ };
int @PREFIX@_inputs(void);
int @PREFIX@_outputs(void);

/* The spec of an input or output, from 0; NULL if there is none. */
const @NAME@_spec *@PREFIX@_input(int index);
const @NAME@_spec *@PREFIX@_output(int index);

/* Fills in ndim, dtype, device and sizes of the outputs for inputs of these sizes. The shape of each
 * output is NULL, or has room for its rank. */
int @PREFIX@_output_shapes(const DLTensor *inputs, DLTensor *outputs);

/* Runs the model: reads the inputs and writes the outputs, which must not overlap them. */
int @PREFIX@_run(@NAME@_model *model, const DLTensor *inputs, DLTensor *outputs);
