"""The front page: where things are, and the live status. One file, no build step."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Bakehouse</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #888; --accent: #c2662d }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 3rem auto; padding: 0 1rem }
h1 { font-weight: 600; letter-spacing: -.02em; margin: 0 } h1 span { color: var(--accent) }
p { color: var(--soft); margin: .2rem 0 1.5rem } a { color: var(--accent) }
nav a { margin-right: 1.2rem }
table { border-collapse: collapse; width: 100%; margin: 1.5rem 0; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .4rem .6rem; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left } th { color: var(--soft); font-weight: 500 }
pre { border: 1px solid var(--line); border-radius: 6px; padding: 1rem; overflow: auto; font-size: 12px }
</style></head><body>
<h1>Bake<span>house</span></h1><p id="line">asking…</p>
<nav><a href="/docs">HTTP interface</a><a href="/metrics">metrics</a>
<a href="/v1/status">status as JSON</a><a href="/readyz">readiness</a></nav>
<table><thead><tr><th>application</th><th>policy</th><th>decisions</th><th>outcomes</th>
<th>on policy</th><th>swaps</th><th>freshness p50</th><th>p95</th></tr></thead>
<tbody id="rows"></tbody></table>
<form id="ask" hidden><input id="key" type="password" placeholder="API key" autocomplete="off">
<button>show</button></form><pre id="raw"></pre>
<script>
const cell = (row, text) => row.insertCell().textContent = text;
const seconds = s => s == null ? "–" : s.toFixed(2) + " s";
let key = sessionStorage.getItem("bakehouse-key"), timer;
ask.onsubmit = event => {
  event.preventDefault();
  sessionStorage.setItem("bakehouse-key", key = ask.elements.key.value);
  show();
};
async function show() {
  clearTimeout(timer);
  try {
    const answer = await fetch("/v1/status", key ? { headers: { Authorization: `Bearer ${key}` } } : {});
    ask.hidden = answer.status != 401;
    if (!answer.ok) throw new Error((await answer.json()).detail);
    const all = await answer.json(), own = all.serving;
    line.textContent = `${own.decisions_per_s} decisions and ${own.outcomes_per_s} outcomes a second; `
      + `${own.spool.events} events waiting for Kafka`
      + (own.kafka.problem ? ` (${own.kafka.problem})` : "");
    rows.replaceChildren();
    for (const [name, one] of Object.entries(own.applications)) {
      const row = rows.insertRow();
      cell(row, name);
      cell(row, one.policy_version + (one.killed ? " (killed)" : one.pinned_version != null ? " (pinned)"
        : one.frozen ? " (frozen)" : ""));
      cell(row, one.decisions); cell(row, one.outcomes);
      cell(row, one.decisions ? Math.round(100 * (one.cohorts.policy + one.cohorts.canary) / one.decisions) + "%" : "–");
      cell(row, one.swaps);
      cell(row, seconds(one.freshness_s.p50)); cell(row, seconds(one.freshness_s.p95));
    }
    raw.textContent = JSON.stringify(all, null, 1);
  } catch (error) { line.textContent = error.message; }
  timer = setTimeout(show, document.hidden ? 10000 : 1000);
}
show();
</script></body></html>
"""  # noqa: E501
