// Why did this player get that? One decision from context to what it taught.
import { at, json, Refused } from "./api.js";
import { field } from "./dialogs.js";
import { copyable, foreign, h, place, replace, section } from "./dom.js";
import { NONE, number, plural } from "./format.js";
import { levelMark, simulatedChip } from "./marks.js";
import { since } from "./time.js";
import { quoted } from "./shell.js";

export function makeInspector(shared) {
  const one = field("Decision id", h("input", { autocomplete: "off", spellcheck: "false", autocapitalize: "off", class: "mono", placeholder: "0199d0f2-…", name: "decision" }),
    "Every answer to the game carries a decision_id, and so does everything the game logs about it. Support finds it in the game's own log by player and time.");
  const result = h("div", { class: "explained", "aria-live": "polite" });
  const form = h("form", { class: "inspect", novalidate: true, onsubmit: (event) => {
    event.preventDefault();
    const id = one.input.value.trim().toLowerCase();
    if (!one.check(id ? null : "Paste a decision id")) return;
    const address = `#/${encodeURIComponent(shared.application)}/decision/${encodeURIComponent(id)}`;
    if (location.hash === address) look(id);
    else location.hash = address;
  } }, one.node, h("button", { class: "main" }, "Explain"));
  const node = section("inspector", "Inspector", "Why did player 4711 get “hard”?", form, result);
  let asked = 0;

  async function look(id) {
    const mine = ++asked;
    replace(result, h("p", { class: "soft" }, "Looking it up…"));
    let found;
    try {
      found = explanation(await json(at(shared.application, `decisions/${encodeURIComponent(id)}`)), shared);
    } catch (error) {
      found = h("p", { class: "wrong" }, error instanceof Refused ? error.message : `It could not be shown: ${error.message}`);
    }
    if (mine === asked) replace(result, found);
  }
  return {
    node,
    explain(id) {
      if (!id) return;
      one.input.value = id;
      node.scrollIntoView();
      look(id);
    },
  };
}

const block = (title, ...children) => h("section", { class: "block" }, h("h4", {}, title), children);
const table = (heads, rows) => h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": heads.join(", ") }, h("table", {}, h("thead", {}, h("tr", {}, heads.map((word) => h("th", { scope: "col" }, word)))), h("tbody", {}, rows)));
const pair = ([name, value]) => h("tr", {}, h("th", { scope: "row" }, foreign(name, 80)), h("td", {}, typeof value === "number" ? number(value) : foreign(value ?? NONE)));
const facts = (pairs) => h("dl", { class: "facts-list" }, pairs.map(([name, value]) => value !== undefined && [h("dt", {}, name), h("dd", {}, value)]));

