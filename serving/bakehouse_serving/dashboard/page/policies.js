// Which policies were there, what did the gate say of each, and what changed?
import { copyable, foreign, h, keyed, newId, replace, section, setData } from "./dom.js";
import { alike, count, NONE, number, percent, plural, range, signed } from "./format.js";
import { levelMark, mark } from "./marks.js";
import { since } from "./time.js";

const HEADS = [["Policy", ""], ["When", ""], ["Trigger", "optional"], ["Rows", "number optional"], ["Loss", "number optional"], ["Difference", "number"], ["Eff. sample", "number optional"], ["Gate", ""]];

export function makePolicies(shared, controls) {
  const table = h("table", { class: "policies" }, h("thead", {}, h("tr", {}, HEADS.map(([word, cls]) => h("th", { scope: "col", class: cls }, word)))));
  const holder = h("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Policies", hidden: true }, table);
  const empty = h("p", { class: "empty" }, "No candidate has been trained yet. Until then version 0 answers: the game's own rules, with exploration.");
  const node = section("policies", "Policies", "Newest first. Difference: what a decision earns more than with the anchor, the last version shown to be good. Open one for the gate's rules.", empty, holder);
  // bodies of rows live beside the head
  const rows = { parent: table, items: [] };
  const redraw = () => {
    const answers = shared.tick?.policy?.version, mlflow = shared.tick?.mlflow ?? {};
    const bounds = rows.items.slice(0, 20).flatMap((one) => [one.lower, one.upper]);
    const losses = rows.items.slice(0, 20).map((one) => loss(one.losses));
    const items = rows.items.map((one) => ({ ...one, answers: one.published && one.version === answers, mlflow, around: losses, bounds }));
    empty.hidden = items.length > 0;
    holder.hidden = !items.length;
    keyedBodies(table, items, controls, shared);
  };
  return {
    node,
    tick: redraw,
    insight(insight) {
      rows.items = insight.candidates ?? [];
      redraw();
    },
  };
}

function keyedBodies(table, items, controls, shared) {
  let group = table.querySelector("tbody");
  group ??= table.appendChild(h("tbody"));
  // A row and its details are two rows of one body: two items, kept by key.
  const pairs = items.flatMap((one) => [{ row: "line", ...one }, { row: "details", ...one }]);
  keyed(group, pairs, (one) => `${one.version} ${one.at_ms} ${one.row}`, (one) => make(one, group), (node, one) => {
    if (one.row === "line") drawLine(node, one, shared);
    else drawDetails(node.firstChild, one, controls);
  });
}

function make(one, group) {
  const id = `policy-${one.version}-${one.at_ms}`;
  if (one.row === "details") return h("tr", { id, class: "details", hidden: true }, h("td", { colspan: HEADS.length }));
  const button = h("button", { type: "button", class: "open", "aria-expanded": "false", "aria-controls": id, onclick: () => {
    const open = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", String(open));
    for (const row of group.children) if (row.id === id) row.hidden = !open;
  } }, mark("chevron"), h("span", {}, `v${one.version}`));
  const tr = h("tr", {}, h("th", { scope: "row" }, button, h("span", { class: "badge-place" })), HEADS.slice(1).map(([, cls]) => h("td", { class: cls })));
  return tr;
}

const loss = (losses) => {
  const [name] = ["loss", ...Object.keys(losses ?? {})].filter((key) => key in (losses ?? {}));
  return name === undefined ? null : losses[name];
};

function drawLine(tr, one, shared) {
  const [name, when, trigger, rows, lost, evaluation, sample, gate] = tr.children;
  replace(name.lastChild, one.answers && h("span", { class: "badge" }, "answers now"));
  setData(tr, "published", one.published);
  replace(when, since(one.at_ms, shared.now()));
  replace(trigger, foreign(one.trigger ?? NONE, 40));
  replace(rows, count(one.rows), h("span", { class: "soft" }, one.new_rows === null ? "" : ` +${count(one.new_rows)}`));
  replace(lost, alike(one.around, loss(one.losses)));
  const text = (value) => alike(one.bounds, value);
  replace(evaluation, signed(one.mean, text(one.mean)), one.lower !== null && one.lower !== undefined && [" ", h("span", { class: "soft nowrap" }, `(${range(one, text)})`)]);
  replace(sample, count(one.effective_sample));
  const failed = (one.rules ?? []).filter((rule) => rule.passed === false).length;
  replace(gate, one.published ? levelMark("ok", "published") : levelMark("blocked", failed ? `refused by ${plural(failed, "rule")}` : "refused"));
}

function drawDetails(cell, one, controls) {
  const rules = one.rules ?? [], changed = one.changed ?? {};
  const losses = Object.entries(one.losses ?? {});
  replace(cell, h("div", { class: "details-grid" },
    h("div", {}, h("h4", {}, "What the gate said"), h("p", { class: "reason" }, foreign(one.reason || "no reason was given", 600)),
      rules.length > 0 && h("table", { class: "rules" }, h("thead", {}, h("tr", {}, ["Rule", "Number", "Threshold", "Result"].map((word, i) => h("th", { scope: "col", class: i === 1 || i === 2 ? "number" : null }, word)))),
        h("tbody", {}, rules.map((rule) => h("tr", {}, h("th", { scope: "row" }, foreign(rule.name)), h("td", { class: "number" }, shown(rule.number)), h("td", { class: "number" }, shown(rule.threshold)),
          h("td", {}, rule.passed === null ? levelMark("unknown", "not judged") : levelMark(rule.passed ? "ok" : "blocked", rule.passed ? "passed" : "failed"))))))),
    h("div", {}, h("h4", {}, "Since the one before"), h("dl", { class: "facts-list" },
      fact("Actions shifted", changed.action_shift === null || changed.action_shift === undefined ? NONE : `in ${percent(changed.action_shift)} of contexts`),
      fact("Loss", changed.loss === null || changed.loss === undefined ? NONE : signed(changed.loss)),
      fact("New rows", count(changed.new_rows ?? one.new_rows)), fact("Exploration", typeof changed.exploration === "number" ? percent(changed.exploration) : foreign(changed.exploration ?? NONE)),
    ), losses.length > 1 && [h("h4", {}, "Losses"), h("dl", { class: "facts-list" }, losses.map(([name, value]) => fact(foreign(name, 40), number(value))))],
      mlflow(one), one.published && h("p", { class: "row-actions" },
        h("button", { type: "button", onclick: () => controls.open("promote", one.version) }, `Promote v${one.version}…`),
        h("button", { type: "button", onclick: () => controls.open("rollback", one.version) }, `Roll back to v${one.version}…`)))));
}

const shown = (value) => (typeof value === "number" ? number(value) : foreign(value ?? NONE, 60));
const fact = (name, value) => [h("dt", {}, name), h("dd", {}, value)];

function mlflow({ mlflow_run: run, mlflow: its }) {
  if (!run) return h("p", { class: "soft small" }, "No MLflow run is recorded for it.");
  if (/^https?:\/\//.test(its.url ?? "")) {
    return h("p", { class: "small" }, h("a", { href: `${its.url.replace(/\/+$/, "")}/#/runs/${encodeURIComponent(run)}`, rel: "noreferrer", target: "_blank" }, "MLflow run"), h("span", { class: "soft mono" }, ` ${run}`));
  }
  return h("div", { class: "small" }, h("p", { class: "soft" }, "MLflow run ", h("code", {}, String(run)), its.command ? "; to look at it:" : ""),
    its.command && copyable(h("code", {}, String(its.command))));
}
