// Where is the pipe blocked? Its stages in order; each says what it means and what to do.
import { foreign, h, keyed, replace, section, sentence, setText } from "./dom.js";
import { NONE, seconds } from "./format.js";
import { levelMark, mark, setLevel } from "./marks.js";

export function makePipe() {
  const row = h("ol", { class: "pipe" });
  const detail = h("div", { class: "pipe-detail", id: "pipe-detail", role: "region", "aria-label": "What this stage means", "aria-live": "off", hidden: true });
  const node = section("pipe", "The pipe", "From an answer to the policy that has learned from it. Choose a stage to see what it means and what to do.", row, detail);
  let open = null, stages = [];

  const tell = () => {
    const one = stages.find((stage) => stage.stage === open);
    detail.hidden = !one;
    for (const button of row.querySelectorAll("button")) button.setAttribute("aria-expanded", String(button.dataset.stage === open));
    if (!one) return;
    const state = JSON.stringify([one.stage, one.level, one.meaning, one.do]);
    if (detail.dataset.state === state) return;
    detail.dataset.state = state;
    replace(detail, h("div", {}, h("h3", {}, one.title), levelMark(one.level)), h("p", {}, foreign(one.meaning, 2000)),
      h("p", {}, h("strong", {}, "What to do: "), sentence(one.do || "Nothing; it flows.")));
  };
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || open === null) return;
    const button = row.querySelector('[aria-expanded="true"]');
    open = null;
    tell();
    button?.focus();
  });

  const make = (one) => {
    const button = h("button", { type: "button", "data-stage": one.stage, "aria-expanded": "false", "aria-controls": "pipe-detail", onclick: () => {
      open = open === one.stage ? null : one.stage;
      tell();
    } }, h("span", { class: "stage-title" }), levelMark(one.level), h("span", { class: "age soft" }), h("span", { class: "figures" }));
    return h("li", {}, button, h("span", { class: "between" }, mark("arrow")));
  };
  const update = (li, one) => {
    const [title, level, age, figures] = li.firstChild.children;
    li.firstChild.dataset.level = one.level;
    setText(title, one.title ?? one.stage);
    setLevel(level, one.level);
    setText(age, one.age_s === null || one.age_s === undefined ? NONE : one.age_s < 1 ? "now" : `${seconds(one.age_s)} ago`);
    keyed(figures, one.figures ?? [], (figure) => figure.name, () => h("span", { class: "figure" }, h("span", { class: "soft" }), h("b")), (figure, its) => {
      setText(figure.firstChild, its.name);
      setText(figure.lastChild, String(its.value));
    });
  };
  return {
    node,
    tick(tick) {
      stages = tick.pipe ?? [];
      keyed(row, stages, (one) => one.stage, make, update);
      tell();
    },
  };
}
