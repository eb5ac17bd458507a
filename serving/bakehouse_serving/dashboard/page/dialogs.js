// Dialogs: the browser's own, which hold the focus, close on Escape and give the focus back.
import { key, setKey } from "./api.js";
import { h, newId } from "./dom.js";

/** Opens one and resolves once it is closed. `build(close)` gives title and children. */
export function openDialog(title, build) {
  return new Promise((done) => {
    const id = newId("dialog");
    const dialog = h("dialog", { "aria-labelledby": id, onclose: () => { dialog.remove(); done(dialog.returnValue); } });
    dialog.append(h("h2", { id }, title), ...build((value) => dialog.close(value)));
    document.body.append(dialog);
    dialog.showModal();
    dialog.querySelector("[autofocus], input")?.focus();
  });
}

export function field(label, input, hint) {
  const id = newId("field"), about = newId("about"), wrong = h("p", { class: "wrong", id: newId("wrong"), hidden: true });
  input.id = id;
  input.setAttribute("aria-describedby", `${about} ${wrong.id}`);
  const node = h("div", { class: "field" }, h("label", { for: id }, label), input, hint && h("p", { class: "hint", id: about }, hint), wrong);
  return {
    node, input,
    /** Says what is wrong, or that nothing is. */
    check(words) {
      wrong.textContent = words ?? "";
      wrong.hidden = !words;
      if (words) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
      return !words;
    },
  };
}

let asking = null;

/** Asks for the key that a locked server wants; true where one was given. */
export function askForKey(status, words) {
  asking ??= openDialog("This server is locked", (close) => {
    const one = field("API key", h("input", { type: "password", autocomplete: "off", spellcheck: "false" }), "Any of its keys shows figures; changes need one with the scope admin. It is kept in this tab alone.");
    if (key() && words) one.check(words);
    const form = h("form", { novalidate: true, onsubmit: (event) => {
      event.preventDefault();
      const text = one.input.value.trim();
      if (!one.check(text ? null : "Type a key, or press Escape")) return one.input.focus();
      setKey(text);
      return close("given");
    } }, one.node, h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => close("") }, "Not now"), h("button", { class: "main" }, "Show the figures")));
    return [h("p", { class: "soft" }, status === 403 ? words : "Its figures are for whoever holds a key."), form];
  }).then((value) => { asking = null; return value === "given"; });
  return asking;
}
