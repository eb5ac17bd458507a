// A moment: how long ago, and when exactly for whoever asks. `application.js` keeps it true.
import { h } from "./dom.js";
import { absolute, ago, iso, NONE } from "./format.js";

export const since = (atMs, nowMs) => (iso(atMs)
  ? h("time", { "data-at": atMs, datetime: iso(atMs), title: absolute(atMs) }, ago(atMs, nowMs))
  : h("span", {}, NONE));

export function moveTime(node, atMs) {
  node.dataset.at = atMs;
}
