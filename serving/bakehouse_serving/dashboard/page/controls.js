// A person's word over the policy: each change asks for the name, a reason, and shows its command.
import { at, json, key, Refused, setKey } from "./api.js";
import { makeAudit } from "./audit.js";
import { field, openDialog } from "./dialogs.js";
import { copyable, h, replace, section, setText } from "./dom.js";
import { percent } from "./format.js";
import { command } from "./shell.js";

const VERSION = { name: "version", label: "Version", whole: true };
const VERBS = {
  promote: { title: "Promote a version", button: "Promote", meaning: "This version answers until it is released, whatever the gate says.", argument: { ...VERSION, required: true } },
  rollback: { title: "Roll back", button: "Roll back", meaning: "The version before the current one answers, or the one named here, until it is released. Learning goes on.", argument: { ...VERSION, hint: "Empty: the one before." } },
  freeze: { title: "Freeze", button: "Freeze", meaning: "The version that answers now goes on answering, until it is released." },
  release: { title: "Release", button: "Release", meaning: "Ends a promotion, a rollback or a freeze: the newest policy answers again." },
  kill: { title: "Kill", button: "Kill", danger: true, meaning: "Every decision is the game's own rule, from the next request on, until somebody revives it." },
  revive: { title: "Revive", button: "Revive", meaning: "Ends the kill: the policy answers again from the next request on." },
  explore: { title: "Exploration", button: "Set exploration", meaning: "From the next request on, this share of decisions is drawn uniformly, so that more is learned or less is risked.", argument: { name: "share", label: "Share, from 0 to 1", hint: "Empty: as the application says itself." } },
  retrain: { title: "Retrain now", button: "Retrain", meaning: "The learner trains at once, whatever its rhythm. Whether players get the result is the gate's to say." },
};

export function makeControls(shared) {
  const button = (label, ...verbs) => h("button", { type: "button", "data-verb": verbs[0], onclick: (event) => open(event.currentTarget.dataset.verb) }, label);
  const buttons = {
    promote: button("Promote…", "promote"), rollback: button("Roll back…", "rollback"), hold: button("Freeze…", "freeze"),
    explore: button("Exploration…", "explore"), retrain: button("Retrain now…", "retrain"), stop: button("Kill…", "kill"),
  };
  const standing = h("p", {});
  const audit = makeAudit(shared);
  const node = section("control", "Control and audit", "Everything a person changed, newest first. Each change is also a command.", standing, audit.node);
  const group = h("div", { class: "controls", role: "group", "aria-label": "Control over the policy" }, Object.values(buttons));

  const open = (verb, version) => openDialog(VERBS[verb].title, (close) => makeForm(shared, verb, version, close, audit.renew));
  return {
    node, buttons: group, open,
    tick(tick) {
      const policy = tick.policy, held = policy.frozen || policy.gate_frozen || policy.pinned_version !== null;
      become(buttons.stop, policy.killed ? "revive" : "kill", policy.killed ? "Revive…" : "Kill…");
      become(buttons.hold, held ? "release" : "freeze", held ? "Release…" : "Freeze…");
      buttons.stop.classList.toggle("danger-quiet", !policy.killed);
      setText(standing, standingWords(policy));
      audit.tick(tick);
    },
  };
}

function become(button, verb, label) {
  button.dataset.verb = verb;
  setText(button, label);
}

function standingWords(policy) {
  const words = [`Policy ${policy.version} answers`];
  if (policy.killed) words[0] = "Killed: the game's own rules answer";
  if (policy.pinned_version !== null) words.push(`pinned to ${policy.pinned_version}`);
  if (policy.frozen) words.push("frozen");
  if (policy.gate_frozen) words.push("the learner's gate publishes nothing");
  if (policy.explore_share !== null && policy.explore_share !== undefined) words.push(`exploration set to ${percent(policy.explore_share)}`);
  if (policy.newest_version > policy.version) words.push(`policy ${policy.newest_version} is the newest`);
  return `${words.join("; ")}.${policy.by || policy.why ? ` Last change: ${policy.by || "somebody"}, “${policy.why || "no reason"}”.` : ""}`;
}

