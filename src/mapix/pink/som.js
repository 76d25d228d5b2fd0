// A self-organising map: pictures of the neurons or a heatmap at their places, the members of a
// neuron, and how they fit it.

import { h, shown } from "./dom.js";
import { canvasOf, palette, parts } from "./levels.js";
import { colours } from "./scroller.js";
import { Stage, zoomButtons } from "./stage.js";

const ROOT = Math.sqrt(3);
const UNIT = 64; // pixels of the plane between two neurons in a row
const GAP = 2;
const MOST_TILES = 200; // members whose pictures are shown
const AT_ONCE = 48; // pictures that are asked for at once
const NAMES = { counts: "members", distance: "mean distance", u_matrix: "U-matrix" };

// The centres of all cells in a plane, the plane's size, and which cell is at a place.
//
// Hexagons stand on a corner, UNIT wide.  A place on an edge belongs to the cell of the lower number.
export function geometry({ layout, shape, positions }) {
  const hexagonal = layout === "hexagonal";
  const high = hexagonal ? (UNIT * 2) / ROOT : UNIT;
  const places = positions.map((place) => {
    if (hexagonal) {
      const [q, r] = place;
      return [(q + r / 2 - (shape[0] - 1) / 4 + 0.5) * UNIT, r * high * 0.75 + high / 2];
    }
    const [a, b = null, c = 0] = place;
    const row = b === null ? 0 : a;
    const column = b === null ? a : b;
    const wide = b === null ? 0 : (shape[1] + 0.5) * UNIT;
    return [(column + 0.5) * UNIT + c * wide, (row + 0.5) * UNIT];
  });
  const width = Math.max(...places.map(([x]) => x)) + UNIT / 2;
  const height = Math.max(...places.map(([, y]) => y)) + high / 2;
  const numbers = new Map(positions.map((place, k) => [place.join(), k]));

  function inside(k, x, y) {
    const [cx, cy] = places[k];
    const dx = Math.abs(x - cx);
    const dy = Math.abs(y - cy);
    if (!hexagonal) return dx <= UNIT / 2 && dy <= UNIT / 2;
    return dx <= UNIT / 2 && dy <= high / 2 - dx / ROOT;
  }

  // The cell at a place, or -1.
  function hit(x, y) {
    const found = [];
    if (hexagonal) {
      const r = (y - high / 2) / (high * 0.75);
      for (let row = Math.floor(r) - 1; row <= Math.ceil(r) + 1; row += 1) {
        const q = x / UNIT - 0.5 + (shape[0] - 1) / 4 - row / 2;
        for (let column = Math.floor(q); column <= Math.ceil(q); column += 1) {
          const k = numbers.get(`${column},${row}`);
          if (k !== undefined && inside(k, x, y)) found.push(k);
        }
      }
    } else {
      for (let k = 0; k < places.length; k += 1) if (inside(k, x, y)) found.push(k);
    }
    return found.length ? Math.min(...found) : -1;
  }

  // The corners of a cell, around its middle.
  const corners = hexagonal
    ? [[0, -high / 2], [UNIT / 2, -high / 4], [UNIT / 2, high / 4], [0, high / 2], [-UNIT / 2, high / 4], [-UNIT / 2, -high / 4]]
    : [[-UNIT / 2, -UNIT / 2], [UNIT / 2, -UNIT / 2], [UNIT / 2, UNIT / 2], [-UNIT / 2, UNIT / 2]];
  return { places, width, height, cell: high, hit, corners };
}

// Tiles as the server sends them: height, width and channels, then bytes.
function tiles(buffer) {
  const [height, width, channels] = new Uint32Array(buffer.slice(0, 12));
  const data = new Uint8Array(buffer, 12);
  const nbytes = height * width * channels;
  const count = nbytes ? data.length / nbytes : 0;
  return { height, width, channels, count, of: (k) => data.subarray(k * nbytes, (k + 1) * nbytes) };
}

function tileCanvas(found, k, colours_) {
  const image = new ImageData(found.width, found.height);
  const bytes = found.of(k);
  for (let i = 0, n = found.width * found.height; i < n; i += 1) {
    const colour = found.channels === 3 ? bytes.subarray(3 * i, 3 * i + 3) : parts(colours_[bytes[i]]);
    image.data.set([...colour, 255], 4 * i);
  }
  return canvasOf(image);
}

