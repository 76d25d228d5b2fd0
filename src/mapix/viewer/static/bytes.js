// The bytes of an open record in hex, coloured by what they are: a line per field and more for long
// ones.  Only the lines in view are elements.

import { h, shown } from "./dom.js";

const LINE = 20;
const WIDTH = 8; // bytes in a line
const CHUNK = 8192; // bytes that are asked for at once
const MOST_CHUNKS = 64;
const MOST_LINES = 1_000_000; // browsers limit the height of an element

export function create(app) {
  let record = -1;
  let asked = 0;
  let facts = null;
  let lines = []; // first line of each range; a line with the file's name comes before its first
  let total = 0;
  let marked = -1;
  let byte = null; // of the file, in the marked range
  const chunks = new Map();
  const legend = h("div.legend", { "aria-label": "Kinds of bytes" });
  const spacer = h("div.spacer");
  const rows = h("div.hex-rows");
  const list = h("div.hex", { tabindex: "0", role: "group", "aria-label": "Bytes of the record", onscroll: () => paint(), onkeydown: keys },
    spacer, rows);
  const note = h("p.about");
  const element = h("section.bytes", { "aria-label": "Bytes" }, legend, note, list);
  new ResizeObserver(() => paint()).observe(list);

  async function load(n) {
    record = n;
    const mine = ++asked;
    let found;
    try {
      found = await app.source.json("record.ranges", { n });
    } catch (problem) {
      if (mine === asked) note.textContent = problem.message;
      return;
    }
    if (mine !== asked) return;
    facts = found;
    chunks.clear();
    lines = [];
    total = 0;
    let file = -1;
    for (const range of found.ranges) {
      if (range.file !== file) total += 1;
      file = range.file;
      lines.push(total);
      total += Math.max(1, Math.ceil(range.nbytes / WIDTH));
    }
    const cut = total > MOST_LINES;
    total = Math.min(total, MOST_LINES);
    const sum = found.ranges.reduce((n_, range) => n_ + range.nbytes, 0);
    note.textContent = found.ranges.length
      ? `${shown(sum)} bytes in ${shown(found.ranges.length)} field${found.ranges.length === 1 ? "" : "s"}${cut ? `; the first ${shown(total * WIDTH)} are shown` : ""}`
      : "The format does not state where the bytes of a record lie.";
    const used = new Set(found.ranges.map((range) => range.kind));
    legend.replaceChildren(...found.kinds.filter((kind) => used.has(kind)).map((kind) => h(`span.kind.kind-${kind}`, {}, kind)));
    spacer.style.height = `${total * LINE}px`;
    list.scrollTop = 0;
    marked = -1;
    restore();
    paint();
  }

  // The range of a line, by bisection.
  function rangeOf(line) {
    let low = 0;
    let high = lines.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (lines[middle] <= line) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  function chunk(range, number) {
    const key = `${range}:${number}`;
    const known = chunks.get(key);
    if (known) return known;
    const made = { data: null };
    chunks.set(key, made);
    if (chunks.size > MOST_CHUNKS) chunks.delete(chunks.keys().next().value);
    const mine = asked;
    app.source.bytes("record.bytes", { n: record, range, first: number * CHUNK, most: CHUNK }).then(
      (buffer) => {
        made.data = new Uint8Array(buffer);
        if (mine === asked) paint();
      },
      (problem) => { note.textContent = problem.message; },
    );
    return made;
  }

  let waiting = false;
  function paint() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      if (!facts) return;
      const first = Math.max(0, Math.floor(list.scrollTop / LINE) - 4);
      const last = Math.min(total, Math.ceil((list.scrollTop + list.clientHeight) / LINE) + 4);
      rows.style.transform = `translateY(${first * LINE}px)`;
      const made = [];
      for (let line = first; line < last; line += 1) made.push(one(line));
      rows.replaceChildren(...made);
    });
  }

  function one(line) {
    const number = rangeOf(line);
    const range = facts.ranges[number];
    if (line < lines[number]) return h("div.hex-line.hex-file", {}, facts.files[range.file]); // before the first
    const inside = line - lines[number];
    const next = lines[number + 1];
    if (next !== undefined && line === next - 1 && facts.ranges[number + 1].file !== range.file && inside >= Math.ceil(range.nbytes / WIDTH)) {
      return h("div.hex-line.hex-file", {}, facts.files[facts.ranges[number + 1].file]);
    }
    const begin = inside * WIDTH;
    const here = chunk(number, Math.floor(begin / CHUNK));
    const at = begin % CHUNK;
    const count = Math.min(WIDTH, range.nbytes - begin);
    const data = here.data ? [...here.data.subarray(at, at + count)] : [];
    const pairs = data.map((value) => value.toString(16).padStart(2, "0"));
    const own = number === marked && byte !== null ? byte - range.at - begin : -1;
    const hex = own >= 0 && own < pairs.length
      ? [`${pairs.slice(0, own).join(" ")}${own ? " " : ""}`, h("mark", {}, pairs[own]), ` ${pairs.slice(own + 1).join(" ")}`]
      : [pairs.join(" ")];
    const text = data.map((value) => (value >= 32 && value < 127 ? String.fromCharCode(value) : "·")).join("");
    const meaning = inside ? "" : h("span.hex-name", {}, h("b", {}, range.name), range.text ? ` ${range.text}` : "");
    const found = h(`div.hex-line.kind-${range.kind}${number === marked ? ".marked" : ""}`, {
      title: `${range.name}${range.text ? ` = ${range.text}` : ""}\n${range.kind}, byte ${range.at}, ${range.nbytes} bytes`,
      onclick: () => mark(number),
    }, h("span.hex-at", {}, (range.at + begin).toString(16).padStart(8, "0")), h("span.hex-data", {}, ...hex), h("span.hex-text", {}, text), meaning);
    found.dataset.range = number;
    return found;
  }

  function mark(number) {
    marked = number;
    byte = null;
    app.set({ "bytes.at": facts.ranges[number].at, "bytes.file": facts.ranges[number].file || null });
    paint();
  }

  function reveal(number, inside = 0) {
    const top = (lines[number] + inside) * LINE;
    if (top < list.scrollTop || top + LINE > list.scrollTop + list.clientHeight) list.scrollTop = top - 3 * LINE;
  }

  // A byte in the URL is the field that holds it.
  function restore() {
    const { "bytes.at": text, "bytes.file": file } = app.state;
    if (text === undefined) return;
    const at = Number(text);
    const found = facts.ranges.findIndex((range) => range.file === Number(file ?? 0) && range.at <= at && at < range.at + range.nbytes);
    if (found < 0) return;
    marked = found;
    byte = at === facts.ranges[found].at ? null : at;
    reveal(found, Math.floor((at - facts.ranges[found].at) / WIDTH));
  }

  function keys(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || event.ctrlKey || event.altKey || event.metaKey || !facts?.ranges.length) return;
    event.preventDefault();
    event.stopPropagation();
    const to = Math.min(facts.ranges.length - 1, Math.max(0, marked + step));
    mark(to);
    reveal(to);
  }

  return {
    element,
    update(state) {
      if (state.open !== record) {
        load(state.open);
      } else if (facts && marked >= 0 ? Number(state["bytes.at"] ?? -1) !== (byte ?? facts.ranges[marked].at) : state["bytes.at"] !== undefined) {
        if (facts) restore();
        paint();
      }
    },
  };
}
