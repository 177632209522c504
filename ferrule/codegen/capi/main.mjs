// Runs @NAME@ once on inputs that are a ramp, and prints what comes out.
//
//   node main.mjs
import { readFileSync } from "node:fs";
import { load } from "./@NAME@.mjs";

const read = (name) => readFileSync(new URL(name, import.meta.url));
const model = await load(read("@NAME@.wasm"), @READ@);
const shapes = @SHAPES@, numbers = @NUMBERS@;
const inputs = model.inputs().map((spec, k) => {
  const wide = spec.array.name.startsWith("Big"), whole = spec.code !== 2 && spec.code !== 4;
  const halves = spec.code === 4 ? [0, 0x3e00, 0x3e80, 0x3ec0, 0x3f00, 0x3f20, 0x3f40, 0x3f60]
    : [0, 0x3000, 0x3400, 0x3600, 0x3800, 0x3900, 0x3a00, 0x3b00];
  const data = new spec.array(shapes[k].reduce((n, extent) => n * extent, 1));
  for (let i = 0; i < data.length; i++) {
    const x = numbers[k] ?? (whole ? i % 2 : spec.bits === 16 ? halves[i % 8] : (i % 8) / 8);
    data[i] = wide ? BigInt(x) : x;
  }
  return { data, shape: shapes[k] };
});
for (const y of model.run(inputs))
  console.log(y.name, `[${y.shape.join(", ")}]`, ...y.data.slice(0, 4));
model.destroy();
