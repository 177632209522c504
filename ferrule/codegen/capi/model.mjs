// @NAME@: a model compiled by ferrule, as a WebAssembly module, for Node and browsers.
//
//   import { load } from "./@NAME@.mjs";
//   const model = await load(wasmBytes, weightBytes);      // weightBytes: those of @WEIGHTS@
//   const outputs = model.run([{ data: new Float32Array(6), shape: [1, 6] }]);
//
// A tensor is { data, shape }: a typed array of its elements, with axes in memory as the spec's
// `order` says (row-major where it is null). f16 and bf16 are Uint16Arrays of their bits, bool is a
// Uint8Array. What does not fit throws an Error with the library's message. @NAME@.h has the API.

const ARRAYS = {
  "0,8": Int8Array, "0,16": Int16Array, "0,32": Int32Array, "0,64": BigInt64Array,
  "1,8": Uint8Array, "1,16": Uint16Array, "1,32": Uint32Array, "1,64": BigUint64Array,
  "2,16": Uint16Array, "2,32": Float32Array, "2,64": Float64Array,
  "4,16": Uint16Array, "6,8": Uint8Array,
};
const TENSOR = @TENSOR@; // offsets in a DLTensor, and its size
const SPEC = @SPEC@; // and in a spec

export async function load(wasm, weights = null) {
  const { instance } = await WebAssembly.instantiate(wasm);
  return new Model(instance.exports, weights);
}

class Model {
  constructor(c, weights) {
    this.c = c;
    this.weights = weights ? this.#held(weights) : 0;
    const out = this.#alloc(4);
    try {
      this.#check(c.@NAME@_create_from(this.weights, weights?.byteLength ?? 0, 0, out));
      this.model = this.#view().getUint32(out, true);
    } finally {
      c.@NAME@_free(out);
    }
  }

