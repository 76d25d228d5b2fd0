// An open record: its pixels as they are, the numbers under the cursor, its columns.

import { h, shown } from "./dom.js";
import { canvasOf, limits, numbers, paint, palette } from "./levels.js";
import { Stage, zoomButtons } from "./stage.js";
import { colours } from "./scroller.js";

const MOST_NUMBERS = 1 << 22; // in one answer of the server

export function create(app) {
  let record = -1;
  let facts = null; // the answer about the record
  let part = null; // the pixels that are here: left, top, right, bottom, step, values, canvas
  let asked = 0;
  let look = ""; // with which the canvas was painted
  let pixel = null;
  const stage = new Stage({
    label: "Pixels of the record; arrow keys move the cursor, + and - zoom, 0 shows all",
    draw, wheel: "ctrl", viewed: () => ensure(), hovered, pointed: keep,
    clicked: (x, y) => { stage.point(Math.floor(x), Math.floor(y), { view: false }); keep(stage.cursor.x, stage.cursor.y); },
  });
  const value = h("output.pixel-value", { "aria-live": "polite" });
  const about = h("p.about");
  const caption = h("p.caption");
  const table = h("table.values");
  const picture = h("div.picture", {}, stage.element, h("div.picture-line", {}, value, zoomButtons(stage)));
  const problems = h("div.problems");
  const element = h("section.inspector", { "aria-label": "Record" }, picture, about, caption, problems, table);

  async function load(n) {
    record = n;
    const mine = ++asked;
    let found;
    try {
      found = await app.source.json("record", { n });
    } catch (problem) {
      if (mine === asked) say(null, problem.message);
      return;
    }
    if (mine !== asked) return;
    facts = found;
    part = null;
    say(found, "");
    picture.hidden = !found.image;
    if (!found.image) return;
    const [height, width] = found.image.shape;
    const ratio = height / width;
    stage.element.style.aspectRatio = `1 / ${Math.min(1.1, Math.max(0.28, ratio))}`;
    stage.columns = stage.rows = 0;
    stage.resize(width, height);
    restore();
    ensure();
  }

  function say(found, problem) {
    problems.replaceChildren(...[...(found?.problems ?? []), problem].filter(Boolean).map((text) => h("p.bad", {}, text)));
    if (!found) return;
    const image = found.image;
    const place = found.row === found.record ? "" : ` · number ${shown(found.row)} in the file`;
    about.textContent = `${app.facts.word.replace(/s$/, "")} ${shown(found.record)}${place}` + (image
      ? ` · ${image.shape.join(" × ")} · ${image.dtype} · ${shown(image.low)} to ${shown(image.high)}` : "");
    const note = found.annotations;
    caption.textContent = note?.caption ?? "";
    caption.hidden = !note?.caption;
    table.replaceChildren(...found.columns.map((column) => h("tr", { title: column.description },
      h("th", { scope: "row" }, column.name), h("td", {}, shown(column.value), column.value !== null && column.unit ? ` ${column.unit}` : ""))));
    value.textContent = "";
  }

  // Ask for the part of the pixels that is seen, as fine as the screen can show it.
  async function ensure() {
    if (!facts?.image || !stage.width) return;
    const [height, width, channels] = facts.image.shape;
    const [left, top, right, bottom] = stage.seen;
    if (left >= right || top >= bottom) return;
    let step = Math.max(1, Math.floor(1 / stage.scale));
    const enough = part && part.step <= step && part.left <= left && part.top <= top && part.right >= right && part.bottom >= bottom;
    if (enough) return;
    const complete = height * width * channels <= MOST_NUMBERS;
    const wide = complete ? 0 : Math.ceil((right - left) / 4);
    const high = complete ? 0 : Math.ceil((bottom - top) / 4);
    const asks = complete ? { left: 0, top: 0, right: width, bottom: height } : {
      left: Math.max(0, left - wide), top: Math.max(0, top - high),
      right: Math.min(width, right + wide), bottom: Math.min(height, bottom + high),
    };
    if (complete) step = 1;
    while (Math.ceil((asks.right - asks.left) / step) * Math.ceil((asks.bottom - asks.top) / step) * channels > MOST_NUMBERS) step += 1;
    const mine = ++asked;
    let buffer;
    try {
      buffer = await app.source.bytes("record.pixels", { n: record, ...asks, step });
    } catch (problem) {
      if (mine === asked) say(null, problem.message);
      return;
    }
    if (mine !== asked) return;
    part = { ...asks, step, values: numbers(buffer, facts.image.dtype), canvas: null };
    stage.dirty();
    if (pixel) tell(pixel.x, pixel.y);
  }

  async function repaint() {
    const { map, range, channel } = app.state;
    const now = [map, range, channel].join("|");
    if (part.canvas && look === now) return;
    look = now;
    const mine = part;
    const table_ = await palette(app, map);
    const { shape } = facts.image;
    const width = Math.ceil((mine.right - mine.left) / mine.step);
    const image = new ImageData(width, Math.ceil((mine.bottom - mine.top) / mine.step));
    mine.image = paint(image, mine.values, shape[2], limits(range, facts.image), table_, channel);
    mine.canvas = canvasOf(mine.image);
    stage.dirty();
  }

  function draw(context) {
    const colour = colours();
    context.fillStyle = colour.tile;
    context.fillRect(0, 0, stage.width, stage.height);
    if (!part) return;
    if (!part.canvas || look !== [app.state.map, app.state.range, app.state.channel].join("|")) repaint();
    if (part.canvas) {
      const [x, y] = stage.on(part.left, part.top);
      context.drawImage(part.canvas, x, y, part.canvas.width * part.step * stage.scale, part.canvas.height * part.step * stage.scale);
    }
    if (stage.scale >= 30 && part.step === 1 && part.image) inside(context);
    boxes(context, colour);
    if (stage.cursor) frame(context, stage.cursor, colour.accent);
    if (pixel && stage.scale >= 3) frame(context, pixel, colour.mark);
  }

  // The numbers in the pixels, where there is room.
  function inside(context) {
    const [left, top, right, bottom] = stage.seen;
    context.font = `${Math.min(13, stage.scale / 3.4)}px ui-monospace, "DejaVu Sans Mono", monospace`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let y = top; y < bottom; y += 1) {
      for (let x = left; x < right; x += 1) {
        const found = valuesAt(x, y);
        if (!found) continue;
        const [px, py] = stage.on(x + 0.5, y + 0.5);
        const lines = found.slice(0, 4);
        const at = 4 * ((y - part.top) * part.image.width + x - part.left);
        const [r, g, b] = part.image.data.subarray(at, at + 3);
        context.fillStyle = 0.3 * r + 0.59 * g + 0.11 * b > 140 ? "#000" : "#fff";
        lines.forEach((number, k) => {
          const text = shown(Number(number), 3);
          const line = py + (k - (lines.length - 1) / 2) * Math.min(13, stage.scale / 4);
          context.fillText(text, px, line);
        });
      }
    }
    context.textAlign = "start";
    context.textBaseline = "alphabetic";
  }

  function frame(context, { x, y }, colour) {
    const [px, py] = stage.on(x, y);
    const size = Math.max(3, stage.scale);
    context.lineWidth = 3;
    context.strokeStyle = "#0008";
    context.strokeRect(px, py, size, size);
    context.lineWidth = 1.5;
    context.strokeStyle = colour;
    context.strokeRect(px, py, size, size);
  }

  function boxes(context, colour) {
    const note = facts.annotations;
    if (!note) return;
    context.font = "600 11px system-ui, sans-serif";
    note.boxes.forEach(([x, y, width, height], k) => {
      const [px, py] = stage.on(x, y);
      context.lineWidth = 4;
      context.strokeStyle = "#0009";
      context.strokeRect(px, py, width * stage.scale, height * stage.scale);
      context.lineWidth = 2;
      context.strokeStyle = colour.mark;
      context.strokeRect(px, py, width * stage.scale, height * stage.scale);
      const name = note.names[k];
      if (!name) return;
      const wide = context.measureText(name).width + 8;
      const up = Math.max(0, py - 16);
      context.fillStyle = colour.mark;
      context.fillRect(px - 1, up, wide, 16);
      context.fillStyle = colour.ground;
      context.fillText(name, px + 3, up + 12);
    });
  }

  function valuesAt(x, y) {
    if (!part || part.step !== 1 || x < part.left || y < part.top || x >= part.right || y >= part.bottom) return null;
    const channels = facts.image.shape[2];
    const at = ((y - part.top) * (part.right - part.left) + x - part.left) * channels;
    return [...part.values.subarray(at, at + channels)];
  }

  function hovered(x, y) {
    if (x === null || !facts?.image) {
      pixel = null;
      if (stage.cursor) tell(stage.cursor.x, stage.cursor.y);
      else value.textContent = "";
      stage.dirty();
      return;
    }
    const [height, width] = facts.image.shape;
    if (x < 0 || y < 0 || x >= width || y >= height) return hovered(null);
    pixel = { x: Math.floor(x), y: Math.floor(y) };
    tell(pixel.x, pixel.y);
    stage.dirty();
  }

  // Show the numbers of a pixel, in the type of the file, and in its unit.
  async function tell(x, y) {
    let found = valuesAt(x, y);
    if (!found) {
      const [mine, dtype] = [record, facts.image.dtype];
      try {
        const buffer = await app.source.bytes("record.pixels", { n: mine, left: x, top: y, right: x + 1, bottom: y + 1 });
        found = [...numbers(buffer, dtype)];
      } catch (problem) {
        say(null, problem.message);
        return;
      }
      if (mine !== record) return;
    }
    const texts = found.map((number) => (typeof number === "bigint" ? String(number) : exact(number)));
    value.dataset.values = JSON.stringify(texts);
    value.dataset.at = `${x},${y}`;
    const unit = facts.annotations?.unit;
    const physical = unit ? ` = ${found.map((n) => shown(Number(n) * unit.scale + unit.offset)).join(", ")} ${unit.name}` : "";
    const byte = byteOf(x, y);
    const place = byte === null ? "" : ` · byte ${byte.toString(16).padStart(8, "0")}`;
    value.textContent = `x ${x}, y ${y}: ${texts.join(", ")}${physical}${place}`;
  }

  // The byte of the file at which a pixel begins; null of encoded pixels.
  function byteOf(x, y) {
    const place = facts.image.place;
    return place ? place.at + y * place.strides[0] + x * place.strides[1] : null;
  }

  // The shortest text that is this number in the type of the file.
  function exact(number) {
    if (facts.image.dtype !== "float32" || !Number.isFinite(number)) return String(number);
    for (let digits = 1; digits < 9; digits += 1) {
      const text = number.toPrecision(digits);
      if (Math.fround(text) === number) return String(Number(text));
    }
    return String(Number(number.toPrecision(9)));
  }

  // The cursor is a part of the URL.
  function keep(x, y) {
    const byte = byteOf(x, y);
    app.set({ "inspector.pixel": `${x},${y}`, "bytes.at": byte, "bytes.file": (byte !== null && facts.image.place.file) || null });
    tell(x, y);
  }

  function restore() {
    const [x, y] = (app.state["inspector.pixel"] ?? "").split(",").map(Number);
    const [height, width] = facts.image.shape;
    if (app.state["inspector.pixel"] && x >= 0 && y >= 0 && x < width && y < height) {
      stage.point(x, y);
      tell(x, y);
    }
  }

  return {
    element,
    update(state) {
      if (state.open !== record) load(state.open);
      else stage.dirty();
    },
  };
}
