// Elements from words. Everything that comes over the network passes through here as text.
const SVG = "http://www.w3.org/2000/svg";

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (name === "text") node.textContent = value;
    else if (/^(on|style$|srcdoc$)/i.test(name)) throw new Error(`${name} is no plain attribute`);
    else node.setAttribute(name, value === true ? "" : value);
  }
  add(node, children);
  return node;
}

export function add(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

/** An element: `h("p", {class: "soft"}, "text", otherElement)`; strings become text nodes. */
export const h = (tag, properties = {}, ...children) => fill(document.createElement(tag), properties, children);
export const s = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** What a game or a person wrote: text, isolated, so that its direction turns nothing around it. */
export function foreign(value, most = 200) {
  const text = typeof value === "string" ? value : JSON.stringify(value) ?? "–";
  const short = text.length > most ? `${text.slice(0, most)}…` : text;
  return h("bdi", { title: short === text ? null : text.slice(0, 4000) }, short);
}

/** What serving says: text, isolated, with the commands between backticks as code. */
export function sentence(text) {
  const parts = text.slice(0, 2000).split("`"), closed = parts.length - 1;
  return h("bdi", {}, parts.map((part, at) => (at % 2 === 0 ? part : at < closed ? h("code", {}, part) : `\`${part}`)));
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setData(node, name, value) {
  if (node.dataset[name] !== String(value)) node.dataset[name] = value;
}

export function replace(node, ...children) {
  node.replaceChildren();
  return add(node, children);
}

/** Where and how large: through the object model, which the content policy leaves open. */
export function place(node, properties) {
  for (const [name, value] of Object.entries(properties)) node.style.setProperty(name, value);
  return node;
}

const shown = new WeakMap(); // parent → Map of key → its node and what was drawn last

/**
 * Children of `parent`, one an item, kept while their key stays: focus and what is open survive.
 * `make(item)` gives the node, `update(node, item)` is called where the item changed.
 */
export function keyed(parent, items, keyOf, make, update) {
  const before = shown.get(parent) ?? new Map();
  const after = new Map();
  let last = null;
  for (const item of items) {
    const key = keyOf(item);
    if (after.has(key)) continue;
    const state = JSON.stringify(item);
    const row = before.get(key) ?? { node: make(item), state: null };
    if (row.state !== state) update(row.node, item);
    row.state = state;
    after.set(key, row);
    const expected = last === null ? parent.firstChild : last.nextSibling;
    if (row.node !== expected) parent.insertBefore(row.node, expected);
    last = row.node;
  }
  for (const [key, row] of before) if (!after.has(key)) row.node.remove();
  shown.set(parent, after);
}

/** Calls `draw(value)` only where the value is another than last time. */
export function whenNew(draw) {
  let before;
  return (value, ...rest) => {
    const now = JSON.stringify(value);
    if (now === before) return;
    before = now;
    draw(value, ...rest);
  };
}

let ids = 0;
export const newId = (word) => `${word}-${++ids}`;

export function section(id, title, hint, ...children) {
  return h("section", { id, class: "card", "aria-labelledby": `${id}-title`, tabindex: "-1" },
    h("header", { class: "card-head" }, h("h2", { id: `${id}-title` }, title), hint && h("p", { class: "soft" }, hint)),
    children);
}

/** A command to copy, with the button that does it. */
export function copyable(code) {
  const button = h("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // no clipboard over plain HTTP: it is selected instead
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  } }, "Copy");
  return h("div", { class: "copy" }, code, button);
}
