// Colour maps: 256 colours as 32-bit numbers, in the order that canvases have (A B G R).

const made = new Map();

function packed(r, g, b) {
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

made.set("grey", Uint32Array.from({ length: 256 }, (_, i) => packed(i, i, i)));
made.set("inverse", Uint32Array.from({ length: 256 }, (_, i) => packed(255 - i, 255 - i, 255 - i)));

let loading = null;

// Load the maps of mapix.colour, once.
export function loadColours(source) {
  loading ??= load(source);
  return loading;
}

async function load(source) {
  for (const [name, text] of Object.entries(await source.json("colours"))) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    made.set(name, Uint32Array.from({ length: 256 }, (_, i) => packed(...bytes.subarray(3 * i, 3 * i + 3))));
  }
}

export function colourNames() {
  return [...made.keys()];
}

export function colourMap(name) {
  return made.get(name) ?? made.get("grey");
}

// "#rrggbb" as such a number.
export function packedColour(text) {
  const n = Number.parseInt(text.slice(1), 16);
  return packed(n >> 16, (n >> 8) & 255, n & 255);
}
