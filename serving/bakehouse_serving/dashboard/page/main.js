// Which application is looked at, by the address; the header; what is asked for where a key is needed.
import { at, json, Refused } from "./api.js";
import { openApplication } from "./application.js";
import { askForKey } from "./dialogs.js";
import { h, replace, setData } from "./dom.js";
import { ago } from "./format.js";
import { openList } from "./list.js";
import { listen } from "./live.js";
import { mark } from "./marks.js";

const $ = (id) => document.getElementById(id);
const main = $("main");
let listening = null, view = null, opened = null, names = null, reconnectingSince = null;

/** `#/application/decision/ID` or `#/application/section`. */
function address() {
  const [application, part, rest] = location.hash.replace(/^#\//, "").split("/").map((word) => {
    try { return decodeURIComponent(word); } catch { return word; }
  });
  return location.hash.startsWith("#/") ? { application: application || null, part, rest } : null;
}

async function go() {
  const asked = address() ?? (opened === null ? { application: null } : null);
  if (asked === null) return; // a plain anchor
  if (names === null && !(await learnNames())) return;
  const application = asked.application ?? (names.length === 1 ? names[0] : null);
  if (application !== null && !names.includes(application)) return notServed(application);
  if (opened === null || opened.application !== application) open(application);
  if (application !== null) view.show(asked.part, asked.rest);
}

async function learnNames() {
  try {
    names = (await json("/v1/applications")).applications.map((one) => String(one.name));
    return true;
  } catch (error) {
    if (error instanceof Refused) await locked(error.status, error.message);
    else {
      state("reconnecting", null);
      setTimeout(go, 1000);
    }
    return false;
  }
}

function open(application) {
  listening?.stop();
  opened = { application };
  main.classList.remove("stale");
  view = application === null ? openList(main) : openApplication(main, application);
  header(application);
  const path = application === null ? "/v1/live" : at(application, "live");
  listening = listen(path, { on: (name, data) => view.on(name, data), state });
}

function header(application) {
  const several = names.length > 1;
  document.title = application === null ? "Bakehouse" : `${application} · Bakehouse`;
  replace($("where"), application !== null && several && [h("a", { href: "#/" }, "All applications"), " / "], application);
  replace($("sections"), application !== null && view.sections.map(([id, title]) =>
    h("a", { href: `#/${encodeURIComponent(application)}/${id}` }, title)));
}

function notServed(application) {
  listening?.stop();
  opened = null;
  header(null);
  replace(main, h("div", { class: "notice" }, h("p", {}, `${application.slice(0, 80)} is not served here.`),
    h("ul", {}, names.map((name) => h("li", {}, h("a", { href: `#/${encodeURIComponent(name)}` }, name))))));
}

async function locked(status, words) {
  state("locked");
  $("key").hidden = false;
  if (opened === null) replace(main, h("p", { class: "wait" }, "This server is locked: its figures are for whoever holds a key. “Key…”, above, asks for it."));
  if (await askForKey(status, words)) again();
}

function again() {
  names = opened = null;
  listening?.stop();
  go();
}

function state(word, detail) {
  const live = $("live");
  if (word === "locked" && detail !== undefined) return void locked(401, detail);
  if (word === "gone") return again();
  main.classList.toggle("stale", word === "reconnecting");
  if (live.dataset.state !== word) {
    const words = { live: "Live", paused: "Paused", locked: "Locked", reconnecting: "Reconnecting…" };
    replace(live, mark(word), h("span", {}, words[word]), h("span", { class: "optional" }));
    reconnectingSince = word === "reconnecting" ? detail : null;
  }
  setData(live, "state", word);
}

setInterval(() => {
  if (document.hidden) return;
  view?.age?.();
  const live = $("live");
  if (reconnectingSince) live.lastChild.textContent = `last heard ${ago(reconnectingSince, Date.now())}`;
}, 1000);

// --- theme: as the system says, light, dark
const THEMES = ["auto", "light", "dark"];
function theme() {
  const chosen = document.documentElement.dataset.theme ?? "auto";
  $("theme").textContent = `Theme: ${chosen}`;
  dispatchEvent(new Event("theme"));
}
$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "auto") + 1) % THEMES.length];
  if (next === "auto") delete root.dataset.theme;
  else root.dataset.theme = next;
  localStorage.setItem("bakehouse-theme", next);
  theme();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", theme);
theme();

$("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
$("key").addEventListener("click", () => locked(401, ""));
addEventListener("hashchange", go);
go();
