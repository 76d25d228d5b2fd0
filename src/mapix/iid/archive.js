// Segments over an image: windows of keys come from the server, painted there; colours, outlines
// and opacity are made here, so that they change at once.

import { h, shown } from "./dom.js";
import { canvasOf, hue } from "./levels.js";
import { colours } from "./scroller.js";
import { Stage, zoomButtons } from "./stage.js";

const MOST_PIXELS = 1 << 21; // of a window, margins included
const MARGIN = 0.25; // of a window, on each side

export function create(app) {
  let facts = null;
  let starting = false;
  let part = null; // keys and picture of a window
  let asked = 0;
  let wanted = "";
  let image = null; // the colours of the window, as a canvas
  let look = "";
  let under = -1; // key under the cursor
  let chosen = null; // {key, mask, canvas}
  let listed = { count: 0, segments: [] };
  const cache = new Map(); // key -> colour

  const stage = new Stage({
    label: "Segments; click or press Enter for the segments at a pixel, drag for a region, arrow keys move the cursor",
    draw, drag: "region", viewed: () => ensure(), hovered, pointed: (x, y) => hovered(x, y), clicked, region,
  });
  const state = (key, usual) => app.state[`archive.${key}`] ?? usual;
  const put = (key, value, usual) => app.set({ [`archive.${key}`]: value === usual ? null : value });

  const groups = h("input", { type: "text", spellcheck: false, placeholder: "cells and not dead", "aria-label": "Groups",
    onchange: () => put("groups", groups.value.trim(), "") });
  const chips = h("div.chips");
  const search = h("input", { type: "search", placeholder: "part of a name", "aria-label": "Search by name",
    onchange: () => put("find", search.value.trim(), "") });
  const opacity = h("input", { type: "range", min: 0, max: 1, step: 0.05, "aria-label": "Opacity",
    oninput: () => { put("opacity", opacity.value, "0.55"); } });
  const outlines = h("input", { type: "checkbox", id: "archive-outlines", onchange: () => put("outlines", outlines.checked ? null : "no") });
  const status = h("p", { role: "status" });
  const list = h("div.cards", { role: "group", "aria-label": "Segments found", onkeydown: listKeys }, status);
  const tools = h("div.plane-tools", {},
    h("label.field", {}, h("span", {}, "groups"), groups), chips,
    h("label.field", {}, h("span", {}, "search"), search),
    h("label.field", {}, h("span", {}, "opacity"), opacity),
    h("div.panel-line", {}, h("label.tool", {}, outlines, "outlines"), zoomButtons(stage)));
  const element = h("section.plane", { "aria-label": "Segments" }, stage.element, h("div.plane-side", {}, tools, list));

  async function begin() {
    try {
      facts = await app.source.json("archive");
    } catch (problem) {
      list_({ count: 0, segments: [] }, problem.message, true);
      return;
    }
    const [height, width] = facts.shape;
    chips.replaceChildren(...facts.groups.slice(0, 40).map(({ name, segments }) => h("button.chip", {
      title: `Segments in ${name}; with Shift: not in it`, onclick: (event) => combine(name, event.shiftKey),
    }, name, " ", h("small", {}, shown(segments)))));
    chips.hidden = !facts.groups.length;
    groups.disabled = !facts.groups.length;
    stage.columns = stage.rows = 0;
    stage.resize(width, height);
    const [x, y, scale] = (state("view", "")).split(",").map(Number);
    if (scale > 0) stage.look(x, y, scale);
    await recall();
  }

  // What the URL asks for: the segments at a pixel, in a region, or of a name.
  async function recall() {
    const at = state("at", "");
    const box = state("region", "");
    const text = state("find", "");
    if (text) await find(text);
    else if (box) await inside(box.split(",").map(Number));
    else if (at) {
      const [x, y] = at.split(",").map(Number);
      stage.point(x, y, { view: true });
      await pick(x, y);
    } else list_({ count: 0, segments: [] }, `${shown(facts.segments)} segments in ${facts.shape[1]} × ${facts.shape[0]} pixels. Click for the segments at a pixel, drag for those in a region.`);
  }

  function combine(name, not) {
    const quoted = /^[A-Za-z_]\w*$/.test(name) && !["and", "or", "not", "in", "is"].includes(name) ? name : JSON.stringify(name);
    const term = not ? `not ${quoted}` : quoted;
    const now = groups.value.trim();
    groups.value = now ? `(${now}) and ${term}` : term;
    put("groups", groups.value, "");
  }

  const condition = () => ({ q: app.condition?.problem ? "" : app.state.q, groups: state("groups", "") });

  async function ensure() {
    if (!facts || !stage.width) return;
    remember();
    const [left, top, right, bottom] = stage.seen;
    if (left >= right || top >= bottom) return;
    const step = Math.max(1, Math.floor(1 / stage.scale));
    const about = JSON.stringify(condition());
    const covers = part && part.about === about && part.step <= step && part.step * 2 > step &&
      part.left <= left && part.top <= top && part.right >= right && part.bottom >= bottom;
    if (covers) return;
    const [height, width] = facts.shape;
    const wide = Math.ceil((right - left) * MARGIN);
    const high = Math.ceil((bottom - top) * MARGIN);
    const place = (value, most) => Math.min(most, Math.max(0, Math.floor(value / step) * step));
    const window_ = { left: place(left - wide, width - 1), top: place(top - high, height - 1),
      right: Math.min(width, right + wide), bottom: Math.min(height, bottom + high), step };
    let columns = Math.ceil((window_.right - window_.left) / window_.step);
    let rows = Math.ceil((window_.bottom - window_.top) / window_.step);
    while (columns * rows > MOST_PIXELS) {
      window_.step += 1;
      columns = Math.ceil((window_.right - window_.left) / window_.step);
      rows = Math.ceil((window_.bottom - window_.top) / window_.step);
    }
    const asks = JSON.stringify([window_, about]);
    if (asks === wanted) return;
    wanted = asks;
    const mine = ++asked;
    try {
      const [keys, picture] = await Promise.all([
        app.source.bytes("archive.window", { ...window_, ...condition() }),
        facts.image ? app.source.bytes("archive.image", window_) : null,
      ]);
      if (mine !== asked) return;
      groups.setAttribute("aria-invalid", "false");
      part = { ...window_, about, columns, rows, keys: new Int32Array(keys), picture: picture && new Uint8Array(picture) };
      image = null;
      if (chosen) await trace(chosen.key);
      element.dataset.window = asks;
      stage.dirty();
    } catch (problem) {
      if (mine !== asked) return;
      wanted = "";
      groups.setAttribute("aria-invalid", "true");
      list_({ count: 0, segments: [] }, problem.message, true);
    }
  }

  function colour(key) {
    let found = cache.get(key);
    if (!found) cache.set(key, (found = hue(key + 1)));
    return found;
  }

  // Blend the colours of keys with the picture; outlines are pixels whose neighbour has another key.
  function compose() {
    const { keys, picture, columns, rows } = part;
    const made = new ImageData(columns, rows);
    const data = made.data;
    const share = Number(state("opacity", "0.55"));
    const edges = state("outlines", "yes") !== "no" && part.step <= 2; // coarser ones are all edges
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const ground = dark ? 38 : 205;
    let last = -2;
    let [r, g, b] = [0, 0, 0];
    for (let i = 0, at = 0, n = keys.length; i < n; i += 1, at += 4) {
      const key = keys[i];
      let red = ground;
      let green = ground;
      let blue = ground;
      if (picture) {
        red = picture[3 * i];
        green = picture[3 * i + 1];
        blue = picture[3 * i + 2];
      }
      if (key >= 0) {
        if (key !== last) [r, g, b] = colour((last = key));
        const x = i % columns;
        const edge = edges && ((x > 0 && keys[i - 1] !== key) || (x < columns - 1 && keys[i + 1] !== key) ||
          (i >= columns && keys[i - columns] !== key) || (i < n - columns && keys[i + columns] !== key));
        const weight = edge ? Math.max(0.9, share) : share;
        red += (r - red) * weight;
        green += (g - green) * weight;
        blue += (b - blue) * weight;
      }
      data[at] = red;
      data[at + 1] = green;
      data[at + 2] = blue;
      data[at + 3] = 255;
    }
    image = canvasOf(made);
  }

  function draw(context) {
    const page = colours();
    context.fillStyle = page.tile;
    context.fillRect(0, 0, stage.width, stage.height);
    if (!part) return;
    const now = [state("opacity"), state("outlines"), page.ground].join("|");
    if (!image || look !== now) compose();
    look = now;
    const place = (canvas) => {
      const [x, y] = stage.on(part.left, part.top);
      context.drawImage(canvas, x, y, part.columns * part.step * stage.scale, part.rows * part.step * stage.scale);
    };
    place(image);
    if (chosen?.canvas && chosen.part === part) place(chosen.canvas);
    if (stage.cursor) cross(context, page);
    const box = state("region", "");
    if (box) {
      const [left, top, right, bottom] = box.split(",").map(Number);
      const [x, y] = stage.on(left, top);
      context.setLineDash([5, 4]);
      context.strokeStyle = page.accent;
      context.lineWidth = 1.5;
      context.strokeRect(x, y, (right - left) * stage.scale, (bottom - top) * stage.scale);
      context.setLineDash([]);
    }
    label(context, page);
  }

  function cross(context, page) {
    const [x, y] = stage.on(stage.cursor.x + 0.5, stage.cursor.y + 0.5);
    for (const [width, style] of [[3.5, "#000a"], [1.5, page.mark]]) {
      context.lineWidth = width;
      context.strokeStyle = style;
      context.beginPath();
      context.moveTo(x - 9, y);
      context.lineTo(x + 9, y);
      context.moveTo(x, y - 9);
      context.lineTo(x, y + 9);
      context.stroke();
    }
  }

  function label(context, page) {
    if (!stage.hover) return;
    const { x, y } = stage.hover;
    const text = `x ${x}, y ${y}${under >= 0 ? ` · segment ${under}` : ""}`;
    context.font = '12px ui-monospace, "DejaVu Sans Mono", monospace';
    const width = context.measureText(text).width + 14;
    context.fillStyle = page.panel;
    context.globalAlpha = 0.92;
    context.fillRect(8, stage.height - 30, width, 22);
    context.globalAlpha = 1;
    context.fillStyle = page.text;
    context.fillText(text, 15, stage.height - 15);
  }

  function hovered(x, y) {
    const [height, width] = facts?.shape ?? [0, 0];
    const there = x !== null && x >= 0 && y >= 0 && x < width && y < height;
    stage.hover = there ? { x: Math.floor(x), y: Math.floor(y) } : null;
    under = -1;
    if (there && part) {
      const column = Math.floor((stage.hover.x - part.left) / part.step);
      const row = Math.floor((stage.hover.y - part.top) / part.step);
      if (column >= 0 && row >= 0 && column < part.columns && row < part.rows) under = part.keys[row * part.columns + column];
    }
    stage.dirty();
  }

  function clicked(x, y) {
    const [height, width] = facts.shape;
    x = Math.floor(x);
    y = Math.floor(y);
    if (x < 0 || y < 0 || x >= width || y >= height) return;
    stage.point(x, y, { view: false });
    app.set({ "archive.at": `${x},${y}`, "archive.region": null, "archive.find": null });
    pick(x, y);
  }

  // An answer about segments; of a bad condition its problem, as an empty list.
  async function ask(route, parameters) {
    try {
      return await app.source.json(route, { ...parameters, ...condition() });
    } catch (problem) {
      list_({ count: 0, segments: [] }, problem.message, true);
      select(null);
      return null;
    }
  }

  async function pick(x, y) {
    const found = await ask("archive.at", { x, y });
    if (!found) return;
    list_(found, `${shown(found.count)} segment${found.count === 1 ? "" : "s"} at x ${x}, y ${y}${found.count > 1 ? ", the topmost first" : ""}.`);
    select(found.segments[0] ?? null);
  }

  function region(box) {
    stage.cursor = null;
    app.set({ "archive.region": box.join(","), "archive.at": null, "archive.find": null });
    inside(box);
  }

  async function inside([left, top, right, bottom]) {
    const found = await ask("archive.region", { left, top, right, bottom });
    if (!found) return;
    list_(found, `${shown(found.count)} segments with a pixel in the region, the topmost first${found.count > found.segments.length ? `; ${found.segments.length} are listed` : ""}.`);
    select(null);
  }

  async function find(text) {
    const found = await ask("archive.find", { text });
    if (!found) return;
    list_(found, `${shown(found.count)} segments whose name holds “${text}”${found.count > found.segments.length ? `; ${found.segments.length} are listed` : ""}.`);
    if (found.segments.length) {
      select(found.segments[0], true);
    } else select(null);
  }

  function list_(found, text, bad = false) {
    listed = found;
    status.textContent = text;
    status.classList.toggle("bad", bad);
    list.replaceChildren(status, ...found.segments.map((segment) => {
      const [r, g, b] = colour(segment.key);
      const swatch = h("i");
      swatch.style.background = `rgb(${r} ${g} ${b})`;
      const card = h("button.card", { onclick: () => select(segment, true), ondblclick: () => open(segment), "aria-pressed": "false",
        title: "Double click, or Enter on a chosen one: open the record" },
      swatch, h("b", {}, [segment.domain, segment.iid].filter(Boolean).join(" / ") || `segment ${segment.key}`),
      h("span", {}, `${segment.key} · ${shown(segment.area)} pixels${segment.groups.length ? ` · ${segment.groups.join(", ")}` : ""}`));
      card.dataset.key = segment.key;
      return card;
    }));
    element.dataset.listed = found.segments.map((segment) => segment.key).join(",");
  }

  function open(segment) {
    if (segment.record !== null) app.set({ open: segment.record });
  }

  // Mark a segment, also under others: its mask comes from the server.
  async function select(segment, show = false) {
    for (const card of list.querySelectorAll(".card")) card.setAttribute("aria-pressed", String(Number(card.dataset.key) === segment?.key));
    chosen = null;
    if (!segment) {
      stage.dirty();
      return;
    }
    chosen = { key: segment.key };
    const [minr, minc, maxr, maxc] = segment.bbox;
    const [left, top, right, bottom] = stage.seen;
    if (show && (minc < left || minr < top || maxc > right || maxr > bottom || (maxc - minc) * stage.scale < 8)) {
      stage.show([minc, minr, maxc, maxr], 0.4);
    }
    await trace(segment.key);
    stage.dirty();
  }

  async function trace(key) {
    if (!part) return;
    const { left, top, right, bottom, step, columns, rows } = part;
    const mine = part;
    let mask;
    try {
      mask = new Uint8Array(await app.source.bytes("archive.mask", { key, left, top, right, bottom, step }));
    } catch (problem) {
      list_(listed, problem.message, true);
      return;
    }
    if (mine !== part || chosen?.key !== key) return;
    const made = new ImageData(columns, rows);
    const inside_ = (i, x) => mask[i] && x;
    for (let i = 0; i < mask.length; i += 1) {
      if (!mask[i]) continue;
      const x = i % columns;
      const edge = !inside_(i - 1, x > 0) || !inside_(i + 1, x < columns - 1) || !mask[i - columns] || !mask[i + columns];
      const at = 4 * i;
      made.data[at] = made.data[at + 1] = made.data[at + 2] = 255;
      made.data[at + 3] = edge ? 255 : 70;
    }
    chosen.canvas = canvasOf(made);
    chosen.part = part;
    stage.dirty();
  }

  function listKeys(event) {
    const cards = [...list.querySelectorAll(".card")];
    const at = cards.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: cards.length - 1 }[event.key];
    if (event.key === "Enter" && at >= 0 && cards[at].getAttribute("aria-pressed") === "true") {
      event.preventDefault();
      open(listed.segments[at]);
    } else if (to !== undefined && cards[to]) {
      event.preventDefault();
      event.stopPropagation();
      cards[to].focus();
      select(listed.segments[to], true);
    }
  }

  let remembering = null;
  function remember() {
    clearTimeout(remembering);
    remembering = setTimeout(() => {
      if (element.hidden) return;
      const round = (value) => Number(value.toPrecision(7));
      put("view", stage.fitted ? null : [stage.left, stage.top, stage.scale].map(round).join(","));
    }, 300);
  }

  let before = null;
  return {
    element,
    focus: () => stage.canvas.focus(),
    update(now) {
      groups.value = state("groups", "");
      search.value = state("find", "");
      opacity.value = state("opacity", "0.55");
      outlines.checked = state("outlines", "yes") !== "no";
      const asks = JSON.stringify([now.q, now["archive.groups"], now["archive.find"]]);
      if (!starting) {
        starting = true;
        begin();
      } else if (facts && asks !== before) recall();
      before = asks;
      if (facts) ensure();
      stage.dirty();
    },
  };
}
