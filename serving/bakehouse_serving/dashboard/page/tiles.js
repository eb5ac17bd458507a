// Six figures that say how it goes now; each says on hover and focus what it means.
import { h, newId, place, replace, s, setText } from "./dom.js";
import { alike, count, millis, NONE, number, percent, plural, range, seconds, signed, signedPercent } from "./format.js";
import { levelMark, setLevel } from "./marks.js";

const HISTORY = 60; // seconds of decisions a second that are drawn

export function makeTiles() {
  const tiles = {
    lift: tile("Lift over the baseline", "How much more reward a decision earns with the policy than with the game's own rules, measured on the players that stay on the rules (holdout). The interval holds at every look, however often one looks, and counts players, not decisions alone: one who spends, spends again."),
    decisions: tile("Decisions a second", "Decisions answered and outcomes accepted by this server, and how that went over the last minute."),
    freshness: tile("Freshness", "From an outcome's arrival to the first answer by a policy that has learned from it, over the last minute: the middle (p50) and the slow end (p95), against the target."),
    outcomes: tile("Decisions with an outcome", "Of the decisions whose time is over: how many had an outcome in time, how many only late, and how many never had one."),
    exploration: tile("Exploration", "Share of decisions drawn at random so that there is something to learn from: as configured, and as observed in the log."),
    answers: tile("Answer time p99", "99 of 100 answers take no longer than this inside the server; and the share that the baseline answered because no policy could."),
  };
  const node = h("section", { id: "tiles", class: "tiles", "aria-label": "Figures" }, Object.values(tiles).map((one) => one.node));
  const rates = [];
  return {
    node,
    tick(tick) {
      const its = tick.tiles;
      lift(tiles.lift, its.lift);
      decisions(tiles.decisions, its.decisions, rates);
      freshness(tiles.freshness, its.freshness);
      outcomes(tiles.outcomes, its.outcomes);
      exploration(tiles.exploration, its.exploration);
      answers(tiles.answers, its.answers);
    },
  };
}

function tile(title, meaning) {
  const tip = h("p", { class: "tip", id: newId("tip"), role: "tooltip" }, meaning);
  const value = h("p", { class: "value" }), note = h("p", { class: "note" }), more = h("p", { class: "note" }), drawing = h("div", { class: "drawing" });
  const node = h("article", { class: "tile", tabindex: "0", "aria-describedby": tip.id }, h("h2", {}, title), value, drawing, note, more, tip);
  node.addEventListener("keydown", (event) => { if (event.key === "Escape") node.classList.add("hush"); });
  for (const over of ["blur", "mouseleave"]) node.addEventListener(over, () => node.classList.remove("hush"));
  return { node, value, note, more, drawing };
}

function lift(tile, its) {
  const relative = its.relative, found = relative ?? its.difference;
  const text = relative ? signedPercent : (value) => signed(value, alike([found.lower, found.upper], value));
  setText(tile.value, found ? text(found.mean) : NONE);
  setText(tile.note, found ? `${percent(its.confidence, 0)} CI ${range(found, text)}` : "not enough decisions or players yet");
  const worth = found && its.design_effect >= 1.2 ? ` (${count(Math.round(its.decisions / its.design_effect))} effective)` : "";
  setText(tile.more, `${plural(its.decisions, "decision")}${worth}, holdout ${percent(its.holdout)}`);
  if (found) whisker(tile.drawing, found);
  else tile.drawing.replaceChildren();
}

