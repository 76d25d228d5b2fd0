// The facets: one distribution per column; a brush is a part of the condition, and the other way round.

import { h, shown } from "./dom.js";
import { colours } from "./scroller.js";

const HEIGHT = 44;
const MOST_SHOWN = 8;
const WIDE = 12; // columns whose facets are open at first

function quoted(value) {
  return typeof value === "string" ? `'${value.replace(/\\/g, "\\\\").replace(/'/g, "\\'").replace(/\n/g, "\\n")}'` : String(value);
}

// The text of a brush; empty for none.
function clause(column, brush) {
  if (brush.kind === "range") {
    const ends = [];
    if (brush.low !== null) ends.push(`${column} ${brush.with_low ? ">=" : ">"} ${brush.low}`);
    if (brush.high !== null) ends.push(`${column} ${brush.with_high ? "<=" : "<"} ${brush.high}`);
    return ends.join(" and ");
  }
  const each = brush.values.map((value) =>
    brush.kind === "within" ? `${quoted(value)} in ${column}` : `${column} == ${quoted(value)}`);
  return each.length > 1 ? `(${each.join(" or ")})` : each.join("");
}

// A number with as many digits as the width of the range needs.
function rounded(value, width) {
  if (!width) return value;
  const digits = Math.max(0, 3 - Math.floor(Math.log10(width)));
  return Number(value.toFixed(Math.min(100, digits)));
}

export function facets(app) {
  const list = h("div.facet-list");
  const element = h("nav.facets", { "aria-label": "Columns" }, list);
  const all = app.facts.columns.map((column, i) => facet(app, column, i < WIDE));
  list.append(...all.map((one) => one.element));
  element.hidden = !all.length;
  return {
    element,
    update() {
      for (const one of all) one.update();
    },
  };
}

