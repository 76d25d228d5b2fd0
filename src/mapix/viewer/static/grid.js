// The grid: tiles of records on one canvas.  Tiles come in blocks of complete lines; each block is
// painted once, and a frame copies the blocks that are visible.

import { colourMap, colourNames, loadColours, packedColour } from "./colour.js";
import { h, shown } from "./dom.js";
import { Scroller, colours, moveBy } from "./scroller.js";

const SIZES = [8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512];
const BLOCK_PIXELS = 1 << 19;
const MOST_TILES = 4096;
const MOST_BLOCKS = 48;
const MOST_CACHED = 4000; // tiles, where blocks are small
const MOST_REQUESTS = 4;
const CAPTION = 18;
const SELECTED = 1;
const UNREADABLE = 2;
const EDGE = 8;

// The reply of /api/tiles.
function decoded(buffer) {
  const [, n, k] = new Uint32Array(buffer, 0, 4);
  let at = 16;
  const take = (Type, count) => {
    const found = new Type(buffer, at, count);
    at += found.byteLength;
    return found;
  };
  const [record, low, high] = [0, 1, 2].map(() => take(Float64Array, n));
  const [imageHeight, imageWidth, height, width, flags] = [0, 1, 2, 3, 4].map(() => take(Uint32Array, n));
  const pixels = new Uint8Array(buffer, at);
  return { n, k, record, low, high, imageHeight, imageWidth, height, width, flags, pixels };
}

