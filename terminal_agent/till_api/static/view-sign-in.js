// Who stands at the till: a name, then a PIN. Shown only where the shop names its cashiers.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { foldDigits } from "./numbers.js";
import { name, refusal } from "./parts.js";
import { t } from "./words.js";

export function signInView(state, act) {
  return h("main.pair", { key: `sign-in ${state.who ?? ""}` },
    h("div.panel.sign-in", {},
      h("div.sign", {}, icon("person")),
      h("h1", {}, state.who ? name(state.who) : t("sign-in.title")),
      state.who ? pinForm(state, act) : names(state, act),
    ),
  );
}

function names(state, act) {
  if (!state.shop.cashiers.length) return refusal({ message: { fa: t("sign-in.lost"), en: t("sign-in.lost") } });
  const card = state.cardPresent
    ? h("button.plain.iconed", { type: "button", disabled: state.asking, onclick: act.signInByCard }, icon("card"), t("sign-in.by-card"))
    : h("p.hint", {}, icon("card"), t("sign-in.card"));
  return [
    h("ul.names", {}, state.shop.cashiers.map((who) => h("li", {}, choice(who, act)))),
    state.problem && refusal(state.problem.body),
    card,
  ];
}

function choice(who, act) {
  return h("button", { type: "button", onclick: () => act.choose(who) }, name(who));
}

function pinForm(state, act) {
  const submit = (event) => {
    event.preventDefault();
    act.signIn(foldDigits(event.target.elements.pin.value).trim());
    event.target.reset();
  };
  return h("form", { onsubmit: submit, autocomplete: "off" },
    h("label", { for: "pin" }, t("sign-in.pin")),
    h("input", {
      id: "pin", name: "pin", type: "password", inputmode: "numeric", dir: "ltr", required: true, maxlength: 12, autocomplete: "off", focus: true,
    }),
    state.problem && refusal(state.problem.body),
    h("div.actions", {},
      h("button.plain", { type: "button", onclick: () => act.choose(null) }, t("sign-in.other")),
      h("button.primary", { type: "submit", disabled: state.asking }, t("sign-in.go")),
    ),
  );
}
