// The bar of the selection: how many records, and what can be done with them.

import { h, shown } from "./dom.js";

export function selectionBar(app) {
  const count = h("output");
  const save = h("a.button", { hidden: app.facts.fixed, href: app.source.link("selection.npy"), download: "selection.npy",
    title: "Numbers of the selected records, for numpy.load" }, "Save numbers (.npy)");
  const write = h("button", { hidden: !app.facts.exports, onclick: written }, "Write dataset");
  const clear = h("button.quiet", { onclick: () => app.select({ do: "clear" }) }, "Clear");
  const element = h("div.selection", { role: "region", "aria-label": "Selection" }, count,
    h("span.faint", { hidden: app.facts.fixed }, "view.selection in Python"), save, write, clear);
  async function written() {
    write.disabled = true;
    try {
      const found = await app.source.post("export", {});
      app.notice(`Written: ${found.path}`, { kind: "export" });
    } catch (problem) {
      app.notice(problem.message, { kind: "export" });
    }
    write.disabled = false;
  }
  function update(selected) {
    element.hidden = !selected;
    count.textContent = `${shown(selected)} selected`;
  }
  app.onSelect(update);
  update(app.selected);
  return { element };
}
