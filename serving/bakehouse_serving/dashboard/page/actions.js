// What is being done, and what is it worth? One panel for each kind of actions.
import { foreign, h, keyed, replace, section, setText, whenNew } from "./dom.js";
import { alike, count, number, percent, plural } from "./format.js";
import { histogram, placesByVersion, stackedOverTime, SWATCHES, versionBars, whiskers } from "./shapes.js";

const MISLEAD = "Raw means mislead: a policy gives each action to the players it suits, so the groups differ. The weighted mean (inverse propensity) says what each action would earn if everybody got it.";
const SAMPLE = "Effective sample: what the weighted decisions are worth in evenly drawn ones.";
const OTHERS = "(others)"; // as the learner calls those that it counts together
const KINDS = {
  discrete: "One of several labels.", continuous: "Numbers in a range.", parts: "Several choices made at once.", ranking: "An ordered list out of what was offered.",
};

export function makeActions() {
  const body = h("div", { class: "panels" });
  const empty = h("p", { class: "empty" }, "Actions are counted once their decisions have matured.");
  const node = section("actions", "Actions", null, empty, body);
  const panels = new Map();
  const panel = (key, make) => {
    if (!panels.has(key)) {
      panels.set(key, make());
      body.append(panels.get(key).node);
    }
    return panels.get(key);
  };
  return {
    node,
    tick(tick) { if (node.dataset.kind !== tick.actions_kind) node.dataset.kind = tick.actions_kind; },
    insight(insight) {
      const its = insight.actions ?? {}, series = insight.series ?? {}, versions = its.by_version ?? [];
      if (its.kind === "ranking") {
        if (versions.length) panel("places", placesPanel).draw(versions);
      }
      const share = (one) => series.at_ms?.length && panel(`share ${one.title}`, () => sharePanel(one.title)).draw(one.labels, one.of(series.actions), series.at_ms, versions.map((group) => ({ ...group, shares: one.of(group.shares) })));
      if (its.leaderboard?.length) {
        const labels = order(its.leaderboard, series.actions);
        share({ title: "", labels, of: (named) => named ?? {} });
        panel("board", () => boardPanel("")).draw(its.leaderboard, labels);
      }
      for (const one of its.numbers ?? []) panel(`number ${one.name}`, () => numberPanel(one.name)).draw(one);
      for (const one of its.parts ?? []) {
        if (one.leaderboard) {
          // counted as `part=label` beside the labels of other parts
          const of = (named) => stripped(`${one.name}=`, named), labels = order(one.leaderboard, of(series.actions));
          share({ title: one.name, labels, of });
          panel(`part ${one.name}`, () => boardPanel(one.name)).draw(one.leaderboard, labels);
        } else panel(`number ${one.name}`, () => numberPanel(one.name)).draw(one);
      }
      empty.hidden = panels.size > 0;
      if (!panels.size) setText(empty, `${KINDS[its.kind] ?? ""} Nothing is counted yet.`);
    },
  };
}

/** Labels in the order in which they are coloured: as the application names them; of many, the most chosen first. */
function order(rows, counts = {}) {
  const labels = [...new Set([...Object.keys(counts), ...rows.map((row) => String(row.action))])];
  if (labels.length <= SWATCHES) return labels;
  const chosen = new Map(rows.map((row) => [String(row.action), row.n ?? 0]));
  return labels.sort((a, b) => (chosen.get(b) ?? 0) - (chosen.get(a) ?? 0));
}

/** The same counts, with labels that have no colour of their own taken together. */
function gathered(labels, named) {
  const rest = labels.slice(SWATCHES - 1).map((label) => named?.[label]).filter((one) => one !== undefined);
  const sum = Array.isArray(rest[0]) ? rest[0].map((_, i) => rest.reduce((all, one) => all + (one[i] ?? 0), 0)) : rest.reduce((all, one) => all + one, 0);
  return { ...named, [OTHERS]: sum };
}

const stripped = (prefix, counts = {}) => Object.fromEntries(Object.entries(counts).filter(([name]) => name.startsWith(prefix)).map(([name, value]) => [name.slice(prefix.length), value]));

