// Several applications in one server: which earns its keep, at a glance.
import { h, keyed, replace, section, setText } from "./dom.js";
import { count, number, seconds } from "./format.js";
import { setState, simulatedChip, stateChip } from "./marks.js";

export function openList(main) {
  const body = h("tbody");
  replace(main, section("applications", "Applications", null,
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Applications" }, h("table", { class: "list" },
      h("thead", {}, h("tr", {}, ["Application", "State", "In words"].map((word) => h("th", { scope: "col" }, word)),
        ["Policy", "Decisions", "a second", "Freshness p50", "p95"].map((word) => h("th", { scope: "col", class: "number" }, word)))),
      body))));
  return {
    show() {},
    on(name, data) {
      if (name === "list") keyed(body, data.applications, (one) => one.name, row, update);
    },
  };
}

function row(one) {
  const cells = ["number", "number", "number", "number", "number"].map((name) => h("td", { class: name }));
  return h("tr", {},
    h("th", { scope: "row" }, h("a", { href: `#/${encodeURIComponent(one.name)}` }, one.name)),
    h("td", {}, stateChip(one.verdict?.state)), h("td", { class: "sentence" }, h("span"), h("span", { class: "tagline" })), cells);
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