function facet(app, column, open) {
  const { name } = column;
  let data = null;
  let asked = null;
  let request = null;
  let drag = null; // [bin, bin] while the mouse is down
  let keyed = 0; // bin of the keyboard's cursor
  const summary = h("summary", {}, h("span.facet-name", {}, name));
  const note = h("span.facet-note");
  const clear = h("button.quiet", { "aria-label": `Remove the filter of ${name}`, hidden: true, onclick: (event) => { event.preventDefault(); apply(null); } }, "×");
  summary.append(note, clear);
  const body = h("div.facet-body");
  const element = h("details.facet", { open, ontoggle: () => update() }, summary, body);

  function brush() {
    return app.condition?.parts.find((part) => part.column === name) ?? null;
  }

  // Replace this column's part of the condition.
  function apply(next) {
    const texts = [];
    let placed = false;
    for (const part of app.condition?.parts ?? []) {
      if (part.column !== name) {
        texts.push(part.text);
      } else if (next && !placed) {
        texts.push(clause(name, next));
        placed = true;
      }
    }
    if (next && !placed) texts.push(clause(name, next));
    app.set({ q: texts.filter(Boolean).join(" and "), at: 0 });
  }

  async function update() {
    if (!element.open) return;
    const { q } = app.state;
    if (app.condition?.problem) return;
    if (asked === q) {
      draw();
      return;
    }
    asked = q;
    request?.abort();
    request = new AbortController();
    try {
      data = await app.source.json("facet", { column: name, q }, request.signal);
    } catch (problem) {
      if (problem.name !== "AbortError") {
        body.replaceChildren(h("p.faint", {}, problem.message));
        asked = null;
      }
      return;
    }
    draw();
  }

  function draw() {
    if (!data) return;
    note.textContent = data.unit;
    if (data.description) summary.title = data.description;
    clear.hidden = !brush();
    if (data.kind === "numbers") histogram();
    else bars();
  }

  // --- numbers -----------------------------------------------------------------------------------

  const canvas = h("canvas.histogram", { tabindex: "0", role: "slider", "aria-label": `Filter by ${name}` });
  const scale = h("div.facet-scale");

  function bin(event) {
    const box = canvas.getBoundingClientRect();
    const at = Math.floor(((event.clientX - box.left) / box.width) * data.total.length);
    return Math.min(data.total.length - 1, Math.max(0, at));
  }

  function range(a, b) {
    const [first, last] = [Math.min(a, b), Math.max(a, b)];
    if (data.single) {
      const low = Math.ceil(data.edges[first]);
      const high = Math.floor(data.edges[last + 1]);
      if (low === high) return { kind: "values", values: [low] };
      return { kind: "range", low, high, with_low: true, with_high: true };
    }
    const width = data.edges.at(-1) - data.edges[0];
    const end = last === data.total.length - 1;
    return {
      kind: "range", low: first === 0 ? data.low : rounded(data.edges[first], width),
      high: end ? data.high : rounded(data.edges[last + 1], width), with_low: true, with_high: end,
    };
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    drag = [bin(event), bin(event)];
    paint();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drag) {
      drag[1] = bin(event);
      paint();
    } else if (data) {
      const i = bin(event);
      const from = shown(data.single ? Math.ceil(data.edges[i]) : data.edges[i]);
      const to = data.single ? "" : ` .. ${shown(data.edges[i + 1])}`;
      canvas.title = `${from}${to}${data.unit ? ` ${data.unit}` : ""}: ${shown(data.hits[i])} of ${shown(data.total[i])}`;
    }
  });
  canvas.addEventListener("pointerup", () => {
    if (!drag) return;
    const [a, b] = drag;
    drag = null;
    const before = brush();
    const next = range(a, b);
    apply(before && a === b && clause(name, before) === clause(name, next) ? null : next);
  });
  canvas.addEventListener("pointercancel", () => {
    drag = null;
    paint();
  });
  canvas.addEventListener("focus", () => paint());
  canvas.addEventListener("blur", () => paint());
  canvas.addEventListener("keydown", (event) => {
    const last = data.total.length - 1;
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    if (event.key in steps) {
      const next = Math.min(last, Math.max(0, keyed + steps[event.key]));
      if (event.shiftKey) drag = [drag ? drag[0] : keyed, next];
      else drag = null;
      keyed = next;
    } else if (event.key === "Enter" || event.key === " ") {
      const [a, b] = drag ?? [keyed, keyed];
      drag = null;
      apply(range(a, b));
    } else if (event.key === "Delete" || event.key === "Backspace") {
      drag = null;
      apply(null);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    paint();
  });

  function covered(i) {
    if (drag) return i >= Math.min(...drag) && i <= Math.max(...drag);
    const found = brush();
    if (!found) return true;
    const middle = (data.edges[i] + data.edges[i + 1]) / 2;
    if (found.kind === "range") {
      const above = found.low === null || middle > found.low || (found.with_low && middle === found.low);
      return above && (found.high === null || middle < found.high || (found.with_high && middle === found.high));
    }
    return found.values.some((value) => value >= data.edges[i] && value < data.edges[i + 1]);
  }

  function paint() {
    const ratio = devicePixelRatio || 1;
    const width = canvas.clientWidth;
    if (!width || !data) return;
    const c = colours();
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(HEIGHT * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const n = data.total.length;
    const most = Math.max(1, ...data.total);
    const tall = (count) => (count ? Math.max(1.5, (count / most) * (HEIGHT - 2)) : 0);
    const step = width / n;
    const filtered = drag || brush();
    const gap = step > 5 ? 1 : 0;
    for (let i = 0; i < n; i++) {
      const x = Math.round(i * step);
      const wide = Math.max(1, Math.round((i + 1) * step) - x - gap);
      context.fillStyle = c.line;
      context.fillRect(x, HEIGHT - tall(data.total[i]), wide, tall(data.total[i]));
      context.fillStyle = filtered && covered(i) ? c["bar-on"] : c.bar;
      context.fillRect(x, HEIGHT - tall(data.hits[i]), wide, tall(data.hits[i]));
    }
    if (document.activeElement === canvas && canvas.matches(":focus-visible")) {
      context.fillStyle = c.text;
      context.fillRect(Math.round((keyed + 0.5) * step) - 1, 0, 2, HEIGHT);
    }
    const values = { "aria-valuemin": 0, "aria-valuemax": n - 1, "aria-valuenow": keyed };
    for (const [key, value] of Object.entries(values)) canvas.setAttribute(key, value);
    canvas.setAttribute("aria-valuetext", `${shown(data.edges[keyed])}: ${data.hits[keyed]} records`);
  }

  function histogram() {
    const found = brush();
    const missing = data.missing ? `${shown(data.missing)} without` : "";
    const text = (value) => (data.boolean ? String(Boolean(value)) : shown(value));
    let middle = missing;
    if (found?.kind === "range") {
      middle = `${found.low === null ? "" : shown(found.low)} .. ${found.high === null ? "" : shown(found.high)}`;
    } else if (found) {
      middle = found.values.map(shown).join(", ");
    }
    scale.replaceChildren(h("span", {}, text(data.low)), h(found ? "b" : "span", {}, middle), h("span", {}, text(data.high)));
    if (!canvas.isConnected) {
      body.replaceChildren(canvas, scale);
      new ResizeObserver(() => paint()).observe(canvas);
    }
    paint();
  }

  // --- texts -------------------------------------------------------------------------------------

  let more = false;

  function bars() {
    const kind = data.kind === "members" ? "within" : "values";
    const found = brush();
    const chosen = new Set(found?.kind === kind ? found.values : []);
    const most = Math.max(1, ...data.total);
    const order = data.values.map((_, i) => i).slice(0, more ? undefined : MOST_SHOWN);
    const unique = data.total[0] === 1 && data.distinct > MOST_SHOWN;
    const parts = unique ? [] : order.map((i) => {
      const value = data.values[i];
      const pick = () => {
        const next = new Set(chosen);
        if (!next.delete(value)) next.add(value);
        apply(next.size ? { kind, values: [...next] } : null);
      };
      const share = h("span.share");
      const hit = h("span.hit");
      share.style.width = `${(100 * data.total[i]) / most}%`;
      hit.style.width = `${(100 * data.hits[i]) / most}%`;
      const on = !found || chosen.has(value);
      return h(`button.bar${on ? "" : ".off"}`, { onclick: pick, "aria-pressed": String(chosen.has(value)), title: String(value) },
        share, hit, h("span.bar-name", {}, String(value) || "(empty)"), h("span.bar-count", {}, shown(data.hits[i])));
    });
    if (!unique && data.values.length > MOST_SHOWN) {
      parts.push(h("button.quiet.more", { onclick: () => { more = !more; bars(); } },
        more ? "fewer" : `${shown(data.distinct - MOST_SHOWN)} more`));
    }
    if (data.distinct > MOST_SHOWN) {
      const input = h("input", { type: "text", placeholder: "contains", "aria-label": `${name} contains`,
        value: unique && found?.kind === "within" ? found.values[0] : "",
        onkeydown: (event) => {
          if (event.key === "Enter") apply(input.value ? { kind: "within", values: [input.value] } : null);
        } });
      parts.push(input);
    }
    if (unique) parts.unshift(h("p.faint", {}, `${shown(data.distinct)} different texts`));
    if (data.missing) parts.push(h("p.faint", {}, `${shown(data.missing)} without`));
    body.replaceChildren(...parts);
  }

  return { element, update };
}