function makeForm(shared, verb, version, close, done) {
  const { meaning, argument, danger, button } = VERBS[verb], name = shared.application;
  const value = argument && field(argument.label, h("input", { inputmode: argument.whole ? "numeric" : "decimal", autocomplete: "off", value: version ?? "" }), argument.hint);
  const confirm = field(["Type ", h("code", {}, name), " to confirm"], h("input", { autocomplete: "off", autocapitalize: "off", spellcheck: "false", name: "confirm" }));
  const why = field("Reason", h("input", { autocomplete: "off", maxlength: "2000", name: "why" }), "Kept with the change, for whoever asks later.");
  const by = field("Your name", h("input", { autocomplete: "username", maxlength: "200", name: "by", value: sessionStorage.getItem("bakehouse-by") ?? "" }), "Kept with it too.");
  const secret = field("Admin key", h("input", { type: "password", autocomplete: "off", spellcheck: "false", name: "key" }), "This server wants a key with the scope admin for changes.");
  secret.node.hidden = true;
  const line = h("code", { "data-command": "" });
  const problem = h("p", { class: "wrong", role: "alert" });
  const send = h("button", { class: danger ? "danger" : "main" }, button);
  const read = () => ({ argument: value?.input.value.trim() ?? "", why: why.input.value.trim(), by: by.input.value.trim() });
  const write = () => {
    const typed = read();
    setText(line, command(verb, name, verb === "explore" && !typed.argument ? { ...typed, argument: "default" } : typed));
  };
  const check = () => {
    const bad = [
      [value, value && wrongArgument(argument, value.input.value.trim())],
      [confirm, confirm.input.value === name ? null : `That is not “${name}”: nothing was changed`],
      [why, why.input.value.trim() ? null : "Say why, in a few words"],
    ].filter(([one, words]) => one && !one.check(words));
    bad[0]?.[0].input.focus();
    return !bad.length;
  };
  const form = h("form", { novalidate: true, oninput: write, onsubmit: async (event) => {
    event.preventDefault();
    if (send.disabled || !check()) return;
    if (secret.input.value.trim()) setKey(secret.input.value.trim());
    const typed = read();
    sessionStorage.setItem("bakehouse-by", typed.by);
    send.disabled = true;
    problem.textContent = "";
    try {
      const answer = await json(at(name, `policy:${verb}`), { method: "POST", body: bodyOf(argument, typed) });
      replace(form, result(verb, name, answer), h("div", { class: "buttons" }, h("button", { type: "button", class: "main", autofocus: true, onclick: () => close("done") }, "Close")));
      form.querySelector("button.main").focus();
      done();
    } catch (error) {
      refused(error, secret, problem);
    }
    send.disabled = false;
  } }, value?.node, confirm.node, why.node, by.node, secret.node,
    h("div", { class: "field" }, h("p", { class: "label" }, "The same as a command"), copyable(line)), problem,
    h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => close("") }, "Cancel"), send));
  write();
  return [h("p", { class: "soft" }, meaning), form];
}

function wrongArgument(argument, text) {
  if (!text) return argument.required ? "Which version?" : null;
  const number = Number(text.replace(",", "."));
  if (argument.whole) return Number.isInteger(number) && number >= 0 ? null : "A version is a whole number";
  return number >= 0 && number <= 1 ? null : "A share is a number from 0 to 1, as 0.2";
}

function bodyOf(argument, { argument: text, why, by }) {
  const body = { why, by: by || "the page" };
  if (argument?.name === "share") body.share = text ? Number(text.replace(",", ".")) : null;
  else if (argument && text) body[argument.name] = Number(text);
  return body;
}

function refused(error, secret, problem) {
  if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
    secret.node.hidden = false;
    secret.check(key() || secret.input.value ? error.message : "Type the admin key");
    secret.input.focus();
  } else {
    problem.textContent = error instanceof Refused ? `Not done: ${error.message}` : "Not done, or not known to be: the server did not answer. Look at the audit list before you try again.";
  }
}

function result(verb, name, answer) {
  const words = { promote: "answers", rollback: "answers", freeze: "is kept", release: "answers" };
  const said = verb === "kill" ? `${name} is killed: the game's own rules answer from the next request on.`
    : verb === "revive" ? `${name} is revived: policy ${answer.policy_version} answers from the next request on.`
      : verb === "retrain" ? "The learner was asked to train at once."
        : verb === "explore" ? "Exploration is set, from the next request on."
          : `Policy ${answer.policy_version} ${words[verb]} from the next request on.`;
  return h("div", { class: "result", role: "status" }, h("p", {}, h("strong", {}, "Done. "), said),
    answer.published && answer.published !== "soon" && h("p", { class: "wrong" }, `Other processes do not know it: ${answer.published}`),
    answer.not_kept && h("p", { class: "wrong" }, `It is not kept on disk: ${answer.not_kept}`));
}
