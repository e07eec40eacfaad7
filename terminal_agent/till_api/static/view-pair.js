// The first screen of a browser that the till does not know yet.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { foldDigits } from "./numbers.js";
import { refusal } from "./parts.js";
import { t } from "./words.js";

export function pairView(state, act) {
  const submit = (event) => {
    event.preventDefault();
    act.pair(foldDigits(event.target.elements.code.value).replace(/\D/g, ""));
  };
  return h("main.pair", { key: "pair" },
    h("form.panel", { onsubmit: submit, autocomplete: "off" },
      h("div.sign", {}, icon("screen")),
      h("h1", {}, t("pair.title")),
      h("p", {}, t("pair.how")),
      h("p", {}, h("code", { dir: "ltr" }, "terminal-agent till code")),
      h("label", { for: "code" }, t("pair.code")),
      h("input", { id: "code", name: "code", inputmode: "numeric", dir: "ltr", required: true, maxlength: 12, focus: true }),
      state.problem && refusal(state.problem.body),
      h("button.primary", { type: "submit", disabled: state.asking }, t("pair.go")),
    ),
  );
}
