// Numbers as they are in memory, and their colours.

import { colourMap, loadColours } from "./colour.js";

const TYPES = {
  bool: Uint8Array, uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array,
  int32: Int32Array, uint64: BigUint64Array, int64: BigInt64Array, float32: Float32Array,
  float64: Float64Array,
};

// An array of numbers of a dtype of numpy's, little-endian.
export function numbers(buffer, dtype) {
  if (dtype === "float16") return Float32Array.from(new Uint16Array(buffer), half);
  const type = TYPES[dtype];
  if (!type) throw new Error(`numbers of ${dtype} are not shown`);
  return new type(buffer);
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

// The lowest and the highest number that are shown, by the state's `range`; bytes as in the grid,
// where `full` is white.
export function limits(range, { dtype, low, high, full }) {
  const given = range.split(",").map(Number);
  if (given.length === 2 && given.every(Number.isFinite)) return given;
  return dtype === "uint8" && range !== "tile" ? [0, full ?? 255] : [Number(low), Number(high)];
}

// 256 colours, as colour.js has them; a map that is not known is grey.
export async function palette(app, name) {
  await loadColours(app.source);
  return colourMap(name);
}

// Red, green and blue of a colour of a map.
export function parts(colour) {
  return [colour & 255, (colour >> 8) & 255, (colour >> 16) & 255];
}

// Paint numbers (height x width x channels) into an ImageData of the same height and width.
export function paint(image, values, channels, [low, high], colours, channel = "auto") {
  const data = image.data;
  const unit = high - low < Infinity ? 1 : 2 ** -10; // numbers near 1e308 have no difference
  const span = high > low ? 255 / (high * unit - low * unit) : 0;
  const level = (value) => (value * unit - low * unit) * span;
  const rgb = channel === "auto" && (channels === 3 || channels === 4);
  const only = channel === "auto" ? -1 : Math.min(channels - 1, Number(channel) || 0);
  for (let i = 0, at = 0, n = data.length; i < n; i += 4, at += channels) {
    if (rgb) {
      for (let k = 0; k < 3; k += 1) data[i + k] = level(Number(values[at + k]));
    } else {
      let value = 0;
      if (only >= 0) value = Number(values[at + only]);
      else if (channels === 1) value = Number(values[at]);
      else {
        for (let k = 0; k < channels; k += 1) value += Number(values[at + k]) * unit;
        value /= channels * unit;
      }
      if (Number.isNaN(value)) {
        data[i] = data[i + 1] = data[i + 2] = 96;
      } else {
        const shown = Math.min(255, Math.max(0, Math.round(level(value))));
        [data[i], data[i + 1], data[i + 2]] = parts(colours[shown]);
      }
    }
    data[i + 3] = 255;
  }
  return image;
}

// A canvas with the pixels of an ImageData.
export function canvasOf(image) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// A colour that belongs to a number: hues that differ as much as they can, the same every time.
export function hue(number) {
  const turn = (number * 0.6180339887498949) % 1;
  const light = 0.55 + 0.15 * ((number * 0.7548776662466927) % 1);
  const part = (k) => {
    const t = (k + turn * 12) % 12;
    return Math.round(255 * (light - 0.75 * Math.min(light, 1 - light) * Math.max(-1, Math.min(t - 3, 9 - t, 1))));
  };
  return [part(0), part(8), part(4)];
}
