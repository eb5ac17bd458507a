// Server-sent events over `fetch`, which can show a key; begins again by itself when it breaks off.
import { Refused, request } from "./api.js";

const SILENT_MS = 6000; // an event comes each second; after this long without one, ask again
const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 4000;

/** Splits a stream of text into events. */
export class Events {
  #left = "";

  *push(text) {
    this.#left += text;
    const blocks = this.#left.split(/\r?\n\r?\n/);
    this.#left = blocks.pop();
    for (const block of blocks) {
      let name = "message";
      const data = [];
      for (const row of block.split(/\r?\n/)) {
        if (row.startsWith("event:")) name = row.slice(6).trim();
        else if (row.startsWith("data:")) data.push(row.slice(5).trimStart());
      }
      if (data.length) yield { name, data: JSON.parse(data.join("\n")) };
    }
  }
}

/**
 * Listens at `path` until `stop()`.
 * `on(name, data)` for each event; `state(word, detail)` with live, reconnecting, paused, locked.
 */
export function listen(path, { on, state }) {
  let abort = null, stopped = false, wait = FIRST_WAIT_MS, wake = null, heardMs = Date.now();

  async function once() {
    abort = new AbortController();
    let silence = setTimeout(() => abort.abort(), SILENT_MS);
    try {
      const answer = await request(path, { signal: abort.signal, accept: "text/event-stream" });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      const events = new Events();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        for (const event of events.push(value)) {
          clearTimeout(silence);
          silence = setTimeout(() => abort.abort(), SILENT_MS);
          wait = FIRST_WAIT_MS;
          heardMs = Date.now();
          if (stopped || document.hidden) return;
          state("live");
          try {
            on(event.name, event.data);
          } catch (error) {
            console.error(error); // a figure that cannot be drawn is no reason to ask again
          }
        }
      }
    } finally {
      clearTimeout(silence);
      abort.abort();
    }
  }

  async function run() {
    while (!stopped) {
      if (document.hidden) {
        state("paused");
        await new Promise((go) => { wake = go; });
        continue;
      }
      try {
        await once();
      } catch (error) {
        if (stopped) return;
        if (error instanceof Refused && [401, 403, 404].includes(error.status)) {
          state(error.status === 404 ? "gone" : "locked", error.message);
          return;
        }
      }
      if (stopped || document.hidden) continue;
      state("reconnecting", heardMs);
      await new Promise((go) => { wake = go; setTimeout(go, wait); });
      wait = Math.min(wait * 1.6, LONGEST_WAIT_MS);
    }
  }

  const visibility = () => (document.hidden ? abort?.abort() : wake?.());
  document.addEventListener("visibilitychange", visibility);
  run();
  return {
    stop() {
      stopped = true;
      document.removeEventListener("visibilitychange", visibility);
      abort?.abort();
      wake?.();
    },
  };
}