/** The interval against zero, on an axis that holds both. */
function whisker(drawing, { mean, lower, upper }) {
  const low = Math.min(lower, 0), high = Math.max(upper, 0), span = high - low || 1;
  const x = (value) => 4 + ((value - low) / span) * 192;
  replace(drawing, s("svg", { viewBox: "0 0 200 14", class: "whisker", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("line", { x1: x(0), x2: x(0), y1: 0, y2: 14, class: "zero" }),
    s("line", { x1: x(lower), x2: x(upper), y1: 7, y2: 7, class: "reach" }),
    s("line", { x1: x(mean), x2: x(mean), y1: 2, y2: 12, class: "point" })));
}

function decisions(tile, its, rates) {
  rates.push(its.per_s ?? 0);
  if (rates.length > HISTORY) rates.shift();
  setText(tile.value, number(its.per_s));
  setText(tile.note, `${count(its.total)} in all`);
  setText(tile.more, `${number(its.outcomes_per_s)} outcomes a second, ${count(its.outcomes_total)} in all`);
  const high = Math.max(...rates, 1e-9);
  const points = rates.map((rate, i) => `${200 - (rates.length - 1 - i) * (200 / (HISTORY - 1))},${13 - (rate / high) * 11}`);
  replace(tile.drawing, s("svg", { viewBox: "0 0 200 14", class: "spark", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("polyline", { points: points.join(" ") })));
}

function freshness(tile, its) {
  const within = its.p95_s === null ? null : its.p95_s <= its.target_s;
  replace(tile.value, seconds(its.p50_s), its.p95_s !== null && h("span", { class: "second" }, ` p95 ${seconds(its.p95_s)}`));
  if (!tile.level) {
    tile.level = levelMark("unknown");
    tile.note.append(tile.level, h("span"));
  }
  setLevel(tile.level, within === null ? "unknown" : within ? "ok" : "busy", within === null ? "nothing measured" : within ? "within" : "above");
  setText(tile.note.lastChild, `${within === null ? ";" : ""} target ${seconds(its.target_s)}`);
  setText(tile.more, `${plural(its.n, "outcome")} in the last minute`);
  const high = Math.max(its.target_s * 1.25, its.p95_s ?? 0);
  const x = (value) => ((value ?? 0) / high) * 200;
  replace(tile.drawing, s("svg", { viewBox: "0 0 200 14", class: "gauge", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { x: 0, y: 5, width: 200, height: 4, class: "ground" }), s("rect", { x: 0, y: 5, width: x(its.p95_s), height: 4, class: "slow" }),
    s("rect", { x: 0, y: 3, width: x(its.p50_s), height: 8, class: "middle" }), s("line", { x1: x(its.target_s), x2: x(its.target_s), y1: 0, y2: 14, class: "target" })));
}

function outcomes(tile, its) {
  const total = its.in_time + its.late + its.never;
  setText(tile.value, total ? percent(its.in_time / total) : NONE);
  setText(tile.note, total ? `in time; late ${percent(its.late / total)}` : "none is over yet");
  setText(tile.more, total ? `never ${percent(its.never / total)} of ${count(total)}` : "");
  replace(tile.drawing, total > 0 && h("div", { class: "shares", "aria-hidden": "true" },
    ["in_time", "late", "never"].map((name) => place(h("span", { class: name }), { "flex-grow": String(its[name] / total) }))));
}

function exploration(tile, its) {
  const overridden = its.override !== null && its.override !== undefined;
  const asked = overridden ? its.override : its.configured;
  setText(tile.value, percent(its.observed));
  const kind = String(its.kind).replaceAll("_", " "), known = asked !== null && asked !== undefined;
  // Of numbers, what is configured is a spread, and of scores a temperature: no share.
  const share = overridden || its.kind === "epsilon_greedy";
  setText(tile.note, `observed; ${overridden ? "set by hand" : "configured"} ${!known ? kind : share ? percent(asked) : `${kind} ${number(asked)}`}`);
  setText(tile.more, typeof its.expected !== "number" ? "nothing observed yet" : `expected ${percent(its.expected)}${share ? `, ${kind}` : ""}`);
  if (typeof its.observed !== "number") return tile.drawing.replaceChildren();
  const high = Math.max(its.observed, its.expected ?? 0, 0.02) * 1.25;
  const x = (value) => (value / high) * 200;
  return replace(tile.drawing, s("svg", { viewBox: "0 0 200 14", class: "gauge", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { x: 0, y: 5, width: 200, height: 4, class: "ground" }), s("rect", { x: 0, y: 3, width: x(its.observed), height: 8, class: "middle" }),
    typeof its.expected === "number" && s("line", { x1: x(its.expected), x2: x(its.expected), y1: 0, y2: 14, class: "target" })));
}

function answers(tile, its) {
  setText(tile.value, millis(its.p99_ms));
  if (!tile.level) {
    tile.level = levelMark("unknown");
    tile.note.append(tile.level, h("span"));
  }
  const none = !its.fallbacks;
  setLevel(tile.level, its.fallback_share === null ? "unknown" : none ? "ok" : "busy", none ? "no fallback" : "fallback");
  setText(tile.note.lastChild, none ? "" : ` ${percent(its.fallback_share)}`);
  const middle = its.p50_ms === null ? "" : `p50 ${millis(its.p50_ms)}; `;
  setText(tile.more, `${middle}${none ? "every answer as meant" : `${plural(its.fallbacks, "answer")} without a policy`}`);
}
