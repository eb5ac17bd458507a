// Is the policy better than the rules, and since when? Means with bands, swaps, candidates.
import uPlot from "./vendor/uplot/uPlot.esm.js";
import { colour } from "./colours.js";
import { h, replace, s, section, setData, setText, whenNew } from "./dom.js";
import { alike, NONE, number, plural, range, signed, timeOfDay } from "./format.js";
import { since } from "./time.js";

const SERIES = [
  { name: "policy", title: "Policy", dash: [], words: "what learned policies earned" },
  { name: "holdout", title: "Holdout", dash: [8, 4], words: "what the game's own rules earned" },
  { name: "random", title: "Random, by evaluation", dash: [2, 4], words: "what uniform choice would have earned, estimated from the log" },
];
const MANY_SWAPS = 30; // more lines than this are drawn thin
const CROWDED_PX = 4; // nearer to each other than this, they are drawn faint
const LEAST_SPAN_S = 30;
const HEIGHT = 280;
const FEW = 0.35; // of the usual number of decisions: a bucket with fewer is not drawn, as the one that still fills
const NARROW = 620;

export function makeRewards(shared) {
  const holder = h("div", { class: "chart" });
  const caption = h("figcaption", { class: "soft" });
  const legend = h("div", { class: "legend", role: "group", "aria-label": "Lines shown" });
  const empty = h("p", { class: "empty" }, "Lines begin once the first decisions have matured: their reward window has to pass.");
  const figure = h("figure", { hidden: true }, legend, holder, caption);
  const node = section("rewards", "Reward over time", "Mean reward of a decision, with bands that hold at every look. A vertical line is a swap. Candidates stand in the row below: hollow where the gate refused them.", empty, figure);
  const state = { plot: null, swaps: [], candidates: [], shown: { policy: true, holdout: true, random: true } };
  const readings = makeLegend(legend, state);

  const draw = () => {
    const series = shared.insight?.series;
    if (!series?.at_ms?.length) return;
    empty.hidden = true;
    figure.hidden = false;
    const data = columns(series);
    if (state.plot === null) state.plot = makePlot(holder, data, state, (at) => read(readings, data0(state), at));
    else state.plot.setData(data);
    read(readings, data, null);
    holder.setAttribute("aria-label", summary(data));
  };
  const swapped = whenNew((swaps) => {
    state.swaps = swaps;
    if (state.plot) state.plot.setData(state.plot.data);
    const last = swaps.at(-1);
    setData(node, "swaps", swaps.length);
    if (last) setData(node, "to", last.to);
    replace(caption, last ? [`${plural(swaps.length, "swap")} shown. The last: policy ${last.from} → ${last.to}, `, since(last.at_ms, shared.now()), last.why ? ": " : ".", last.why ? h("bdi", {}, String(last.why)) : null]
      : "No policy has been swapped in since this server started.");
  });
  addEventListener("theme", () => state.plot?.redraw(false));
  return {
    node,
    tick(tick) { swapped(newestFirst(tick.swaps).reverse()); },
    insight(insight) {
      state.candidates = insight.candidates ?? [];
      draw();
    },
  };
}

const newestFirst = (swaps) => [...(swaps ?? [])].sort((a, b) => b.at_ms - a.at_ms);
const data0 = (state) => state.plot?.data;

function columns(series) {
  const data = [series.at_ms.map((at) => at / 1000)];
  for (const { name } of SERIES) {
    const its = series[name] ?? {};
    const few = FEW * middle(its.n ?? []);
    for (const part of ["mean", "upper", "lower"]) data.push(data[0].map((_, i) => ((its.n?.[i] ?? 0) < few ? null : its[part]?.[i] ?? null)));
  }
  return data;
}

function middle(counts) {
  const there = counts.filter((n) => n > 0).sort((a, b) => a - b);
  return there[there.length >> 1] ?? 0;
}

