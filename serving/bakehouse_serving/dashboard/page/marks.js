// Symbols: each level and state has a shape of its own, so colour is never alone.
import { h, s, setText, setData } from "./dom.js";

const line = (d) => s("path", { d, fill: "none", stroke: "currentColor", "stroke-width": "1.8", "stroke-linecap": "round", "stroke-linejoin": "round" });
const solid = (d) => s("path", { d, fill: "currentColor" });
const ring = (dashed) => s("circle", { cx: 8, cy: 8, r: 6, fill: "none", stroke: "currentColor", "stroke-width": "1.8", "stroke-dasharray": dashed ? "2.6 2.1" : null });

const SHAPES = {
  ok: () => [ring(), line("M5.2 8.2 7.2 10.2 10.9 6")],
  busy: () => [line("M8 2.2 14.3 13.5H1.7z"), line("M8 6.5v3M8 11.6v.1")],
  blocked: () => [solid("M5.2 1.5h5.6l3.7 3.7v5.6l-3.7 3.7H5.2l-3.7-3.7V5.2z"), cross()],
  unknown: () => [ring(true), line("M8 10.9v.1M6.5 6.6C6.7 5.2 9.5 5.2 9.5 6.9 9.5 8 8 8 8 9")],
  winning: () => [line("M2 12 6.2 7.6 9 10.2 14 4M10.5 4H14v3.5")],
  hurting: () => [line("M2 4 6.2 8.4 9 5.8 14 12M10.5 12H14V8.5")],
  no_difference: () => [line("M2.5 6c2-2 3.7-2 5.5 0s3.5 2 5.5 0M2.5 11c2-2 3.7-2 5.5 0s3.5 2 5.5 0")],
  not_enough_data: () => [line("M4.5 2h7M4.5 14h7M5 2c0 4 6 8 6 12M11 2c0 4-6 8-6 12")],
  learning: () => [line("M2 13.5V9M6 13.5V6.5M10 13.5V8M14 13.5V3")],
  frozen: () => [line("M5.5 3v10M10.5 3v10")],
  killed: () => [ring(), solid("M5.5 5.5h5v5h-5z")],
  simulated: () => [ring(true), line("M8 5v3.5l2 1.5")],
  live: () => [s("circle", { cx: 8, cy: 8, r: 4.5, fill: "currentColor" })],
  paused: () => [line("M5.5 3.5v9M10.5 3.5v9")],
  reconnecting: () => [line("M13.5 8A5.5 5.5 0 1 1 11 3.4M11 .9v2.8H8.2")],
  locked: () => [line("M3.5 7.5h9v6h-9zM5.5 7.5V5a2.5 2.5 0 0 1 5 0v2.5")],
  arrow: () => [line("M2 8h11M9.5 4.5 13 8l-3.5 3.5")],
  chevron: () => [line("M6 3.5 10.5 8 6 12.5")],
};
function cross() {
  return s("path", { d: "M5.7 5.7 10.3 10.3M10.3 5.7 5.7 10.3", class: "cross", "stroke-width": "1.8", "stroke-linecap": "round" });
}

export const mark = (name) => s("svg", { class: "mark", viewBox: "0 0 16 16", "aria-hidden": "true", "data-mark": name }, (SHAPES[name] ?? SHAPES.unknown)());

export const LEVEL_WORDS = { ok: "ok", busy: "busy", blocked: "blocked", unknown: "unknown" };
export const STATE_WORDS = {
  learning: "Learning", not_enough_data: "Not enough data", winning: "Winning", no_difference: "No difference",
  hurting: "Hurting", blocked: "Blocked", frozen: "Frozen", killed: "Killed",
};

/** Symbol and word of a level, that can change. */
export function levelMark(level, word) {
  const node = h("span", { class: "level" }, mark(level), h("span"));
  setLevel(node, level, word);
  return node;
}

export function setLevel(node, level, word) {
  const known = level in LEVEL_WORDS ? level : "unknown";
  if (node.dataset.level !== known) node.firstChild.replaceWith(mark(known));
  setData(node, "level", known);
  setText(node.lastChild, word ?? LEVEL_WORDS[known]);
}

export function stateChip(state) {
  const node = h("span", { class: "chip" }, mark(state), h("span"));
  setState(node, state);
  return node;
}

export function setState(node, state) {
  const known = state in STATE_WORDS ? state : "unknown";
  if (node.dataset.state !== known) node.firstChild.replaceWith(mark(known));
  setData(node, "state", known);
  setText(node.lastChild, STATE_WORDS[known] ?? "Unknown");
}

export const simulatedChip = (text = "Simulated players") => h("span", { class: "chip simulated" }, mark("simulated"), h("span", {}, text));
