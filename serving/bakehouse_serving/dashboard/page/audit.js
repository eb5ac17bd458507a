// Who changed what, when and why.
import { at, json } from "./api.js";
import { foreign, h, keyed, replace, whenNew } from "./dom.js";
import { NONE } from "./format.js";
import { since } from "./time.js";

export function makeAudit(shared) {
  const body = h("tbody"), empty = h("p", { class: "empty" }, "Nobody has changed anything yet.");
  const table = h("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Audit", hidden: true }, h("table", { class: "audit" },
    h("thead", {}, h("tr", {}, ["When", "What", "Who", "Why", "Changed"].map((word) => h("th", { scope: "col" }, word)))), body));

  async function renew() {
    let entries;
    try {
      ({ entries } = await json(at(shared.application, "audit")));
    } catch {
      return; // the live line says that the server is away
    }
    empty.hidden = entries.length > 0;
    table.hidden = !entries.length;
    keyed(body, entries, (one) => `${one.at_ms} ${one.action}`, () => h("tr"), (tr, one) => replace(tr,
      h("td", { class: "nowrap" }, since(one.at_ms, shared.now())), h("th", { scope: "row" }, foreign(one.action)), h("td", {}, foreign(one.by || NONE)), h("td", { class: "why" }, foreign(one.why || NONE, 400)),
      h("td", { class: "soft small" }, Object.entries(one.changed ?? {}).map(([name, [before, after]]) => h("span", { class: "change" }, `${name.replaceAll("_", " ")} `, foreign(before, 40), " → ", foreign(after, 40))))));
  }
  const changed = whenNew(renew);
  return { node: h("div", {}, empty, table), renew, tick(tick) { changed(tick.policy.control_at_ms); } };
}
