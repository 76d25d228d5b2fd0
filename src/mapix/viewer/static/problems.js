// What `verify` finds, while it runs in the background; problems lead to their records.

import { h, shown } from "./dom.js";

const WAIT = 400; // milliseconds between two questions about progress
const MOST_LINKS = 200; // records of a problem that are listed

export function create(app) {
  const start = h("button.primary", { onclick: () => run("problems.start") }, "Check everything");
  const stop = h("button", { onclick: () => run("problems.stop"), hidden: true }, "Stop");
  const bar = h("progress", { hidden: true, "aria-label": "Progress of the check" });
  const line = h("p.about", { role: "status" });
  const list = h("ol.problem-list");
  const element = h("section.problems-panel", { "aria-label": "Problems" },
    h("div.panel-line", {}, start, stop, bar), line, list);
  let timer = null;
  let known = false;

  async function run(route) {
    try {
      show(await app.source.post(route));
    } catch (problem) {
      line.textContent = problem.message;
    }
  }

  async function ask() {
    timer = null;
    try {
      show(await app.source.json("problems"));
    } catch (problem) {
      line.textContent = problem.message;
    }
  }

  function show(found) {
    known = true;
    const running = found.state === "running";
    start.disabled = running;
    start.textContent = found.state === "waiting" ? "Check everything" : "Check again";
    stop.hidden = !running;
    bar.hidden = !running;
    if (found.total) {
      bar.max = found.total;
      bar.value = found.done;
    } else {
      bar.removeAttribute("value");
    }
    element.dataset.state = found.state;
    line.classList.toggle("bad", found.state === "failed" || found.ok === false);
    line.classList.toggle("good", found.ok === true);
    line.textContent = said(found);
    if (found.state !== "done") list.replaceChildren();
    else list.replaceChildren(...found.problems.map(item));
    clearTimeout(timer);
    timer = running ? setTimeout(ask, WAIT) : null;
  }

  function said(found) {
    const share = found.total ? ` ${Math.floor((100 * found.done) / found.total)} %` : "";
    if (found.state === "waiting") return "Nothing was checked yet. The check reads the complete file.";
    if (found.state === "running") return `Checking …${share}`;
    if (found.state === "stopped") return "The check was stopped.";
    if (found.state === "failed") return found.error;
    const checked = found.checked.length ? `: ${found.checked.join(", ")}` : "";
    const what = `${shown(found.records)} ${app.facts.word}, ${shown(found.nbytes)} bytes checked${checked}.`;
    const more = found.count > found.problems.length ? ` The first ${shown(found.problems.length)} are listed.` : "";
    return found.ok ? `No problems. ${what}` : `${shown(found.count)} problem${found.count === 1 ? "" : "s"}.${more} ${what}`;
  }

  function item(problem) {
    const links = problem.records.slice(0, MOST_LINKS).map((record) => h("button.record-link", {
      onclick: () => app.set({ open: record }),
    }, `${app.facts.word.replace(/s$/, "")} ${shown(record)}`));
    const more = problem.records.length - links.length;
    return h("li", {}, h("span", {}, problem.text),
      links.length ? h("div.record-links", {}, ...links, more > 0 ? `and ${shown(more)} more` : "") : null);
  }

  return {
    element,
    focus: () => start.focus(),
    update() {
      if (!known) ask();
    },
  };
}