export function create(app) {
  let facts = null;
  let starting = false;
  let plane = null;
  let loaded = null; // {key, tiles, canvases}
  let asked = 0;
  let look = "";
  let fire = null;
  let under = -1;
  let members = null;
  const heatmaps = new Map();
  const state = (key, usual) => app.state[`som.${key}`] ?? usual;
  const put = (key, value, usual) => app.set({ [`som.${key}`]: value === usual ? null : value });

  const stage = new Stage({
    label: "Neurons of the map; arrow keys choose a neuron, Enter opens it",
    draw, hovered, keys: stageKeys, pixels: false,
    clicked: (x, y, event) => {
      const k = event.type === "keydown" ? chosen() : plane.hit(x, y);
      if (k < 0) return;
      if (event.type === "keydown" || k === chosen()) app.set({ open: k });
      put("neuron", k);
    },
  });
  const shows = h("select", { "aria-label": "What is shown", onchange: () => put("show", shows.value, "neurons") });
  const bar = h("canvas", { width: 256, height: 1 });
  const low = h("span");
  const high = h("span");
  const scale = h("div.scale-line", {}, low, bar, high);
  const title = h("p", { role: "status" });
  const pair = h("div.pair");
  const grid = h("div.tiles", { role: "group", "aria-label": "Members of the neuron", onkeydown: tileKeys });
  const cards = h("div.cards", {}, title, pair, grid);
  const tools = h("div.plane-tools", {}, h("label.field", {}, h("span", {}, "show"), shows), scale,
    h("div.panel-line", {}, zoomButtons(stage)));
  const element = h("section.plane", { "aria-label": "Map" }, stage.element, h("div.plane-side", {}, tools, cards));
  const chosen = () => Number(state("neuron", -1));

  // Say what went wrong, in place of what was asked for.
  const failed = (problem) => {
    title.textContent = problem.message;
    title.classList.add("bad");
  };

  async function begin() {
    const found = await app.source.json("som");
    fire = await palette(app, "fire");
    facts = found; // the others begin when these are there
    plane = geometry(facts);
    shows.replaceChildren(h("option", { value: "neurons" }, "neurons"),
      ...facts.heatmaps.map((name) => h("option", { value: name }, NAMES[name] ?? name)));
    stage.columns = stage.rows = 0;
    stage.resize(plane.width, plane.height);
    update(app.state);
  }

  // Pictures of all neurons, as large as they are on the screen.
  async function ensure() {
    if (!facts || !stage.width || state("show", "neurons") !== "neurons") return;
    const most = Math.sqrt((1 << 24) / facts.positions.length);
    const wanted = Math.min(256, most, plane.cell * stage.scale * (devicePixelRatio || 1));
    const size = Math.max(4, Math.min(Math.floor(most), 2 ** Math.ceil(Math.log2(Math.max(4, wanted)))));
    const { range, channel, map } = app.state;
    const key = JSON.stringify([size, range === "tile", channel, map]);
    if (loaded?.key === key || asked === key) return;
    asked = key;
    const buffer = await app.source.bytes("som.tiles", { size, range: range === "tile" ? "tile" : "auto", channel });
    const table = await palette(app, map);
    if (asked !== key) return;
    const found = tiles(buffer);
    loaded = { key, canvases: Array.from({ length: found.count }, (_, k) => tileCanvas(found, k, table)) };
    stage.dirty();
  }

  // The values of the heatmap that is shown; null while they are on their way, and for pictures.
  function values() {
    const name = state("show", "neurons");
    if (!facts.heatmaps.includes(name)) return null;
    if (!heatmaps.has(name)) {
      heatmaps.set(name, null);
      app.source.json("som.heatmap", { name }).then((found) => {
        heatmaps.set(name, found);
        legend();
        if (members) say(members);
        stage.dirty();
      }).catch(failed);
    }
    return heatmaps.get(name);
  }

  function limits(numbers) {
    const known = numbers.filter((value) => value !== null);
    return known.length ? [Math.min(...known), Math.max(...known)] : [0, 0];
  }

  function path(context, k, shrink = GAP) {
    const [x, y] = stage.on(...plane.places[k]);
    const size = stage.scale * (1 - shrink / UNIT);
    context.beginPath();
    plane.corners.forEach(([dx, dy], i) => context[i ? "lineTo" : "moveTo"](x + dx * size, y + dy * size));
    context.closePath();
  }

  function draw(context) {
    const page = colours();
    context.fillStyle = page.ground;
    context.fillRect(0, 0, stage.width, stage.height);
    if (!plane) return;
    const numbers = values();
    const [least, most] = numbers ? limits(numbers) : [0, 0];
    for (let k = 0; k < plane.places.length; k += 1) {
      const [x, y] = stage.on(...plane.places[k]);
      const reach = plane.cell * stage.scale;
      if (x < -reach || y < -reach || x > stage.width + reach || y > stage.height + reach) continue;
      path(context, k);
      if (numbers) {
        const level = numbers[k] === null ? null : most > least ? Math.round((255 * (numbers[k] - least)) / (most - least)) : 0;
        context.fillStyle = level === null ? page.tile : `rgb(${parts(fire[level]).join(" ")})`;
        context.fill();
        if (stage.scale * UNIT > 46 && numbers[k] !== null) number(context, shown(numbers[k], 3), x, y, level > 150);
      } else if (loaded?.canvases[k] && state("show", "neurons") === "neurons") {
        const canvas = loaded.canvases[k];
        context.save();
        context.clip();
        // the picture covers the cell
        const size = Math.max((UNIT * stage.scale) / canvas.width, reach / canvas.height);
        context.drawImage(canvas, x - (canvas.width * size) / 2, y - (canvas.height * size) / 2, canvas.width * size, canvas.height * size);
        context.restore();
      } else {
        context.fillStyle = page.tile;
        context.fill();
      }
    }
    if (under >= 0) outline(context, under, page.faint, 1.5);
    for (const near of members?.near ?? []) outline(context, near, page.mark, 2.5);
    if (chosen() >= 0 && chosen() < plane.places.length) outline(context, chosen(), page.accent, 3.5);
  }

  function number(context, text, x, y, dark) {
    context.font = '12px ui-monospace, "DejaVu Sans Mono", monospace';
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillStyle = dark ? "#1d1b24" : "#fff";
    context.fillText(text, x, y);
    context.textAlign = "start";
    context.textBaseline = "alphabetic";
  }

  function outline(context, k, colour, width) {
    path(context, k, 0);
    context.lineWidth = width + 2;
    context.strokeStyle = "#0006";
    context.stroke();
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.stroke();
  }

  function hovered(x, y) {
    const found = x === null || !plane ? -1 : plane.hit(x, y);
    if (found === under) return;
    under = found;
    element.dataset.under = found;
    stage.dirty();
  }

  // Arrow keys go to the cell next to the chosen one in that direction.
  function stageKeys(event) {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const way = ways[event.key];
    if (event.key === "Enter" && chosen() >= 0) {
      app.set({ open: chosen() });
      return true;
    }
    if (!way || event.ctrlKey || event.shiftKey || !plane) return false;
    const from = chosen();
    if (from < 0) {
      put("neuron", 0);
      return true;
    }
    const [x, y] = plane.places[from];
    let best = -1;
    let least = Infinity;
    plane.places.forEach(([px, py], k) => {
      const along = (px - x) * way[0] + (py - y) * way[1];
      const aside = Math.abs((px - x) * way[1]) + Math.abs((py - y) * way[0]);
      if (along > 1 && aside <= along * 1.01 + 1) {
        const away = along + 2 * aside;
        if (away < least) [best, least] = [k, away];
      }
    });
    if (best >= 0) put("neuron", best);
    return true;
  }

  // What is known of the chosen neuron.
  function say({ neuron, count }) {
    if (neuron < 0) return;
    const parts_ = [`Neuron ${neuron} at (${facts.positions[neuron].join(", ")})`];
    if (count !== undefined) parts_.push(`${shown(count)} member${count === 1 ? "" : "s"}`);
    for (const [name, found] of heatmaps) {
      if (found && name !== "counts") parts_.push(`${NAMES[name] ?? name} ${shown(found[neuron])}`);
    }
    title.textContent = parts_.join(" · ");
  }

  async function load(neuron) {
    members = { neuron, near: [] };
    const mine = members;
    grid.replaceChildren();
    pair.replaceChildren();
    if (neuron < 0) {
      title.textContent = `${shown(facts.positions.length)} ${facts.layout} neurons. Click one for its members.`;
      return;
    }
    say(mine);
    if (!facts.files.includes("mapping")) {
      grid.replaceChildren(h("p", {}, "Its members are shown with the mapping (and the data, and the rotations): mapix view som.bin --with map.bin --with data.bin --with rot.bin"));
      return;
    }
    const found = await app.source.json("som.members", { neuron });
    if (members !== mine) return;
    members.count = found.count;
    say(members);
    element.dataset.members = found.entries.map(({ entry }) => entry).join(",");
    const buttons = found.entries.slice(0, MOST_TILES).map(({ entry, distance }) => {
      const tile = h("button.tile", { title: `entry ${entry}, distance ${shown(distance)}`, "aria-pressed": "false", onclick: () => put("entry", entry) },
        facts.files.includes("data") ? h("canvas", { width: 48, height: 48 }) : null, `${entry}`);
      tile.dataset.entry = entry;
      return tile;
    });
    grid.replaceChildren(...buttons);
    if (found.count > buttons.length) grid.append(h("p", {}, `${shown(found.count)} members, the nearest ${buttons.length} are shown`));
    if (!found.count) grid.append(h("p", {}, "It is the nearest neuron of no entry."));
    if (facts.files.includes("data")) await pictures(buttons, neuron, mine);
    compare();
  }

  // Pictures of members, turned as they fit the neuron.
  async function pictures(buttons, neuron, mine) {
    const turned = facts.files.includes("rotation") && facts.neuron.length > 1;
    const table = await palette(app, app.state.map);
    for (let at = 0; at < buttons.length; at += AT_ONCE) {
      const some = buttons.slice(at, at + AT_ONCE);
      const entries = some.map((button) => button.dataset.entry).join(",");
      const buffer = await app.source.bytes("som.picture", { entries, size: 48, neuron: turned ? neuron : null, channel: app.state.channel });
      if (members !== mine) return;
      const found = tiles(buffer);
      some.forEach((button, k) => fill(button.querySelector("canvas"), tileCanvas(found, k, table)));
    }
  }

  function fill(canvas, tile) {
    canvas.width = tile.width;
    canvas.height = tile.height;
    canvas.getContext("2d").drawImage(tile, 0, 0);
  }

  // The chosen entry as it is, turned, and the neuron, side by side; and its nearest neurons.
  async function compare() {
    const entry = state("entry", null);
    const mine = members;
    for (const tile of grid.querySelectorAll(".tile")) tile.setAttribute("aria-pressed", String(tile.dataset.entry === String(entry)));
    if (entry === null || !facts.entries || mine.neuron < 0) {
      pair.replaceChildren();
      mine.near = [];
      stage.dirty();
      return;
    }
    const table = await palette(app, app.state.map);
    const figure = async (text, route, parameters, k = 0) => {
      const canvas = h("canvas", { width: 1, height: 1 });
      const found = tiles(await app.source.bytes(route, parameters));
      fill(canvas, tileCanvas(found, k, table));
      return h("figure", {}, canvas, text);
    };
    const { channel } = app.state;
    const jobs = [];
    if (facts.files.includes("data")) {
      jobs.push(figure(`entry ${entry}`, "som.picture", { entries: entry, size: 128, channel }));
      if (facts.files.includes("rotation") && facts.neuron.length > 1) {
        jobs.push(figure("turned to fit", "som.picture", { entries: entry, neuron: mine.neuron, size: 128, channel }));
      }
      jobs.push(figure(`neuron ${mine.neuron}`, "som.tiles", { size: 64, range: "tile", channel }, mine.neuron));
    }
    const near = facts.files.includes("mapping") ? await app.source.json("som.best", { entry }) : [];
    const figures = await Promise.all(jobs);
    if (members !== mine || state("entry", null) !== entry) return;
    pair.replaceChildren(...figures, near.length ? h("p.about", {}, `nearest: ${near.map(({ neuron, distance }) => `${neuron} (${shown(distance, 3)})`).join(", ")}`) : "");
    mine.near = near.slice(1, 3).map(({ neuron }) => neuron);
    element.dataset.compared = entry;
    stage.dirty();
  }

  function tileKeys(event) {
    const all = [...grid.querySelectorAll(".tile")];
    const at = all.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (to === undefined || !all[to]) return;
    event.preventDefault();
    event.stopPropagation();
    all[to].focus();
    put("entry", all[to].dataset.entry);
  }

  function legend() {
    const numbers = values();
    scale.hidden = !numbers;
    if (!numbers) return;
    const [least, most] = limits(numbers);
    low.textContent = shown(least);
    high.textContent = shown(most);
    const image = new ImageData(256, 1);
    for (let i = 0; i < 256; i += 1) image.data.set([...parts(fire[i]), 255], 4 * i);
    bar.getContext("2d").putImageData(image, 0, 0);
  }

  function update() {
    if (!facts) return;
    shows.value = state("show", "neurons");
    legend();
    const pictured = [app.state.map, app.state.channel].join("|");
    if (members?.neuron !== chosen() || look !== pictured) load(chosen()).catch(failed);
    else compare().catch(failed);
    look = pictured;
    ensure().catch(failed);
    stage.dirty();
  }

  stage.handlers.viewed = () => ensure().catch(failed);
  return {
    element,
    focus: () => stage.canvas.focus(),
    update(now) {
      if (!starting) {
        starting = true;
        begin().catch(failed);
      } else update(now);
    },
  };
}
