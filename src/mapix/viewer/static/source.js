// All requests of the page.  An exported page has `embedded.js` in place of this module.

export class Problem extends Error {
  constructor(kind, text) {
    super(text);
    this.kind = kind;
  }
}

const watchers = new Set();

// Call `watcher(problem)` when a request fails for a reason that concerns the whole page.
export function onProblem(watcher) {
  watchers.add(watcher);
}

async function answered(url, options) {
  let response;
  try {
    response = await fetch(url, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const problem = new Problem("Gone", "The program that shows this dataset has ended.");
    for (const watcher of watchers) watcher(problem);
    throw problem;
  }
  if (response.ok) return response;
  let found = { kind: "HTTP", error: `${response.status} ${response.statusText}` };
  try {
    found = await response.json();
  } catch {
    // not an answer of mapix
  }
  const problem = new Problem(found.kind, found.error);
  if (found.kind === "FileChangedError" || response.status === 403) {
    for (const watcher of watchers) watcher(problem);
  }
  throw problem;
}

function address(route, parameters) {
  const given = Object.entries(parameters ?? {}).filter(([, value]) => value !== "" && value != null);
  const text = new URLSearchParams(given).toString();
  return `/api/${route}${text ? `?${text}` : ""}`;
}

export async function json(route, parameters, signal) {
  return (await answered(address(route, parameters), { signal })).json();
}

export async function bytes(route, parameters, signal) {
  return (await answered(address(route, parameters), { signal })).arrayBuffer();
}

export async function post(route, body) {
  const response = await answered(`/api/${route}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body ?? {}),
  });
  return response.json();
}

// Address of a route, for `src` and `href`.
export const link = address;