function makePlot(holder, data, state, onCursor) {
  holder.setAttribute("role", "img");
  const series = [{}], bands = [];
  SERIES.forEach(({ name, dash }, i) => {
    const width = name === "random" ? 1.5 : 2;
    series.push({ stroke: () => colour(name), width, dash, points: { show: data[0].length < 3 }, spanGaps: true });
    for (const edge of [2, 3]) series.push({ stroke: () => colour(name, 0.28), width: edge === 2 ? 0.5 : 0.5, points: { show: false }, spanGaps: true });
    bands.push({ series: [3 * i + 2, 3 * i + 3], fill: () => colour(name, name === "random" ? 0.07 : 0.13) });
  });
  const axis = {
    stroke: () => colour("soft"), font: '11.5px "Inter", system-ui, sans-serif',
    grid: { stroke: () => colour("line"), width: 1 }, ticks: { show: false },
  };
  const plot = new uPlot({
    width: Math.max(200, holder.clientWidth || 800), height: holder.clientWidth < NARROW ? 220 : HEIGHT, series, bands,
    padding: [22, 28, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
    scales: { x: { time: true, range: (u) => across(u.data[0], state) }, y: { range: (u) => heights(u, state) } },
    axes: [{ ...axis, values: (_, at) => at.map((one) => timeOfDay(one * 1000)), space: 110, size: 30 }, { ...axis, size: 52, values: (_, at) => at.map((one) => alike(at, one)) }],
    hooks: { draw: [(u) => overlay(u, state)], setCursor: [(u) => onCursor(u.cursor.idx)] },
  }, data, holder);
  const resized = new ResizeObserver(() => {
    const width = holder.clientWidth;
    if (width && width !== plot.width) plot.setSize({ width, height: width < NARROW ? 220 : HEIGHT });
  });
  resized.observe(holder);
  return plot;
}

/** From the first bucket to the newest of buckets and swaps. */
function across(at, state) {
  const first = at[0], last = Math.max(at.at(-1), ...state.swaps.map((one) => one.at_ms / 1000));
  return [first, Math.max(last, first + LEAST_SPAN_S)];
}

/** What means reach, and bands as far as they are not the wild ones of the first few decisions. */
function heights(u, state) {
  const means = [], edges = [];
  SERIES.forEach(({ name }, i) => {
    if (!state.shown[name]) return;
    for (const value of u.data[3 * i + 1]) if (value !== null) means.push(value);
    for (const j of [2, 3]) for (const value of u.data[3 * i + j]) if (value !== null) edges.push(value);
  });
  if (!means.length) return [0, 1];
  edges.sort((a, b) => a - b);
  const at = (share) => edges[Math.round(share * (edges.length - 1))] ?? means[0];
  const low = Math.min(...means, at(0.08)), high = Math.max(...means, at(0.92));
  const margin = (high - low || Math.abs(high) || 1) * 0.08;
  return [low - margin, high + margin];
}

/** Swaps and candidates, as shapes over the lines: each says on hover what it is. */
function overlay(u, state) {
  u.over.querySelector("svg")?.remove();
  const width = u.over.clientWidth, height = u.over.clientHeight;
  const svg = s("svg", { class: "over", viewBox: `0 0 ${width} ${height}`, width, height });
  const [first, last] = [u.scales.x.min, u.scales.x.max];
  const visible = state.swaps.filter((one) => one.at_ms / 1000 >= first && one.at_ms / 1000 <= last);
  let labelled = -Infinity;
  const span = visible.length > 1 ? ((visible.at(-1).at_ms - visible[0].at_ms) / 1000 / (last - first)) * width : width;
  const look = span / visible.length < CROWDED_PX ? "swap faint" : visible.length > MANY_SWAPS ? "swap thin" : "swap";
  for (const swap of visible) {
    const x = u.valToPos(swap.at_ms / 1000, "x");
    const line = s("line", { x1: x, x2: x, y1: 0, y2: height, class: look, "data-to": swap.to });
    const words = `policy ${swap.from} → ${swap.to} at ${timeOfDay(swap.at_ms)}${swap.killed ? ", killed" : ""}${swap.why ? `: ${swap.why}` : ""}`;
    svg.append(s("g", {}, s("title", {}, words), s("line", { x1: x, x2: x, y1: 0, y2: height, class: "catch" }), line));
    if (x - labelled > 40) {
      const end = x > width - 34;
      svg.append(s("text", { x: x + (end ? 2 : -2), y: -5, class: "swap-name", "text-anchor": end ? "end" : null }, swap.killed ? "killed" : swap.from === swap.to ? "revived" : `v${swap.to}`));
      labelled = x;
    }
  }
  // Candidates are judged by a difference, which has no place on this scale: they stand in a row.
  const row = height - 9;
  if (state.candidates.length) svg.append(s("rect", { x: 0, y: height - 18, width, height: 18, class: "lane" }));
  for (const one of state.candidates) {
    if (one.at_ms / 1000 < first || one.at_ms / 1000 > last) continue;
    const found = typeof one.mean === "number" ? `, ${signed(one.mean, number(one.mean))} a decision in evaluation` : "";
    const words = `candidate ${one.version} at ${timeOfDay(one.at_ms)}, ${one.published ? "published" : `refused: ${one.reason}`}${found}`;
    svg.append(s("circle", { cx: u.valToPos(one.at_ms / 1000, "x"), cy: row, r: one.published ? 3 : 4, class: one.published ? "candidate" : "candidate hollow" }, s("title", {}, words)));
  }
  u.over.append(svg);
}

function makeLegend(legend, state) {
  const readings = {};
  SERIES.forEach(({ name, title, dash, words }, i) => {
    const value = h("span", { class: "reading" });
    const sample = s("svg", { viewBox: "0 0 26 10", width: 26, height: 10, "aria-hidden": "true" },
      s("line", { x1: 1, x2: 25, y1: 5, y2: 5, class: `line-${name}`, "stroke-dasharray": dash.join(" ") || null }));
    const button = h("button", { type: "button", "aria-pressed": "true", title: words, onclick: () => {
      state.shown[name] = !state.shown[name];
      button.setAttribute("aria-pressed", String(state.shown[name]));
      for (const j of [1, 2, 3]) state.plot?.setSeries(3 * i + j, { show: state.shown[name] });
    } }, sample, title, value);
    readings[name] = value;
    legend.append(button);
  });
  legend.append(h("span", { class: "key soft" }, s("svg", { viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" }, s("circle", { cx: 6, cy: 6, r: 3.6, class: "candidate hollow" })), "refused"), h("span", { class: "key soft" }, s("svg", { viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" }, s("circle", { cx: 6, cy: 6, r: 3, class: "candidate" })), "published"),
    h("span", { class: "key soft" }, s("svg", { viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" }, s("line", { x1: 6, x2: 6, y1: 0, y2: 12, class: "swap" })), "swap"));
  return readings;
}

/** Values under the cursor, or the newest. */
function read(readings, data, at) {
  if (!data) return;
  SERIES.forEach(({ name }, i) => {
    const [mean, upper, lower] = [1, 2, 3].map((j) => data[3 * i + j]);
    const index = at ?? mean.findLastIndex((value) => value !== null);
    const value = mean[index] ?? null;
    const bounds = { lower: lower[index] ?? null, upper: upper[index] ?? null };
    const text = (one) => alike([value ?? 0, bounds.lower, bounds.upper], one);
    setText(readings[name], value === null ? NONE : bounds.lower === null ? text(value) : `${text(value)} (${range(bounds, text)})`);
  });
}

function summary(data) {
  const words = SERIES.map(({ title }, i) => {
    const value = data[3 * i + 1].findLast((one) => one !== null);
    return value === undefined ? null : `${title} ${alike([value], value)}`;
  }).filter(Boolean);
  return `Mean reward over time; newest: ${words.join(", ")}`;
}
