// Several applications in one server: which earns its keep, at a glance.
import { h, keyed, replace, section, setText } from "./dom.js";
import { count, number, seconds } from "./format.js";
import { setState, simulatedChip, stateChip } from "./marks.js";

const FRESH = "From an outcome's arrival to the first answer by a policy that has learned from it";
const FIGURES = [
  ["Policy", "The version that answers"], ["Decisions", "Answered in all"], ["Decisions a second", null],
  ["Freshness p50", `${FRESH}: the middle`], ["Freshness p95", `${FRESH}: the slow end`],
];

// Roles are said again, since a narrow page lays rows out as blocks.
export function openList(main) {
  const body = h("tbody");
  replace(main, section("applications", "Applications", null,
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Applications" }, h("table", { class: "list", role: "table" },
      h("thead", {}, h("tr", {}, ["Application", "State", "In words"].map((word) => h("th", { scope: "col" }, word)),
        FIGURES.map(([word, meaning]) => h("th", { scope: "col", class: "number", title: meaning }, word)))),
      body))));
  return {
    show() {},
    on(name, data) {
      if (name === "list") keyed(body, data.applications, (one) => one.name, row, update);
    },
  };
}

function row(one) {
  const cells = FIGURES.map(([word]) => h("td", { class: "number", role: "cell", "data-name": word }));
  return h("tr", { role: "row" },
    h("th", { scope: "row", role: "rowheader" }, h("a", { href: `#/${encodeURIComponent(one.name)}` }, one.name)),
    h("td", { role: "cell" }, stateChip(one.verdict?.state)), h("td", { class: "sentence", role: "cell" }, h("span"), h("span", { class: "tagline" })), cells);
}

function update(node, one) {
  const [, state, words, ...numbers] = node.children;
  setState(state.firstChild, one.verdict?.state);
  setText(words.firstChild, one.verdict?.sentence ?? "");
  const tag = words.lastChild;
  if (one.verdict?.simulated && !tag.firstChild) tag.append(simulatedChip());
  if (!one.verdict?.simulated) tag.replaceChildren();
  const fresh = one.freshness_s ?? {};
  [count(one.policy_version), count(one.decisions), number(one.decisions_per_s), seconds(fresh.p50), seconds(fresh.p95)]
    .forEach((text, i) => setText(numbers[i], text));
}