export function create(app) {
  const { source, facts } = app;
  const blocks = new Map(); // number -> {tiles, canvas, captions}; the last ones used at the end
  const inFlight = new Map(); // number -> AbortController
  let layout = null;
  let key = "";
  let look = "";
  let focus = 0;
  let moving = 1;
  let timer = 0;
  let begun = false; // whether the state was seen
  let wanted = null; // position to scroll to when the size is known

  const scroller = new Scroller({ label: "Records as tiles", draw, moved });
  const live = h("div.hidden", { "aria-live": "polite" });
  const hint = h("div.hint", { hidden: true });
  const element = h("section.grid", { "aria-label": "Grid" }, scroller.element, hint, live);
  const total = () => app.condition?.records ?? 0;
  const ready = loadColours(source).then(tools);

  // --- where tiles are ---------------------------------------------------------------------------

  function measured() {
    const { size } = app.state;
    const [wide, high] = cell(size);
    const gap = size >= 24 ? 4 : 2;
    const pitch = wide + gap;
    const caption = wide >= 88 ? CAPTION : 0;
    const columns = Math.max(1, Math.floor((scroller.width - 2 * EDGE + gap) / pitch));
    const most = Math.min(MOST_TILES, Math.max(1, Math.floor(BLOCK_PIXELS / (size * size))));
    // records that are decoded one by one come line by line
    const lines = facts.pixels?.copied === false ? 1 : Math.max(1, Math.floor(most / columns));
    return { size, wide, high, gap, pitch, line: high + gap + caption, caption, columns, lines, count: lines * columns };
  }

  // Width and height of a tile: a square, or less where all images have one shape.
  function cell(size) {
    const ratio = devicePixelRatio || 1;
    const box = Math.min(512, Math.round(size * ratio));
    const shape = facts.pixels?.shape ?? [];
    if (!facts.pixels?.alike || shape.length < 2 || shape.length > 3) return [size, size];
    const longer = Math.max(shape[0], shape[1]);
    const sides = [shape[1], shape[0]].map((n) =>
      longer <= box ? n * Math.floor(box / longer) : Math.max(1, Math.floor((2 * n * box + longer) / (2 * longer))));
    return sides.map((side) => side / ratio);
  }

  function channel(state) {
    if (state.channel !== "auto") return state.channel;
    const channels = facts.pixels?.channels ?? 1;
    return channels >= 3 && channels <= 4 ? "rgb" : "0";
  }

  function arrange() {
    const before = layout;
    if (!begun || !scroller.width) return;
    const next = measured();
    const { q, sort, range } = app.state;
    const now = JSON.stringify([q, sort, range, channel(app.state), next, devicePixelRatio]);
    const first = before ? Math.round((scroller.top - EDGE) / before.line) * before.columns : 0;
    if (now !== key) {
      const [oldQuery, oldSort] = key ? JSON.parse(key) : [q, sort];
      if (key && (oldQuery !== q || oldSort !== sort)) {
        focus = 0;
        wanted = app.state.at;
      } else if (key && wanted === null) {
        wanted = Math.max(0, first);
      }
      key = now;
      for (const request of inFlight.values()) request.abort();
      inFlight.clear();
      blocks.clear();
      layout = next;
    }
    const lines = Math.ceil(total() / layout.columns);
    scroller.resize(lines ? lines * layout.line + 2 * EDGE - layout.gap : 0);
    if (wanted !== null) {
      const line = Math.floor(wanted / layout.columns);
      wanted = null;
      scroller.go(line ? line * layout.line + EDGE - layout.gap : 0);
    }
    hint.hidden = total() > 0;
    hint.textContent = app.condition?.problem ? "" : `No ${facts.word} here.`;
  }

  // --- tiles -------------------------------------------------------------------------------------

  function fetchBlock(number) {
    const request = new AbortController();
    inFlight.set(number, request);
    const { q, sort, range } = app.state;
    const size = Math.min(512, Math.round(layout.size * (devicePixelRatio || 1)));
    const where = { q, sort, start: number * layout.count, count: layout.count };
    const asked = key;
    const tiles = source
      .bytes("tiles", { ...where, size, range, channel: channel(app.state) }, request.signal)
      .then(decoded);
    const column = app.state.sort.replace(/^-/, "");
    const captions = layout.caption && column
      ? source.json("rows", { ...where, columns: column }, request.signal).then((r) => r.values[column])
      : null;
    Promise.all([tiles, captions]).then(
      ([found, values]) => {
        inFlight.delete(number);
        if (asked !== key) return;
        blocks.set(number, { tiles: found, captions: values, canvas: null });
        if (blocks.size > Math.max(MOST_BLOCKS, MOST_CACHED / layout.count)) blocks.delete(blocks.keys().next().value);
        scroller.dirty();
      },
      (problem) => {
        if (inFlight.get(number) === request) inFlight.delete(number);
        if (problem.name === "AbortError") return;
        if (problem.kind !== "FileChangedError" && problem.kind !== "Gone") {
          app.notice(problem.message, { kind: "tiles" });
        }
        blocks.set(number, { tiles: null, captions: null, canvas: null });
      },
    );
  }

  // Ask for blocks that are visible, then for the one ahead; stop asking for those far away.
  function ask(first, last) {
    for (const [number, request] of inFlight) {
      if (number < first - 2 || number > last + 2) {
        request.abort();
        inFlight.delete(number);
      }
    }
    const ahead = moving > 0 ? last + 1 : first - 1;
    const numbers = [];
    for (let number = first; number <= last; number++) numbers.push(number);
    numbers.push(ahead);
    for (const number of numbers) {
      const exists = number >= 0 && number * layout.count < total();
      if (exists && !blocks.has(number) && !inFlight.has(number) && inFlight.size < MOST_REQUESTS) {
        fetchBlock(number);
      }
    }
  }

  // Paint the tiles of a block, once.
  function painted(block) {
    const ratio = devicePixelRatio || 1;
    const c = colours();
    const { tiles } = block;
    const canvas = block.canvas ?? document.createElement("canvas");
    canvas.width = Math.round(layout.columns * layout.pitch * ratio);
    canvas.height = Math.round(layout.lines * layout.line * ratio);
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    const to = new Uint32Array(image.data.buffer);
    const map = colourMap(app.state.map);
    const empty = packedColour(c.tile);
    to.fill(packedColour(c.ground));
    const box = Math.round(layout.size * ratio);
    const boxWide = Math.round(layout.wide * ratio);
    const boxHigh = Math.round(layout.high * ratio);
    let at = 0;
    for (let i = 0; i < tiles.n; i++) {
      const height = tiles.height[i];
      const width = tiles.width[i];
      const left = Math.round((i % layout.columns) * layout.pitch * ratio);
      const top = Math.round(Math.floor(i / layout.columns) * layout.line * ratio);
      const times = Math.max(1, Math.floor(box / Math.max(height, width, 1)));
      const x0 = left + Math.floor((boxWide - width * times) / 2);
      const y0 = top + Math.floor((boxHigh - height * times) / 2);
      if (height * times < boxHigh || width * times < boxWide) {
        for (let y = 0; y < boxHigh; y++) {
          const line = (top + y) * canvas.width + left;
          to.fill(empty, line, line + boxWide);
        }
      }
      for (let y = 0; y < height; y++) {
        let line = (y0 + y * times) * canvas.width + x0;
        const start = line;
        for (let x = 0; x < width; x++) {
          let colour;
          if (tiles.k === 1) {
            colour = map[tiles.pixels[at++]];
          } else {
            const p = tiles.pixels;
            colour = (0xff000000 | (p[at + 2] << 16) | (p[at + 1] << 8) | p[at]) >>> 0;
            at += 3;
          }
          if (times === 1) to[line++] = colour;
          else {
            to.fill(colour, line, line + times);
            line += times;
          }
        }
        for (let k = 1; k < times; k++) {
          to.copyWithin(start + k * canvas.width, start, start + width * times);
        }
      }
    }
    context.putImageData(image, 0, 0);
    context.scale(ratio, ratio);
    for (let i = 0; i < tiles.n; i++) {
      const x = (i % layout.columns) * layout.pitch;
      const y = Math.floor(i / layout.columns) * layout.line;
      if (tiles.flags[i] & UNREADABLE) {
        context.strokeStyle = c.faint;
        context.beginPath();
        context.moveTo(x + 4, y + 4);
        context.lineTo(x + layout.wide - 4, y + layout.high - 4);
        context.moveTo(x + layout.wide - 4, y + 4);
        context.lineTo(x + 4, y + layout.high - 4);
        context.stroke();
      }
      if (!layout.caption) continue;
      context.font = '11px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace';
      context.textBaseline = "middle";
      context.fillStyle = c.faint;
      const middle = y + layout.high + CAPTION / 2 - 1;
      context.fillText(shown(tiles.record[i]), x + 1, middle, layout.wide / 2);
      if (block.captions) {
        context.fillStyle = c.text;
        context.textAlign = "right";
        context.fillText(shown(block.captions[i] ?? null), x + layout.wide - 1, middle, layout.wide / 2);
        context.textAlign = "left";
      }
    }
    block.canvas = canvas;
    block.look = look;
  }

  function draw(context, top, width, height) {
    const c = colours();
    context.fillStyle = c.ground;
    context.fillRect(0, 0, width, height);
    if (!layout || !total()) return;
    const firstLine = Math.max(0, Math.floor((top - EDGE) / layout.line));
    const lastLine = Math.min(
      Math.ceil(total() / layout.columns) - 1,
      Math.floor((top + height - EDGE) / layout.line),
    );
    const first = Math.floor(firstLine / layout.lines);
    const last = Math.floor(Math.max(firstLine, lastLine) / layout.lines);
    let complete = true;
    for (let number = first; number <= last; number++) {
      const block = blocks.get(number);
      const y = number * layout.lines * layout.line + EDGE - top;
      if (block?.tiles) {
        blocks.delete(number);
        blocks.set(number, block);
        if (!block.canvas || block.look !== look) painted(block);
        const ratio = devicePixelRatio || 1;
        context.drawImage(block.canvas, EDGE, y, block.canvas.width / ratio, block.canvas.height / ratio);
        continue;
      }
      complete = false;
      context.fillStyle = c.tile;
      const end = Math.min(total(), (number + 1) * layout.count);
      for (let i = Math.max(number * layout.count, firstLine * layout.columns); i < end; i++) {
        const [x, tileTop] = place(i, top);
        if (tileTop > height) break;
        context.fillRect(x, tileTop, layout.wide, layout.high);
      }
    }
    marks(context, top, firstLine, lastLine);
    element.dataset.complete = String(complete);
    if (complete && !element.dataset.painted) element.dataset.painted = String(Math.round(performance.now()));
    ask(first, last);
  }

  // Outlines of tiles that are selected, open, or have the focus.
  function marks(context, top, firstLine, lastLine) {
    const c = colours();
    const end = Math.min(total(), (lastLine + 1) * layout.columns);
    const frame = (i, colour, width) => {
      const [x, y] = place(i, top);
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.strokeRect(x - width / 2, y - width / 2, layout.wide + width, layout.high + width);
    };
    for (let i = firstLine * layout.columns; i < end; i++) {
      const found = tileAt(i);
      if (!found) continue;
      if (found.flags & SELECTED) {
        frame(i, c.accent, layout.gap);
        if (Math.min(layout.wide, layout.high) >= 24) {
          const [x, y] = place(i, top);
          context.fillStyle = c.accent;
          context.fillRect(x + layout.wide - 12, y, 12, 12);
          context.strokeStyle = c.ground;
          context.lineWidth = 2;
          context.beginPath();
          context.moveTo(x + layout.wide - 9.5, y + 6);
          context.lineTo(x + layout.wide - 7, y + 8.5);
          context.lineTo(x + layout.wide - 2.5, y + 3.5);
          context.stroke();
        }
      }
      if (found.record === app.state.open) frame(i, c.mark, 2);
    }
    if (focus >= firstLine * layout.columns && focus < end && document.activeElement === scroller.bar) {
      frame(focus, c.text, 2);
    }
  }

  function place(position, top) {
    const line = Math.floor(position / layout.columns);
    return [EDGE + (position % layout.columns) * layout.pitch, EDGE + line * layout.line - top];
  }

  // What is known of the tile at a position; null before it has come.
  function tileAt(position) {
    const block = blocks.get(Math.floor(position / layout.count));
    const i = position % layout.count;
    if (!block?.tiles || i >= block.tiles.n) return null;
    const { record, flags, imageHeight, imageWidth, low, high } = block.tiles;
    return {
      record: record[i], flags: flags[i], height: imageHeight[i], width: imageWidth[i],
      low: low[i], high: high[i],
    };
  }

  // --- moving ------------------------------------------------------------------------------------

  function moved(top) {
    moving = top >= (scroller.before ?? 0) ? 1 : -1;
    scroller.before = top;
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (!layout) return;
      const line = Math.max(0, Math.round((scroller.top - EDGE) / layout.line));
      if (line !== Math.floor(app.state.at / layout.columns)) app.set({ at: line * layout.columns });
    }, 250);
  }

  function show(position) {
    const [, y] = place(position, 0);
    if (y - EDGE < scroller.top) scroller.go(y - EDGE);
    else if (y + layout.line + EDGE > scroller.top + scroller.height) {
      scroller.go(y + layout.line + EDGE - layout.gap - scroller.height);
    }
  }

  async function recordAt(position) {
    const found = tileAt(position);
    if (found) return found.record;
    const { q, sort } = app.state;
    const rows = await source.json("rows", { q, sort, start: position, count: 1, columns: "," });
    return rows.records[0];
  }

  async function move(to) {
    focus = to;
    show(to);
    scroller.dirty();
    const found = tileAt(to);
    live.textContent = found ? `${facts.word.replace(/s$/, "")} ${found.record}, ${found.height} by ${found.width}` : "";
    if (app.state.open !== null) {
      const record = await recordAt(to);
      if (focus === to && app.state.open !== null) app.set({ open: record });
    }
  }

  // A link to an open record shows its tile.
  async function found({ q, sort, open }) {
    const { position } = await source.json("position", { q, sort, record: open });
    if (position === null) return;
    focus = position;
    wanted = position;
    arrange();
    scroller.dirty();
  }

  function zoom(step) {
    let at = SIZES.findIndex((size) => size >= app.state.size);
    const before = String(cell(SIZES[at]));
    do {
      at = Math.min(SIZES.length - 1, Math.max(0, at + step));
    } while (Math.abs(step) === 1 && String(cell(SIZES[at])) === before && SIZES[at + step]);
    const next = SIZES[at];
    if (next !== app.state.size) {
      const [, y] = place(focus, 0);
      const seen = y + layout.line > scroller.top && y < scroller.top + scroller.height;
      wanted = seen ? focus : Math.max(0, Math.round((scroller.top - EDGE) / layout.line)) * layout.columns;
      app.set({ size: next });
    }
  }

  function positionOf(event) {
    const box = scroller.bar.getBoundingClientRect();
    const x = event.clientX - box.left - EDGE;
    const y = event.clientY - box.top + scroller.top - EDGE;
    const column = Math.floor(x / layout.pitch);
    const line = Math.floor(y / layout.line);
    const outside = column < 0 || column >= layout.columns || line < 0
      || x - column * layout.pitch > layout.wide || y - line * layout.line > layout.high + layout.caption;
    const position = line * layout.columns + column;
    return outside || position >= total() ? null : position;
  }

  async function select(doing, begin, end) {
    const { q, sort } = app.state;
    await app.select({ do: doing, q, sort, ranges: [[begin, end]] });
  }

  // Other parts of the page changed the selection: which tiles are marked is read again.
  function refresh() {
    for (const request of inFlight.values()) request.abort();
    inFlight.clear();
    for (const [number, block] of blocks) {
      if (block.tiles) {
        const { q, sort } = app.state;
        const asked = key;
        source.json("marks", { q, sort, start: number * layout.count, count: layout.count }).then((found) => {
          if (asked !== key) return;
          block.tiles.flags.forEach((flag, i) => {
            block.tiles.flags[i] = (flag & ~SELECTED) | found.selected[i];
          });
          scroller.dirty();
        });
      }
    }
  }
  app.onSelect(refresh);

  let anchor = 0;
  scroller.bar.addEventListener("click", async (event) => {
    const position = layout && positionOf(event);
    if (position === null) return;
    if (event.shiftKey) {
      await select("add", Math.min(anchor, position), Math.max(anchor, position) + 1);
    } else if (event.ctrlKey || event.metaKey) {
      await toggle(position);
    } else {
      app.set({ open: await recordAt(position) });
    }
    if (!event.shiftKey) anchor = position;
    focus = position;
    scroller.dirty();
  });
  scroller.bar.addEventListener("focus", () => scroller.dirty());
  scroller.bar.addEventListener("blur", () => scroller.dirty());
  scroller.bar.addEventListener("wheel", (event) => {
    if (!event.ctrlKey || !layout) return;
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1 : -1);
  }, { passive: false });
  scroller.bar.addEventListener("mousemove", (event) => {
    const position = layout ? positionOf(event) : null;
    const found = position === null ? null : tileAt(position);
    const text = found
      ? `record ${shown(found.record)} · ${found.height} × ${found.width} · ${shown(found.low)} .. ${shown(found.high)}`
      : "";
    if (scroller.bar.title !== text) scroller.bar.title = text;
  });
  scroller.onresize = arrange;

  async function toggle(position) {
    const found = tileAt(position);
    await select(found && found.flags & SELECTED ? "remove" : "add", position, position + 1);
  }

  // --- the tools in the toolbar ------------------------------------------------------------------

  const controls = [];
  function tools() {
    const size = h("input", {
      type: "range", min: "0", max: String(SIZES.length - 1), step: "1", "aria-label": "Size of tiles",
      oninput: () => zoom(Number(size.value) - SIZES.findIndex((s) => s >= app.state.size)),
    });
    const map = h("select", { "aria-label": "Colour map", onchange: () => app.set({ map: map.value }) },
      ...colourNames().map((name) => h("option", { value: name }, name)));
    const range = h("select", { "aria-label": "Range of values", onchange: choose },
      h("option", { value: "auto" }, "all alike"), h("option", { value: "tile" }, "each tile"),
      h("option", { value: "own" }, "from .. to"));
    const low = h("input.number", { type: "text", inputmode: "decimal", "aria-label": "Lowest value", onchange: given });
    const high = h("input.number", { type: "text", inputmode: "decimal", "aria-label": "Highest value", onchange: given });
    const ends = h("span.ends", { hidden: true }, low, " .. ", high);
    function given() {
      if (Number(low.value) < Number(high.value)) app.set({ range: `${Number(low.value)},${Number(high.value)}` });
    }
    async function choose() {
      if (range.value !== "own") {
        app.set({ range: range.value });
        return;
      }
      const found = await source.json("range", { channel: channel(app.state) });
      app.set({ range: `${found.low},${found.high}` });
    }
    const channels = facts.pixels?.channels ?? 1;
    const choice = h("select", { "aria-label": "Channel", onchange: () => app.set({ channel: choice.value }) },
      h("option", { value: "auto" }, channels === 3 || channels === 4 ? "colour" : "first"));
    for (let i = 0; i < Math.min(channels, 256); i++) choice.append(h("option", { value: String(i) }, `channel ${i}`));
    controls.push(h("label.tool", {}, "size ", size), h("label.tool", {}, "colours ", map));
    if (!facts.fixed) {
      controls.push(h("span.tool", {}, h("label.tool", {}, "range ", range), ends));
      if (channels > 1) controls.push(h("label.tool", {}, "channel ", choice));
    }
    app.toolbar.more.append(...controls);
    controls.update = (state) => {
      size.value = String(SIZES.findIndex((s) => s >= state.size));
      map.value = state.map;
      const own = state.range.includes(",");
      range.value = own ? "own" : state.range;
      ends.hidden = !own;
      if (own) [low.value, high.value] = state.range.split(",");
      choice.value = state.channel;
    };
    controls.update(app.state);
  }

  return {
    element,
    focus: () => scroller.bar.focus({ preventScroll: true }),
    shown(on) {
      for (const control of controls) control.hidden = !on;
    },
    async update(state) {
      await ready;
      controls.update(state);
      const now = `${state.map} ${matchMedia("(prefers-color-scheme: dark)").matches}`;
      if (!begun) {
        begun = true;
        wanted = state.at;
        focus = state.at;
        if (state.open !== null) found(state);
      }
      look = now;
      arrange();
      scroller.dirty();
    },
    keys(event) {
      if (!layout || !total()) return false;
      const page = Math.max(1, Math.floor(scroller.height / layout.line)) * layout.columns;
      const to = moveBy(event.key, event.ctrlKey, focus, total(), layout.columns, page);
      if (to !== null) {
        move(to);
        return true;
      }
      if (event.key === "Enter") recordAt(focus).then((record) => app.set({ open: record }));
      else if (event.key === " ") toggle(focus);
      else if (event.key === "+" || event.key === "=") zoom(1);
      else if (event.key === "-") zoom(-1);
      else if (event.key === "a" && !event.ctrlKey) select("add", 0, total());
      else if (event.key === "c" && !event.ctrlKey) app.select({ do: "clear" });
      else return false;
      return true;
    },
  };
}
