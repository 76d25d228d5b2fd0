// The page: its frame, and the panels that the dataset has.

import { h, shown } from "./dom.js";
import { facets } from "./facets.js";
import { load } from "./loading.js";
import { selectionBar } from "./selection.js";
import * as source from "./source.js";
import { current, set, subscribe } from "./state.js";
import { toolbar } from "./toolbar.js";

const app = { source, set, notice, facts: null, condition: null };
Object.defineProperty(app, "state", { get: current });

const notices = h("div.notices", { role: "status", "aria-live": "polite" });
const made = new Map(); // name -> panel
const places = { main: h("main.main", { id: "main" }), side: h("aside.side", { hidden: true }) };
let tabs = null;
let sideTabs = null;

// Show a sentence until it is closed; a second one of the same kind replaces the first.
function notice(text, { kind = text, action = null, label = "" } = {}) {
  for (const old of [...notices.children]) if (old.dataset.kind === kind) old.remove();
  const close = () => element.remove();
  const element = h("div.notice", {}, h("span", {}, text));
  element.dataset.kind = kind;
  if (action) {
    element.append(h("button", { onclick: () => { close(); action(); } }, label));
  }
  element.append(h("button.quiet", { onclick: close, "aria-label": "Close this notice" }, "×"));
  notices.append(element);
}

// Change the selection (the body of /api/select); panels that show it are told.
const selectWatchers = new Set();
app.onSelect = (watcher) => selectWatchers.add(watcher);
app.select = async (body) => {
  try {
    app.selected = (await source.post("select", body)).selected;
  } catch (problem) {
    notice(problem.message, { kind: "select" });
    return;
  }
  for (const watcher of selectWatchers) watcher(app.selected);
};

source.onProblem((problem) => {
  if (problem.kind !== "FileChangedError") {
    notice(problem.message, { kind: problem.kind });
  } else if (app.facts?.reopens) {
    const action = async () => {
      await source.post("reopen");
      location.reload();
    };
    notice("The file has changed since it was opened.", { kind: "changed", action, label: "Open it again" });
  } else {
    notice("The file has changed since it was opened. Open it again in Python.", { kind: "changed" });
  }
});

async function panel(entry) {
  if (!made.has(entry.name)) {
    const module = await load(entry.name);
    const found = module.create(app);
    made.set(entry.name, found);
    places[entry.place].append(found.element);
  }
  return made.get(entry.name);
}

function entries(place) {
  return app.facts.panels.filter((entry) => entry.place === place);
}

function chosen(place) {
  const all = entries(place);
  return all.find((entry) => entry.name === current()[place]) ?? all[0];
}

// Show the panels that the state names, and no others.
let turn = 0;
async function arrange() {
  const own = ++turn;
  const wanted = [chosen("main")];
  const side = chosen("side");
  const open = current().open !== null && side !== undefined;
  if (open) wanted.push(side);
  places.side.hidden = !open;
  document.body.classList.toggle("with-side", open);
  for (const [strip, current] of [[tabs, wanted[0]], [sideTabs, side]]) {
    for (const tab of strip.children) {
      if (tab.dataset.name) tab.setAttribute("aria-selected", String(tab.dataset.name === current?.name));
    }
  }
  const panels = await Promise.all(wanted.map(panel));
  if (own !== turn) return; // the state has changed meanwhile: another call goes on with that
  for (const found of made.values()) {
    found.element.hidden = !panels.includes(found);
    found.shown?.(panels.includes(found));
  }
  for (const found of panels) found.update(current());
  app.shownPanels = panels;
}

function strip(place, label) {
  const all = entries(place);
  const found = h("div.tabs", { role: "tablist", "aria-label": label });
  for (const entry of all) {
    const tab = h("button.tab", { role: "tab", onclick: () => set({ [place]: entry.name }) }, entry.title);
    tab.dataset.name = entry.name;
    found.append(tab);
  }
  found.hidden = all.length < 2 && place === "main";
  return found;
}

// The condition of the state is asked for once; panels read app.condition.
let asked = null;
async function ask() {
  asked?.abort();
  asked = new AbortController();
  try {
    app.condition = await source.json("condition", { q: current().q }, asked.signal);
    app.toolbar.problem("");
  } catch (problem) {
    if (problem.name === "AbortError") return;
    app.condition = { records: 0, parts: [], problem: problem.message };
    app.toolbar.problem(problem.message);
  }
}

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || event.metaKey) return;
  const typing = event.target.matches?.("input, select, textarea");
  if (event.key === "Escape" && typing) {
    event.target.blur();
    (app.shownPanels?.[0]?.focus ?? (() => {}))();
    return;
  }
  if (typing) return;
  if (event.key === "/" && !event.ctrlKey) {
    event.preventDefault();
    app.toolbar.focus();
    return;
  }
  for (const found of app.shownPanels ?? []) {
    if (found.keys?.(event)) {
      event.preventDefault();
      return;
    }
  }
  if (event.key === "Escape" && current().open !== null) {
    event.preventDefault();
    set({ open: null });
  }
});

async function start() {
  const root = document.getElementById("app");
  root.replaceChildren(notices);
  try {
    app.facts = await source.json("dataset");
  } catch (problem) {
    notice(problem.message, { kind: problem.kind });
    return;
  }
  app.selected = app.facts.selected;
  const name = app.facts.name.split("/").filter(Boolean).slice(-2).join("/");
  document.title = `${name} – mapix`;
  app.toolbar = toolbar(app);
  app.facets = facets(app);
  const bar = selectionBar(app);
  tabs = strip("main", "Views");
  sideTabs = strip("side", "Record");
  places.side.append(
    h("div.side-head", {}, sideTabs,
      h("button.quiet", { onclick: () => set({ open: null }), "aria-label": "Close the record" }, "×")),
  );
  const about = `${shown(app.facts.records)} ${app.facts.word} · ${app.facts.format}`;
  const heading = h("header.head", {},
    h("h1", { title: app.facts.name }, name), h("span.about", {}, about), tabs);
  root.replaceChildren(heading, app.toolbar.element,
    h("div.body", {}, app.facets.element, places.main, places.side), bar.element, notices);
  subscribe(async (now, changed) => {
    if (changed.has("q")) await ask();
    app.toolbar.update(now);
    if (changed.has("q")) app.facets.update();
    await arrange();
  });
  await ask();
  app.toolbar.update(current());
  app.facets.update();
  await arrange();
  app.shownPanels?.[0].focus?.();
  if (app.facts.problem) notice(app.facts.problem, { kind: "first" });
  document.body.dataset.ready = "true";
}

start();
