// May the figures be believed? Checks of chance, record, drift and rules.
import { foreign, h, place, replace, section, setText, whenNew } from "./dom.js";
import { count, fixed, NONE, number, percent, plural } from "./format.js";
import { levelMark, setLevel } from "./marks.js";

export function makeTrust() {
  const cards = {
    ratio: card("Sample ratio of the holdout", "As many players should be on the rules as were meant to be. If not, something picks them, and the lift is not to be believed."),
    audit: card("Propensity audit", "Sampled decisions are computed again from the recorded policy: the probability must be the one that was recorded."),
    excluded: card("Excluded actions", "Decisions whose action the game had ruled out. There must be none."),
    match: card("Match with the rules", "How often the newest candidate answers as the game's own rules do: what an apprentice is judged by."),
    drift: card("Drift of features", "How far each feature has moved from the reference (population stability index: below 0.1 stable, above 0.25 shifted)."),
  };
  cards.drift.node.classList.add("drift");
  const node = section("trust", "Trust", null, h("div", { class: "trust" }, Object.values(cards).map((one) => one.node)));
  const draw = whenNew((its) => {
    ratio(cards.ratio, its.sample_ratio);
    audit(cards.audit, its.audit);
    excluded(cards.excluded, its.excluded);
    match(cards.match, its.match_rate);
    drift(cards.drift, its.drift ?? [], its.drift_reference);
  });
  return { node, insight(insight) { draw(insight.trust ?? {}); } };
}

function card(title, meaning) {
  const level = levelMark("unknown", "no data yet"), value = h("p", { class: "value" }, NONE), body = h("div", { class: "small" });
  const node = h("article", { class: "trust-card" }, h("div", { class: "panel-head" }, h("h3", {}, title), level), value, body, h("p", { class: "aside" }, meaning));
  return {
    node, value, body,
    say(name, word, text, ...rest) {
      setLevel(level, name, word);
      setText(value, text);
      value.hidden = !text;
      replace(body, rest);
    },
  };
}

function ratio(to, its) {
  if (!its || its.observed === null || its.observed === undefined) return to.say("unknown", "no data yet", NONE);
  return to.say(its.ok === null ? "unknown" : its.ok ? "ok" : "blocked", its.ok === null ? "not judged" : its.ok ? "as meant" : "mismatch", percent(its.observed, 2),
    h("p", {}, `expected ${percent(its.expected)} of ${plural(its.subjects, "player")}; p = ${number(its.p_value)}`));
}

function audit(to, its) {
  if (!its?.checked) return to.say("unknown", "no data yet", NONE, its?.unavailable > 0 && h("p", {}, `${count(its.unavailable)} could not be recomputed`));
  const bad = its.different > 0, last = its.last_problem;
  return to.say(bad ? "blocked" : "ok", bad ? "differs" : "agrees", `${count(its.equal)} of ${count(its.checked)}`,
    h("p", {}, bad ? `${count(its.different)} differ${its.different === 1 ? "s" : ""}, by ${percent(its.worst)} at most` : `equal, to within ${its.worst ? number(its.worst) : 0}`, its.unavailable > 0 && `; ${count(its.unavailable)} could not be recomputed`),
    last && h("p", {}, "Last: ", h("code", {}, foreign(last.decision_id)), ` recorded ${number(last.recorded)}, recomputed ${number(last.recomputed)}`));
}

function excluded(to, its) {
  if (!its?.checked) return to.say("unknown", "no data yet", NONE);
  return to.say(its.violations ? "blocked" : "ok", its.violations ? "violated" : "none", count(its.violations), h("p", {}, `violations in ${plural(its.checked, "decision")}`));
}

function match(to, share) {
  if (share === null || share === undefined) return to.say("unknown", "not known yet", NONE);
  return to.say("ok", "counted", percent(share), h("p", {}, "of decisions would be the rules' own"));
}

const LEVELS = { stable: "ok", moved: "busy", shifted: "blocked" };

function drift(to, features, reference) {
  if (!features.length) return to.say("unknown", "no data yet", "");
  const rank = ["stable", "moved", "shifted"];
  const worst = features.reduce((most, one) => Math.max(most, rank.indexOf(one.level)), 0);
  const rows = [...features].sort((a, b) => (b.psi ?? -1) - (a.psi ?? -1)).map((one) => h("tr", {}, h("th", { scope: "row" }, foreign(one.feature, 60)),
    h("td", { class: "number" }, fixed(one.psi, 3)), h("td", { class: "drift-bar" }, h("span", { "aria-hidden": "true" }, place(h("i", { "data-level": LEVELS[one.level] ?? "unknown" }), { width: `${Math.min(100, ((one.psi ?? 0) / 0.5) * 100)}%` }))),
    h("td", {}, levelMark(LEVELS[one.level] ?? "unknown", one.level ?? "unknown"))));
  return to.say(LEVELS[rank[worst]], rank[worst], "", h("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Drift of each feature" }, h("table", {},
    h("thead", { class: "unseen-head" }, h("tr", {}, ["Feature", "Index", "", "Level"].map((word) => h("th", { scope: "col", class: word === "Index" ? "number" : null }, word)))), h("tbody", {}, rows))), reference && h("p", { class: "soft" }, "Reference: ", foreign(reference)));
}
