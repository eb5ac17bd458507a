// Is it earning its keep? One sentence, its state, and what one might do next.
import { foreign, h, replace, sentence as said, setData, setText, whenNew } from "./dom.js";
import { count, plural } from "./format.js";
import { levelMark, setState, simulatedChip, stateChip, STATE_WORDS } from "./marks.js";

export function makeVerdict(shared, controls) {
  const chip = stateChip("unknown"), simulated = simulatedChip(), facts = h("span", { class: "soft facts" });
  const sentence = h("p", { class: "sentence", id: "sentence" }, "Waiting for the first figures…");
  const next = h("p", { class: "next" }), mistakes = h("ul", { class: "mistakes" });
  const sayNext = whenNew((text) => replace(next, said(text)));
  const tellMistakes = whenNew((its) => replace(mistakes, mistakesOf(its)));
  simulated.hidden = true;
  simulated.title = "These decisions were made for simulated players, not for people";
  const node = h("section", { id: "verdict", class: "card verdict", "aria-labelledby": "sentence", tabindex: "-1" },
    h("div", { class: "verdict-head" }, chip, simulated, facts), h("h1", { class: "unseen" }, shared.application), sentence, next, mistakes,
    controls.buttons);
  let announced = null;
  return {
    node,
    tick(tick) {
      const verdict = tick.verdict;
      setState(chip, verdict.state);
      setData(node, "state", verdict.state);
      simulated.hidden = !verdict.simulated;
      setText(sentence, verdict.sentence);
      sayNext(verdict.next ?? "");
      next.hidden = !verdict.next;
      setText(facts, [tick.agent, tick.mode, tick.problem].filter(Boolean).map((word) => String(word).replace("_", " ")).join(" · "));
      const { outcomes_uncounted, uncounted_names, outcomes_rejected } = tick.tiles?.decisions ?? {};
      tellMistakes({ uncounted: outcomes_uncounted, names: uncounted_names, rejected: outcomes_rejected });
      // The sentence counts seconds; what is read aloud is each state, once.
      const state = `${verdict.state} ${verdict.simulated}`;
      if (announced !== state) {
        announced = state;
        const who = verdict.simulated ? " Simulated players." : "";
        setText(document.getElementById("announce"), `${STATE_WORDS[verdict.state] ?? ""}: ${verdict.sentence}${who}`);
      }
    },
  };
}

/** What the game sends and nobody learns from: a line each, none where all is well. */
function mistakesOf({ uncounted, names, rejected }) {
  const line = (...words) => h("li", {}, levelMark("busy", ""), h("span", {}, words));
  const named = (names ?? []).map((one, at) => [at ? ", " : ": ", foreign(one.name), ` × ${count(one.count)}`,
    one.meant && [" (did you mean ", foreign(one.meant), "?)"]]);
  return [
    uncounted > 0 && line(h("strong", {}, `${plural(uncounted, "outcome")} ${uncounted === 1 ? "is" : "are"} not counted`), named),
    rejected > 0 && line(h("strong", {}, `${plural(rejected, "outcome")} ${rejected === 1 ? "was" : "were"} rejected`), ": the answers to the game say why"),
  ];
}