function sharePanel(title) {
  const picture = h("div", { class: "share-picture" });
  const choose = ["over time", "by version"].map((word, i) => h("button", { type: "button", "aria-pressed": String(i === 0), onclick: () => {
    for (const other of choose) other.setAttribute("aria-pressed", String(other === choose[i]));
    shown = i;
    redraw();
  } }, word));
  const node = h("div", { class: "panel share" }, h("div", { class: "panel-head" }, h("h3", {}, "Share of decisions", title && [": ", foreign(title)]), h("div", { class: "switch", role: "group", "aria-label": "Shares" }, choose)), picture);
  let shown = 0, last = null;
  const redraw = whenNewOr(() => {
    if (!last) return;
    let [labels, counts, atMs, versions] = last;
    if (labels.length > SWATCHES) {
      counts = gathered(labels, counts);
      versions = versions.map((group) => ({ ...group, shares: gathered(labels, group.shares) }));
      labels = [...labels.slice(0, SWATCHES - 1), OTHERS];
    }
    replace(picture, shown === 0 ? stackedOverTime(labels, counts, atMs) : versionBars(labels, versions));
  });
  return { node, draw(...values) { last = values; redraw(values); } };
}

function whenNewOr(draw) {
  const quiet = whenNew(draw);
  return (values) => (values === undefined ? draw() : quiet(values));
}

const swatch = (label, labels) => h("span", { class: `swatch s${Math.min(SWATCHES - 1, Math.max(0, labels.indexOf(String(label))))}`, "aria-hidden": "true" });

function placesPanel() {
  const picture = h("div");
  const node = h("div", { class: "panel all" }, h("div", { class: "panel-head" }, h("h3", {}, "How often each place is filled as the game's own rules would fill it")), picture,
    h("p", { class: "aside" }, "Items come and go with each request, so none has a worth of its own; what can be told is how far the order has moved from the rules', version by version."));
  return { node, draw: whenNew((versions) => replace(picture, placesByVersion(versions))) };
}

function boardPanel(title) {
  const body = h("tbody"), ends = h("span", { class: "ends" });
  const heads = [["Action", ""], ["Decisions", "number optional"], ["Share", "number"], ["Raw mean", "number raw optional"], ["Weighted mean", "number"], ["95% interval", ""], ["Worth", "number optional"]];
  const table = h("table", { class: "board" }, h("thead", {}, h("tr", {}, heads.map(([word, cls]) => h("th", { scope: "col", class: cls },
    word === "95% interval" ? [word, " ", ends] : word === "Worth" ? "Eff. sample" : word)))), body);
  const node = h("div", { class: "panel wide" }, h("div", { class: "panel-head" }, h("h3", {}, "What each is worth", title && [": ", foreign(title)]),
), h("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Leaderboard" }, table),
    h("p", { class: "aside" }, MISLEAD, h("span", { class: "optional" }, ` ${SAMPLE}`)));
  return {
    node,
    draw(rows, labels) {
      const sorted = [...rows].sort((a, b) => (b.mean ?? -Infinity) - (a.mean ?? -Infinity));
      const scale = scaleOf(sorted), means = sorted.flatMap((row) => [row.mean, row.raw_mean]);
      setText(ends, sorted.length ? `${alike(scale, scale[0])} … ${alike(scale, scale[1])}` : "");
      keyed(body, sorted.map((row) => ({ ...row, scale, means, labels })), (row) => String(row.action), () => h("tr"), (tr, row) => replace(tr,
        h("th", { scope: "row" }, swatch(row.action, labels), foreign(row.action)), h("td", { class: "number optional" }, count(row.n)), h("td", { class: "number" }, percent(row.share)),
        h("td", { class: "number raw optional" }, alike(means, row.raw_mean)), h("td", { class: "number strong" }, alike(means, row.mean)),
        h("td", { class: "reach-cell" }, whiskers(row, scale)), h("td", { class: "number optional soft" }, count(row.effective_sample))));
    },
  };
}

function scaleOf(rows) {
  const means = rows.flatMap((row) => [row.mean, row.raw_mean]).filter((one) => one !== null && one !== undefined);
  const edges = rows.flatMap((row) => [row.lower, row.upper]).filter((one) => one !== null && one !== undefined);
  const low = Math.min(...means, ...edges), high = Math.max(...means, ...edges);
  return Number.isFinite(low) ? [low, high > low ? high : low + 1] : [0, 1];
}

function numberPanel(name) {
  const picture = h("div");
  const node = h("div", { class: "panel" }, h("div", { class: "panel-head" }, h("h3", {}, foreign(name || "number"))), picture);
  const total = (counts) => counts.reduce((sum, one) => sum + one, 0);
  return {
    node,
    draw: whenNew((one) => replace(picture, histogram(one), h("p", { class: "aside" },
      `Bars: ${plural(total(one.policy), "decision")} by policy. Outline: ${count(total(one.holdout))} by the game's rules. From ${number(one.low)} to ${number(one.high)}.`))),
  };
}
