// Small pictures drawn as SVG: shares, whiskers, histograms.
import { foreign, h, place, s } from "./dom.js";
import { alike, count, number, percent, timeOfDay } from "./format.js";

/** Colours; from the last on, actions share one and are drawn together. */
export const SWATCHES = 8;
const kind = (i) => `s${Math.min(SWATCHES - 1, i)}`;

/** How the decisions of each bucket went to actions, one above the other. */
export function stackedOverTime(labels, named, atMs) {
  const n = atMs.length;
  const counts = labels.map((label) => named[label] ?? []);
  const totals = atMs.map((_, i) => counts.reduce((sum, one) => sum + (one[i] ?? 0), 0));
  const there = atMs.map((_, i) => i).filter((i) => totals[i] > 0);
  if (!there.length) return h("p", { class: "empty" }, "Nothing is counted yet.");
  const first = atMs[there[0]], last = atMs[there.at(-1)];
  const x = (i) => (n < 2 || last === first ? 0 : ((atMs[i] - first) / (last - first)) * 1000);
  const below = there.map(() => 0);
  const areas = [], tags = [];
  labels.forEach((label, k) => {
    const lower = [...below];
    there.forEach((i, j) => { below[j] += (counts[k][i] ?? 0) / totals[i]; });
    const up = there.map((i, j) => `${x(i).toFixed(1)},${(100 - below[j] * 100).toFixed(2)}`);
    const down = there.map((i, j) => `${x(i).toFixed(1)},${(100 - lower[j] * 100).toFixed(2)}`).reverse();
    if (there.length === 1) {
      up.push(`1000,${(100 - below[0] * 100).toFixed(2)}`);
      down.unshift(`1000,${(100 - lower[0] * 100).toFixed(2)}`);
    }
    const share = below.at(-1) - lower.at(-1);
    areas.push(s("polygon", { points: [...up, ...down].join(" "), class: `area ${kind(k)}` }, s("title", {}, `${label}: ${percent(share)} of the newest`)));
    if (share >= 0.09) tags.push(place(h("span", { class: "tag" }, foreign(label, 24), ` ${percent(share, 0)}`), { top: `${100 - (lower.at(-1) + share / 2) * 100}%` }));
  });
  const words = labels.map((label, k) => `${label} ${percent((counts[k][there.at(-1)] ?? 0) / totals[there.at(-1)])}`).join(", ");
  return h("figure", { class: "stack" },
    h("div", { class: "stack-body" }, s("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img", "aria-label": `Share of actions over time; newest: ${words}` }, areas), h("div", { class: "tags", "aria-hidden": "true" }, tags)),
    h("figcaption", { class: "axis soft" }, h("span", {}, timeOfDay(first)), h("span", {}, timeOfDay(last))));
}

/** The same by groups of policy versions, the newest first. */
export function versionBars(labels, groups) {
  if (!groups.length) return h("p", { class: "empty" }, "No version has matured decisions yet.");
  return h("ol", { class: "versions" }, [...groups].sort((a, b) => b.from - a.from).map((group) => h("li", {},
    h("span", { class: "nowrap" }, versions(group)),
    h("span", { class: "bar-row" }, labels.map((label, k) => {
      const share = group.shares?.[label] ?? 0;
      return share > 0 && place(h("span", { class: `piece ${kind(k)}`, title: `${label}: ${percent(share)}` }, share > 0.2 ? [foreign(label, 14), ` ${percent(share, 0)}`] : ""), { "flex-grow": String(share) });
    })),
    h("span", { class: "soft number" }, count(group.n)))));
}

/** Shares that stand alone, a bar each, by groups of policy versions, the newest first. */
export function placesByVersion(groups) {
  const names = [...new Set(groups.flatMap((group) => Object.keys(group.shares ?? {})))];
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Places by version" }, h("table", { class: "places" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Policy"), names.map((name) => h("th", { scope: "col" }, foreign(name.replace(/ as the baseline$/, ""), 40))), h("th", { scope: "col", class: "number optional" }, "Decisions"))),
    h("tbody", {}, [...groups].sort((a, b) => b.from - a.from).map((group) => h("tr", {}, h("th", { scope: "row", class: "nowrap" }, versions(group)),
      names.map((name) => h("td", {}, h("span", { class: "probability" }, place(h("i", { class: "executed", "aria-hidden": "true" }), { width: `${(group.shares?.[name] ?? 0) * 5}rem` }), percent(group.shares?.[name])))),
      h("td", { class: "number optional" }, count(group.n)))))));
}

const versions = ({ from, to }) => (from === to ? `v${from}` : `v${from}–${to}`);

/** Weighted mean with its interval (filled), raw mean (hollow). */
export function whiskers({ mean, raw_mean: raw, lower, upper, action }, [low, high]) {
  const x = (value) => 6 + ((Math.min(high, Math.max(low, value)) - low) / (high - low)) * 188;
  const has = (value) => value !== null && value !== undefined;
  const all = [low, high, mean];
  return s("svg", { viewBox: "0 0 200 18", class: "board-whisker", role: "img", "aria-label": has(lower) ? `${action}: ${alike(all, lower)} to ${alike(all, upper)}` : `${action}: no interval yet` },
    low < 0 && high > 0 && s("line", { x1: x(0), x2: x(0), y1: 0, y2: 18, class: "zero" }),
    has(lower) && has(upper) && s("path", { d: `M${x(lower)} 5v8M${x(lower)} 9H${x(upper)}M${x(upper)} 5v8`, class: "reach" }),
    has(raw) && s("path", { d: `M${x(raw)} 4.5l4.5 4.5-4.5 4.5-4.5-4.5z`, class: "raw-mark" }, s("title", {}, `raw mean ${alike(all, raw)}`)),
    has(mean) && s("circle", { cx: x(mean), cy: 9, r: 3.6, class: "mean-mark" }, s("title", {}, `weighted mean ${alike(all, mean)}`)));
}

/** Where numbers fall: bars for the policy, an outline for the game's rules, each as a share. */
export function histogram({ low, high, policy, holdout }) {
  const share = (counts) => {
    const total = counts.reduce((sum, one) => sum + one, 0) || 1;
    return counts.map((one) => one / total);
  };
  const [bars, outline] = [share(policy), share(holdout)];
  const top = Math.max(...bars, ...outline, 1e-9), width = 640 / bars.length;
  const y = (value) => 118 - (value / top) * 110;
  const step = (high - low) / bars.length;
  const steps = outline.map((value, i) => `${i === 0 ? "M" : "L"}${(i * width).toFixed(1)} ${y(value).toFixed(1)}H${((i + 1) * width).toFixed(1)}`).join("");
  return h("figure", { class: "histogram" },
    s("svg", { viewBox: "0 0 640 120", preserveAspectRatio: "none", role: "img", "aria-label": `Distribution from ${number(low)} to ${number(high)}` },
      bars.map((value, i) => s("rect", { x: (i * width + 1).toFixed(1), width: (width - 2).toFixed(1), y: y(value).toFixed(1), height: (118 - y(value)).toFixed(1), class: "bar-policy" },
        s("title", {}, `${number(low + i * step)} to ${number(low + (i + 1) * step)}: policy ${percent(value)}, rules ${percent(outline[i])}`))),
      s("path", { d: steps, class: "outline-holdout" }), s("line", { x1: 0, x2: 640, y1: 118.5, y2: 118.5, class: "zero" })),
    h("figcaption", { class: "axis soft" }, [0, 0.25, 0.5, 0.75, 1].map((share_) => h("span", {}, number(low + share_ * (high - low))))));
}
