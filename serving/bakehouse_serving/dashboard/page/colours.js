// Colours of the style sheet for what is drawn on canvas, light or dark as it is now.
const probe = document.createElement("span");
probe.hidden = true;
document.documentElement.append(probe);
let known = new Map();
addEventListener("theme", () => { known = new Map(); });

export function colour(name, alpha = 1) {
  const id = `${name} ${alpha}`;
  if (!known.has(id)) {
    probe.style.color = alpha === 1 ? `var(--${name})` : `color-mix(in srgb, var(--${name}) ${alpha * 100}%, transparent)`;
    known.set(id, getComputedStyle(probe).color);
  }
  return known.get(id);
}