function explanation(it, shared) {
  const chosen = typeof it.action === "string" ? it.action : JSON.stringify(it.action);
  return h("article", { class: "story" },
    h("header", {}, h("h3", {}, "Got ", foreign(it.action)), it.simulated && simulatedChip("Simulated player"), it.contested && levelMark("busy", "contested: two copies differ"),
      h("span", { class: "soft" }, since(it.decided_at_ms, shared.now()))),
    h("ol", { class: "sentences" }, (it.sentences ?? []).map((text) => h("li", {}, foreign(text, 1200)))),
    h("div", { class: "blocks" },
      block("Context", table(["Feature", "Value"], Object.entries(it.context ?? {}).map(pair))),
      (it.observation ?? []).length > 0 && block("Observation", table(["Input", "Value"], it.observation.map((one) => pair([one.feature, one.value])))),
      (it.scores ?? []).length > 0 && block("Scores", scores(it.scores, chosen)),
      (it.numbers ?? []).length > 0 && block("Numbers", table(["Name", "Value", "Mean", "Spread", "Range"], it.numbers.map((one) => h("tr", {}, h("th", { scope: "row" }, foreign(one.name)), [one.value, one.mean, one.std].map((value) => h("td", {}, number(value))), h("td", {}, `${number(one.low)} to ${number(one.high)}`))))),
      block("Mask and draw", facts([
        ["Eligible", list(it.mask?.eligible)], ["Excluded", list(it.mask?.excluded)], ["Baseline would do", foreign(it.baseline_action ?? NONE)],
        ["Explored", it.explored ? "yes" : "no"], ["Exploration", described(it.exploration)], ["Draw", described(it.draw)], ["Propensity recorded", precise(it.propensity)], ["Recomputed", precise(it.recomputed)],
        ["Agreement", it.exact === null || it.exact === undefined ? levelMark("unknown", "not recomputed") : levelMark(it.exact ? "ok" : "blocked", it.exact ? "exactly equal" : "differs")], ["Why not", it.why_not ? foreign(it.why_not, 400) : undefined],
      ])),
      block("Policy", facts([["Version", String(it.policy_version ?? NONE)], ["Agent", foreign(it.policy?.agent ?? NONE)], ["Made", since(it.policy?.created_at_ms, shared.now())], ["Cohort", foreign(it.cohort ?? NONE)], ["Mode", foreign(it.mode ?? NONE)], ["Player", foreign(it.subject_id ?? NONE)], ["Contract", foreign(it.contract ?? NONE)]])),
      block("Outcomes", (it.outcomes ?? []).length ? table(["Outcome", "Value", "When", "Counted"], it.outcomes.map((one) => h("tr", {}, h("th", { scope: "row" }, foreign(one.name ?? one.kind)), h("td", {}, typeof one.value === "number" ? number(one.value) : foreign(one.value ?? NONE)), h("td", { class: "nowrap" }, since(one.occurred_at_ms ?? one.received_at_ms, shared.now())),
        h("td", {}, levelMark(one.counted ? "ok" : "busy", one.counted ? "counted" : "not counted"), " ", h("span", { class: "soft" }, foreign(one.why ?? "", 200)))))) : h("p", { class: "soft" }, "None has come.")),
      block("Reward", facts([["Reward", number(it.reward?.value)], ["State", foreign(it.reward?.state ?? NONE)], ["Matured", since(it.reward?.matured_at_ms, shared.now())], ["Rule", foreign(it.reward?.rule ?? NONE, 400)]])),
      block("Trained on it", facts([["First", version(it.trained?.first)], ["Latest", version(it.trained?.latest)], ["In all", it.trained ? plural(it.trained.versions ?? 0, "policy").replace("policys", "policies") : NONE], ["Learner", foreign(it.trained?.learner ?? NONE, 400)]]))),
    h("p", { class: "label soft small" }, "The same as a command"), copyable(h("code", {}, `bakehouse explain ${quoted(String(it.decision_id))} --application ${quoted(shared.application)}`)));
}

const version = (value) => (value === null || value === undefined ? NONE : `policy ${value}`);
const list = (values) => (values?.length ? values.map((one, i) => [i ? ", " : "", foreign(one, 60)]) : "none");
const described = (value) => {
  if (value === null || value === undefined) return NONE;
  if (typeof value !== "object") return typeof value === "number" ? number(value) : foreign(value);
  return Object.entries(value).filter(([, one]) => one !== null).map(([name, one], i) => [i ? ", " : "", foreign(name.replaceAll("_", " "), 60), " ", typeof one === "number" ? number(one) : foreign(one)]);
};
const precise = (value) => (typeof value === "number" ? String(value) : NONE);

function scores(rows, chosen) {
  const bar = (share, name) => h("span", { class: "probability" }, place(h("i", { class: name, "aria-hidden": "true" }), { width: `${Math.max(0, Math.min(1, share ?? 0)) * 4.5}rem` }), number(share));
  return table(["Action", "Score", "Policy's own", "Executed"], rows.map((one) => h("tr", { class: String(one.action) === chosen ? "chosen" : null },
    h("th", { scope: "row" }, foreign(one.action), String(one.action) === chosen && h("span", { class: "badge" }, "drawn"), one.eligible === false && h("span", { class: "badge" }, "excluded")),
    h("td", {}, number(one.score)), h("td", {}, bar(one.own, "own")), h("td", {}, bar(one.executed, "executed")))));
}
