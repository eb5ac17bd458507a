// One application from top to bottom: which sections there are, and what each is told when.
import { makeActions } from "./actions.js";
import { makeControls } from "./controls.js";
import { replace } from "./dom.js";
import { absolute, ago, iso } from "./format.js";
import { makeInspector } from "./inspector.js";
import { makePipe } from "./pipe.js";
import { makePolicies } from "./policies.js";
import { makeRewards } from "./rewards.js";
import { makeTiles } from "./tiles.js";
import { makeTrust } from "./trust.js";
import { makeVerdict } from "./verdict.js";

const SECTIONS = [
  ["verdict", "Verdict"], ["rewards", "Reward"], ["actions", "Actions"], ["policies", "Policies"], ["pipe", "Pipe"],
  ["trust", "Trust"], ["inspector", "Inspector"], ["control", "Control"],
];

/** What sections share: the newest tick and insight, and the server's clock. */
class Shared {
  tick = null;
  insight = null;
  #ahead = 0; // ms that the server's clock is ahead of the browser's

  constructor(application) {
    this.application = application;
  }

  heard(tick) {
    this.tick = tick;
    this.#ahead = tick.at_ms - Date.now();
  }

  now() {
    return Date.now() + this.#ahead;
  }
}

export function openApplication(main, application) {
  const shared = new Shared(application);
  const controls = makeControls(shared);
  const parts = [
    makeVerdict(shared, controls), makeTiles(shared), makeRewards(shared), makeActions(shared),
    makePolicies(shared, controls), makePipe(shared), makeTrust(shared), makeInspector(shared), controls,
  ];
  replace(main, parts.map((part) => part.node));

  function age() {
    for (const node of main.querySelectorAll("time[data-at]")) ageOne(node, shared.now());
  }

  return {
    sections: SECTIONS,
    age,
    on(name, data) {
      if (name === "tick") shared.heard(data);
      else if (name === "insight") shared.insight = data?.insight ?? data;
      else return;
      for (const part of parts) (name === "tick" ? part.tick : part.insight)?.(name === "tick" ? data : shared.insight);
      age();
    },
    show(part, rest) {
      if (part === "decision") return parts[7].explain(rest);
      const found = SECTIONS.some(([id]) => id === part) && document.getElementById(part);
      if (found) {
        found.scrollIntoView();
        found.focus({ preventScroll: true });
      }
    },
  };
}

function ageOne(node, now) {
  const atMs = Number(node.dataset.at);
  const text = ago(atMs, now);
  if (node.textContent === text) return;
  node.textContent = text;
  node.title = absolute(atMs);
  if (iso(atMs)) node.dateTime = iso(atMs);
}