  // Specs of the inputs and outputs of a function, by its prefix in the C API.
  inputs(prefix = "@PREFIX@") { return this.#specs(prefix, "input"); }
  outputs(prefix = "@PREFIX@") { return this.#specs(prefix, "output"); }

  run(given, prefix = "@PREFIX@") {
    const ours = [], c = this.c;
    const take = (bytes) => (ours.push(this.#alloc(bytes)), ours.at(-1));
    try {
      const wanted = this.inputs(prefix), made = this.outputs(prefix);
      if (given.length !== wanted.length)
        throw new Error(`${prefix} takes ${wanted.length} inputs, not ${given.length}`);
      const inputs = take(TENSOR.bytes * given.length), outputs = take(TENSOR.bytes * made.length);
      given.forEach((x, k) => {
        const spec = wanted[k], array = spec.array;
        if (!(x.data instanceof array))
          throw new Error(`input ${spec.name} of ${prefix} must be a ${array.name}`);
        const elements = x.shape.reduce((n, extent) => n * extent, 1);
        if (x.data.length !== elements)
          throw new Error(`input ${spec.name} of ${prefix} has ${x.data.length} elements, and ` +
                          `[${x.shape}] has ${elements}`);
        const data = this.#held(x.data, take);
        this.#tensor(inputs + k * TENSOR.bytes, data, spec, x.shape, take);
      });
      made.forEach((spec, k) =>
        this.#tensor(outputs + k * TENSOR.bytes, 0, spec, Array(spec.rank).fill(0), take));
      this.#check(c[`${prefix}_output_shapes`](inputs, outputs));
      const shapes = made.map((spec, k) => this.#shape(outputs + k * TENSOR.bytes, spec.rank));
      const places = made.map((spec, k) => {
        const bytes = shapes[k].reduce((n, extent) => n * extent, spec.array.BYTES_PER_ELEMENT);
        const data = take(bytes);
        this.#tensor(outputs + k * TENSOR.bytes, data, spec, shapes[k], take);
        return data;
      });
      this.#check(c[`${prefix}_run`](this.model, inputs, outputs));
      return made.map((spec, k) => {
        const n = shapes[k].reduce((all, extent) => all * extent, 1);
        const data = new spec.array(c.memory.buffer, places[k], n).slice();
        return { name: spec.name, shape: shapes[k], order: spec.order, data };
      });
    } finally {
      ours.forEach((at) => c.@NAME@_free(at));
    }
  }

  destroy() {
    this.c.@NAME@_destroy(this.model);
    this.c.@NAME@_free(this.weights);
    this.model = this.weights = 0;
  }

  #view() { return new DataView(this.c.memory.buffer); }

  #alloc(bytes) {
    const at = this.c.@NAME@_alloc(Math.max(bytes, 1)) >>> 0; // an address, and no signed number
    if (!at) throw new Error(`out of memory: ${bytes} bytes`);
    return at;
  }

  #held(data, take = (bytes) => this.#alloc(bytes)) {
    const at = take(data.byteLength);
    const bytes = ArrayBuffer.isView(data)
      ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);
    new Uint8Array(this.c.memory.buffer).set(bytes, at);
    return at;
  }

  #check(code) {
    if (code === 0) return;
    const text = this.#text(this.c.@NAME@_error(code));
    throw new Error(`${text}: ${this.#text(this.c.@NAME@_message())}`);
  }

  #text(pointer) {
    const at = pointer >>> 0, bytes = new Uint8Array(this.c.memory.buffer);
    return new TextDecoder().decode(bytes.slice(at, bytes.indexOf(0, at)));
  }

  #specs(prefix, role) {
    const count = this.c[`${prefix}_${role}s`]();
    return Array.from({ length: count }, (_, k) => {
      const at = this.c[`${prefix}_${role}`](k) >>> 0, view = this.#view();
      const pointer = (field) => view.getUint32(at + field, true);
      const code = view.getUint8(at + SPEC.dtype), bits = view.getUint8(at + SPEC.dtype + 1);
      const rank = view.getInt32(at + SPEC.rank, true), order = pointer(SPEC.order);
      return {
        name: this.#text(pointer(SPEC.name)), text: this.#text(pointer(SPEC.text)), rank,
        code, bits, array: ARRAYS[`${code},${bits}`],
        shape: this.#numbers(pointer(SPEC.shape), rank),
        order: order ? this.#numbers(order, rank) : null,
      };
    });
  }

  #numbers(at, count) {
    const view = this.#view();
    return Array.from({ length: count }, (_, k) => Number(view.getBigInt64(at + 8 * k, true)));
  }

  #shape(tensor, rank) {
    return this.#numbers(this.#view().getUint32(tensor + TENSOR.shape, true), rank);
  }

  #tensor(at, data, spec, shape, take) {
    const sizes = take(8 * shape.length), strides = spec.order ? take(8 * shape.length) : 0;
    const view = this.#view();
    shape.forEach((n, k) => view.setBigInt64(sizes + 8 * k, BigInt(n), true));
    if (spec.order) {
      let stride = 1;
      for (const axis of [...spec.order].reverse()) {
        view.setBigInt64(strides + 8 * axis, BigInt(stride), true);
        stride *= shape[axis];
      }
    }
    view.setUint32(at + TENSOR.data, data, true);
    view.setInt32(at + TENSOR.device, 1, true);
    view.setInt32(at + TENSOR.device_id, 0, true);
    view.setInt32(at + TENSOR.rank, shape.length, true);
    view.setUint8(at + TENSOR.dtype, spec.code);
    view.setUint8(at + TENSOR.dtype + 1, spec.bits);
    view.setUint16(at + TENSOR.dtype + 2, 1, true);
    view.setUint32(at + TENSOR.shape, sizes, true);
    view.setUint32(at + TENSOR.strides, strides, true);
    view.setBigUint64(at + TENSOR.offset, 0n, true);
  }
}
