// The state of the page: the hash of the URL holds all of it, so that a link is a view.

export const DEFAULTS = {
  q: "", sort: "", size: 64, map: "grey", range: "auto", channel: "auto", at: 0, open: null,
  main: "", side: "",
};
// Steps that the browser's back button should undo; the others replace the URL.
const STEPS = new Set(["q", "sort", "open", "main"]);

const listeners = new Set();

function parsed(hash) {
  const found = { ...DEFAULTS };
  for (const [key, text] of new URLSearchParams(hash.replace(/^#/, ""))) {
    const usual = DEFAULTS[key];
    if (typeof usual === "number" || key === "open") {
      const number = Number(text);
      if (text !== "" && Number.isFinite(number)) found[key] = number;
    } else {
      found[key] = text;
    }
  }
  return found;
}

function written(state) {
  const found = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) {
    if (value !== null && value !== undefined && value !== (DEFAULTS[key] ?? null)) {
      found.set(key, String(value));
    }
  }
  const text = found.toString();
  return text ? `#${text}` : "";
}

function differing(a, b) {
  return new Set([...Object.keys(a), ...Object.keys(b)].filter((key) => a[key] !== b[key]));
}

let state = parsed(location.hash);

export function current() {
  return state;
}

// Change some keys; null removes one that has no default.
export function set(changes) {
  const before = state;
  const next = { ...state };
  for (const [key, value] of Object.entries(changes)) {
    if (value === null && !(key in DEFAULTS)) delete next[key];
    else next[key] = value;
  }
  const changed = differing(before, next);
  if (!changed.size) return;
  state = next;
  const url = written(state) || `${location.pathname}${location.search}`;
  if ([...changed].some((key) => STEPS.has(key))) history.pushState(null, "", url);
  else history.replaceState(null, "", url);
  for (const listener of listeners) listener(state, changed);
}

// Call `listener(state, keys that changed)` after each change.
export function subscribe(listener) {
  listeners.add(listener);
}

function fromUrl() {
  const before = state;
  state = parsed(location.hash);
  const changed = differing(before, state);
  if (changed.size) for (const listener of listeners) listener(state, changed);
}
addEventListener("popstate", fromUrl);
addEventListener("hashchange", fromUrl);
