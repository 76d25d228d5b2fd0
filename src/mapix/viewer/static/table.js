// The table: one line per record, its columns side by side, on a canvas.

import { h, shown } from "./dom.js";
import { Scroller, colours, moveBy } from "./scroller.js";

const LINE = 24;
const BLOCK = 200;
const MOST_BLOCKS = 40;
const FONT = '12px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace';

export function create(app) {
  const names = app.facts.columns.map((column) => column.name);
  const blocks = new Map();
  let key = "";
  let focus = 0;
  let units = {};
  const scroller = new Scroller({ label: "Records, one per line", draw });
  const head = h("div.table-head", { role: "presentation" });
  const live = h("div.hidden", { "aria-live": "polite" });
  const element = h("section.table", { "aria-label": "Table" }, head, scroller.element, live);
  const total = () => app.condition?.records ?? 0;
  const widths = () => {
    const first = 90;
    const rest = Math.max(90, (scroller.width - first) / Math.max(1, names.length));
    return [first, ...names.map(() => rest)];
  };

  function block(number) {
    const found = blocks.get(number);
    if (found) {
      blocks.delete(number);
      blocks.set(number, found);
      return found;
    }
    const made = { rows: null };
    blocks.set(number, made);
    if (blocks.size > MOST_BLOCKS) blocks.delete(blocks.keys().next().value);
    const { q, sort } = app.state;
    app.source.json("rows", { q, sort, start: number * BLOCK, count: BLOCK }).then(
      (found) => {
        made.rows = found;
        units = found.units;
        headline();
        scroller.dirty();
      },
      (problem) => {
        made.problem = problem.message;
        scroller.dirty();
      },
    );
    return made;
  }

  function headline() {
    const text = ["record", ...names].map((name) => (units[name] ? `${name} (${units[name]})` : name));
    if (head.dataset.text === text.join("|")) return;
    head.dataset.text = text.join("|");
    head.replaceChildren(...text.map((name, i) => {
      const click = () => {
        const column = names[i - 1] ?? "";
        app.set({ sort: app.state.sort === column && column ? `-${column}` : column, at: 0 });
      };
      return h("button.column", { onclick: click, title: `Order by ${name}` }, name);
    }));
    place();
  }

  function place() {
    const found = widths();
    [...head.children].forEach((child, i) => {
      child.style.width = `${found[i]}px`;
      const column = names[i - 1] ?? "";
      const sort = app.state.sort;
      child.dataset.sort = !column ? "" : sort === column ? "up" : sort === `-${column}` ? "down" : "";
    });
  }

  function clipped(context, text, width) {
    const most = Math.floor((width - 12) / context.measureText("0").width);
    return text.length > most ? `${text.slice(0, Math.max(0, most - 1))}…` : text;
  }

  function draw(context, top, width, height) {
    const c = colours();
    context.fillStyle = c.ground;
    context.fillRect(0, 0, width, height);
    context.font = FONT;
    context.textBaseline = "middle";
    const columns = widths();
    const last = Math.min(total(), Math.ceil((top + height) / LINE));
    for (let i = Math.floor(top / LINE); i < last; i++) {
      const y = i * LINE - top;
      const found = block(Math.floor(i / BLOCK));
      const at = i % BLOCK;
      const record = found.rows?.records[at];
      if (found.rows?.selected[at]) {
        context.fillStyle = c.hover;
        context.fillRect(0, y, width, LINE);
      }
      context.fillStyle = c.line;
      context.fillRect(0, y + LINE - 1, width, 1);
      if (i === focus) {
        context.strokeStyle = c.accent;
        context.lineWidth = 2;
        context.strokeRect(1, y + 1, width - 2, LINE - 3);
      }
      if (found.problem && at === 0) {
        context.fillStyle = c.text;
        context.fillText(found.problem, 8, y + LINE / 2);
      }
      if (record === undefined) continue;
      let x = 0;
      [record, ...names.map((name) => found.rows.values[name][at])].forEach((value, k) => {
        context.fillStyle = k && value !== null ? c.text : c.faint;
        context.fillText(clipped(context, shown(value), columns[k]), x + 8, y + LINE / 2);
        x += columns[k];
      });
    }
  }

  function record(position) {
    return blocks.get(Math.floor(position / BLOCK))?.rows?.records[position % BLOCK];
  }

  function move(to) {
    focus = to;
    if (to * LINE < scroller.top) scroller.go(to * LINE);
    else if ((to + 1) * LINE > scroller.top + scroller.height) scroller.go((to + 1) * LINE - scroller.height);
    scroller.dirty();
    const found = record(to);
    if (found !== undefined) live.textContent = `record ${found}`;
    if (app.state.open !== null && found !== undefined) app.set({ open: found });
  }

  scroller.bar.addEventListener("click", (event) => {
    const y = event.clientY - scroller.bar.getBoundingClientRect().top;
    const position = Math.floor((y + scroller.top) / LINE);
    if (position < total()) {
      move(position);
      app.set({ open: record(position) ?? null });
    }
  });
  scroller.onresize = place;
  headline();

  return {
    element,
    focus: () => scroller.bar.focus({ preventScroll: true }),
    update(state) {
      const now = JSON.stringify([state.q, state.sort]);
      if (now !== key) {
        if (key) scroller.go(0);
        key = now;
        blocks.clear();
        focus = 0;
      }
      scroller.resize(total() * LINE);
      place();
      scroller.dirty();
    },
    keys(event) {
      const page = Math.max(1, Math.floor(scroller.height / LINE) - 1);
      const to = moveBy(event.key, event.ctrlKey, focus, total(), 1, page);
      if (to !== null && total()) {
        move(to);
        return true;
      }
      if (event.key === "Enter" && record(focus) !== undefined) {
        app.set({ open: record(focus) });
        return true;
      }
      return false;
    },
  };
}
