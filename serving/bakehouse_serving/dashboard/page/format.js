// Numbers and times in words, with as many digits as they deserve.
export const NONE = "–";
const MINUS = "\u2212";
const known = (value) => typeof value === "number" && Number.isFinite(value);
const minus = (text) => text.replace(/^-/, MINUS);
const grouped = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
const small = new Map();
const digits = (least, most) => {
  const key = `${least} ${most}`;
  if (!small.has(key)) {
    small.set(key, new Intl.NumberFormat("en-GB", { minimumFractionDigits: least, maximumFractionDigits: most }));
  }
  return small.get(key);
};

export const count = (value) => (known(value) ? minus(grouped.format(value)) : NONE);

/** Three digits that matter: 0.0312, 4.21, 97.3, 1,240. */
export function number(value) {
  if (!known(value)) return NONE;
  const size = Math.abs(value);
  if (size !== 0 && size < 1e-4) return minus(value.toExponential(1));
  const places = size === 0 ? 0 : Math.max(0, Math.min(5, 2 - Math.floor(Math.log10(size))));
  return minus(digits(0, places).format(value));
}

/** The same number of places for numbers that stand together. */
export function alike(values, value) {
  const sizes = values.filter(known).map(Math.abs).filter((one) => one > 0);
  if (!known(value)) return NONE;
  const places = sizes.length ? Math.max(0, Math.min(4, 2 - Math.floor(Math.log10(Math.max(...sizes))))) : 0;
  return minus(digits(places, places).format(value));
}

export const fixed = (value, places) => (known(value) ? minus(digits(places, places).format(value)) : NONE);

export const signed = (value, text = number(value)) => (known(value) && value > 0 ? `+${text}` : text);

export function percent(share, places) {
  if (!known(share)) return NONE;
  const value = share * 100;
  if (value !== 0 && Math.abs(value) < 0.1 && places === undefined) return value > 0 ? "< 0.1%" : `${MINUS}0.1% at most`;
  const shown = places ?? (Math.abs(value) >= 99.95 || value === 0 || Number.isInteger(+value.toFixed(6)) ? 0 : 1);
  return `${minus(digits(shown, shown).format(value))}%`;
}

export const signedPercent = (share) => signed(share, percent(share, Math.abs(share ?? 0) < 10 ? 1 : 0));

export function seconds(value) {
  if (!known(value)) return NONE;
  if (value < 0.9995) return `${grouped.format(Math.max(0, value) * 1000)} ms`;
  if (value < 9.95) return `${digits(1, 1).format(value)} s`;
  if (value < 120) return `${grouped.format(value)} s`;
  if (value < 7200) return `${grouped.format(Math.floor(value / 60))} min`;
  if (value < 172_800) return `${digits(0, 1).format(value / 3600)} h`;
  return `${grouped.format(Math.floor(value / 86_400))} days`;
}

export const millis = (value) => (known(value) ? `${fixed(value, value < 0.995 ? 2 : value < 9.95 ? 1 : 0)} ms` : NONE);

export function ago(atMs, nowMs) {
  if (!known(atMs) || atMs <= 0) return NONE;
  const age = (nowMs - atMs) / 1000;
  return age < 1 ? "now" : `${seconds(Math.floor(age))} ago`;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
export const timeOfDay = (atMs) => clock.format(atMs);
export const absolute = (atMs) => (known(atMs) && atMs > 0 && atMs < 8e15 ? day.format(atMs) : NONE);
export const iso = (atMs) => (known(atMs) && atMs > 0 && atMs < 8e15 ? new Date(atMs).toISOString() : null);

export const range = (interval, text = number) => `${text(interval.lower)} to ${text(interval.upper)}`;
export const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
