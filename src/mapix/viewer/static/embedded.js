// What source.js is to a page with a server: the answers of an exported page, from its own data.

import { compiled, partsOf } from "./condition.js";

export class Problem extends Error {
  constructor(kind, text) {
    super(text);
    this.kind = kind;
  }
}

export function onProblem() {}

const data = JSON.parse(document.getElementById("data").textContent);
const { columns } = data;
const values = Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, column.values]));
const selected = new Uint8Array(data.dataset.records);
const orders = new Map();

async function inflated(text) {
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
const pixels = inflated(data.tiles.pixels);

function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

function order({ q = "", sort = "" }) {
  const key = JSON.stringify([q, sort]);
  if (!orders.has(key)) {
    let found = Array.from({ length: data.dataset.records }, (_, i) => i);
    if (q.trim()) {
      try {
        found = found.filter(compiled(q, values));
      } catch (error) {
        throw new Problem("ValueError", error.message);
      }
    }
    if (sort) {
      const own = values[sort.replace(/^-/, "")];
      const sign = sort.startsWith("-") ? -1 : 1;
      const there = found.filter((i) => own[i] !== null);
      there.sort((i, j) => sign * compare(own[i], own[j]) || i - j);
      found = [...there, ...found.filter((i) => own[i] === null)];
    }
    orders.set(key, found);
  }
  return orders.get(key);
}

function some(parameters) {
  const start = parameters.start ?? 0;
  return order(parameters).slice(start, start + (parameters.count ?? 1));
}

const cell = (value) => (Array.isArray(value) ? value.join(", ") : value);

const answers = {
  dataset: () => data.dataset,
  colours: () => data.colours,
  condition: ({ q = "" }) => ({ records: order({ q }).length, parts: partsOf(q, columns) }),
  marks: (parameters) => ({ selected: some(parameters).map((i) => selected[i]) }),
  rows(parameters) {
    const records = some(parameters);
    const asked = parameters.columns ? parameters.columns.split(",").filter(Boolean) : Object.keys(columns);
    return {
      records,
      selected: records.map((i) => Boolean(selected[i])),
      values: Object.fromEntries(asked.map((name) => [name, records.map((i) => cell(values[name][i]))])),
      units: Object.fromEntries(asked.map((name) => [name, columns[name].unit])),
    };
  },
  facet({ column, q = "" }) {
    const found = columns[column];
    const others = partsOf(q, columns).filter((part) => part.column !== column).map((part) => part.text);
    const count = (records) => {
      const counts = new Array(found.nbins).fill(0);
      for (const i of records) for (const bin of [found.bins[i]].flat()) if (bin !== null) counts[bin]++;
      return counts;
    };
    const { about, kind } = found;
    const hits = count(order({ q: others.join(" and ") }));
    return { column, kind, total: count(order({})), hits, ...about };
  },
  position(parameters) {
    const at = order(parameters).indexOf(parameters.record);
    return { position: at < 0 ? null : at };
  },
  range: () => data.tiles.range,
};

// One tile, made smaller: each pixel is the mean of the area that it covers.
function smaller(from, h, w, k, size) {
  const longer = Math.max(h, w);
  if (longer <= size) return [from, h, w];
  const [high, wide] = [h, w].map((n) => Math.max(1, Math.floor((2 * n * size + longer) / (2 * longer))));
  const to = new Uint8Array(high * wide * k);
  for (let y = 0; y < high; y++) {
    const [y0, y1] = [Math.floor((y * h) / high), Math.max(Math.floor((y * h) / high) + 1, Math.floor(((y + 1) * h) / high))];
    for (let x = 0; x < wide; x++) {
      const [x0, x1] = [Math.floor((x * w) / wide), Math.max(Math.floor((x * w) / wide) + 1, Math.floor(((x + 1) * w) / wide))];
      for (let c = 0; c < k; c++) {
        let sum = 0;
        for (let i = y0; i < y1; i++) for (let j = x0; j < x1; j++) sum += from[(i * w + j) * k + c];
        to[(y * wide + x) * k + c] = Math.round(sum / ((y1 - y0) * (x1 - x0)));
      }
    }
  }
  return [to, high, wide];
}

export async function bytes(route, parameters) {
  const all = await pixels;
  const records = some(parameters);
  const { channels: k, at, h, w, height, width, low, high, unreadable } = data.tiles;
  const tiles = records.map((i) => smaller(all.subarray(at[i], at[i] + h[i] * w[i] * k), h[i], w[i], k, parameters.size ?? 64));
  const n = records.length;
  const buffer = new ArrayBuffer(16 + n * 44 + tiles.reduce((sum, tile) => sum + tile[0].length, 0));
  new Uint32Array(buffer, 0, 4).set([1, n, k, 0]);
  let place = 16;
  for (const list of [records, records.map((i) => low[i]), records.map((i) => high[i])]) {
    new Float64Array(buffer, place, n).set(list);
    place += 8 * n;
  }
  const flags = records.map((i) => selected[i] | (unreadable[i] ? 2 : 0));
  for (const list of [records.map((i) => height[i]), records.map((i) => width[i]), tiles.map((t) => t[1]), tiles.map((t) => t[2]), flags]) {
    new Uint32Array(buffer, place, n).set(list);
    place += 4 * n;
  }
  const to = new Uint8Array(buffer);
  for (const [tile] of tiles) {
    to.set(tile, place);
    place += tile.length;
  }
  return buffer;
}

export async function json(route, parameters) {
  return answers[route](parameters ?? {});
}

export async function post(route, body) {
  if (body.do === "only" || body.do === "clear") selected.fill(0);
  const records = [...(body.records ?? [])];
  for (const [begin, end] of body.ranges ?? []) records.push(...order(body).slice(begin, end));
  if (body.do !== "clear") for (const i of records) selected[i] = body.do === "remove" ? 0 : 1;
  return { selected: selected.reduce((sum, on) => sum + on, 0) };
}

export function link() {
  return null;
}
