// The same change as a command, safe to paste: what a person typed stays one argument.
const PLAIN = /^[A-Za-z0-9_@%+=:,./-]+$/;

/** One argument of a POSIX shell; in double quotes where nothing in them would be expanded. */
export function quoted(text) {
  if (PLAIN.test(text) && !text.startsWith("-")) return text;
  if (/^[^"$`\\!\u0000-\u001f]+$/.test(text)) return `"${text}"`;
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** `bakehouse kill --application level-difficulty --why "…"`. */
export function command(verb, application, { argument = "", why = "", by = "" }) {
  const words = ["bakehouse", verb];
  if (argument !== "") words.push(quoted(argument));
  words.push("--application", quoted(application), "--why", why ? quoted(why) : '"…"');
  if (by) words.push("--by", quoted(by));
  return words.join(" ").replaceAll(" --why -", " --why=-");
}
