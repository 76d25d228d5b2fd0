// The line above the panels: condition, order, and how many records that leaves.

import { h, shown } from "./dom.js";

export function toolbar(app) {
  const { facts } = app;
  const input = h("input.query", {
    type: "text", spellcheck: false, autocomplete: "off", id: "query",
    placeholder: facts.columns.length
      ? `condition on ${facts.columns.slice(0, 3).map((column) => column.name).join(", ")}${facts.columns.length > 3 ? " …" : ""}`
      : "no columns",
    "aria-label": "Condition", "aria-describedby": "query-problem",
    onkeydown: (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        app.set({ q: input.value.trim(), at: 0 });
      }
    },
    onchange: () => app.set({ q: input.value.trim(), at: 0 }),
  });
  const problem = h("span.problem", { id: "query-problem", role: "alert" });
  const count = h("output.count", { for: "query" });
  const sort = h("select", { "aria-label": "Order by", onchange: () => app.set({ sort: sort.value, at: 0 }) },
    h("option", { value: "" }, "order of the file"));
  for (const { name } of facts.columns) {
    sort.append(h("option", { value: name }, `${name} ↑`), h("option", { value: `-${name}` }, `${name} ↓`));
  }
  const more = h("span.tools", { id: "tools" });
  const clear = h("button.quiet", { onclick: () => app.set({ q: "", at: 0 }), "aria-label": "Clear the condition" }, "×");
  const element = h("div.toolbar", {}, h("span.query-box", {}, input, clear), count, problem,
    h("label.tool", {}, "sort ", sort), more);
  return {
    element,
    more,
    focus() {
      input.focus();
      input.select();
    },
    problem(text) {
      problem.textContent = text;
      input.setAttribute("aria-invalid", String(Boolean(text)));
    },
    update(state) {
      if (document.activeElement !== input || input.value.trim() !== state.q) input.value = state.q;
      sort.value = state.sort;
      clear.hidden = !state.q;
      const found = app.condition?.records ?? 0;
      count.textContent = state.q ? `${shown(found)} of ${shown(facts.records)}` : "";
    },
  };
}
