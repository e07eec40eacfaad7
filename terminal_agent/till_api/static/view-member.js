// Customers without a card in hand: somebody who joins, and somebody who left theirs at home.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { digits } from "./numbers.js";
import { amount, keypad, member, points, refusal, refused } from "./parts.js";
import { language } from "./preferences.js";
import { t } from "./words.js";

const KEYS = ["7", "8", "9", "4", "5", "6", "1", "2", "3", "09", "0"];
const SHORTEST = 8; // digits of a number that is worth asking for; the till looks closely

export function enrolSheet(state, act) {
  const submit = (event) => {
    event.preventDefault();
    const { name, consent } = event.target.elements;
    act.enrol({ name: name.value.trim(), consent: consent.checked, card: event.submitter.value === "card" });
  };
  const cannot = state.asking || !isLongEnough(state);
  return [
    h("h1", { id: "sheet-title" }, t("enrol.title")),
    h("form.person", { onsubmit: submit, autocomplete: "off" },
      phoneField(state, act),
      h("div.about", {},
        h("label", { for: "name" }, t("enrol.name")),
        h("input", { id: "name", name: "name", dir: "auto", maxlength: 100, autocomplete: "off" }),
        h("label.tick", {}, h("input", { type: "checkbox", name: "consent" }), h("span", {}, t("enrol.consent"))),
        refused(state),
        h("div.actions", {},
          h("button.primary", { type: "submit", value: "card", disabled: cannot }, t("enrol.with-card")),
          h("button.plain", { type: "submit", value: "none", disabled: cannot }, t("enrol.without-card")),
        ),
      ),
    ),
  ];
}

export function forgottenSheet(state, act) {
  const submit = (event) => {
    event.preventDefault();
    if (state.found) act.sellByPhone();
    else act.lookUp();
  };
  return [
    h("h1", { id: "sheet-title" }, t("forgotten.title")),
    h("form.person", { onsubmit: submit, autocomplete: "off" },
      phoneField(state, act),
      h("div.about", { "aria-live": "polite" },
        h("p.bill", {}, h("span", {}, t("amount")), h("strong", {}, amount(state, state.sheet.amount))),
        who(state, act),
        refused(state),
        mayGoOn(state) && h("div.actions", {}, goOn(state)),
      ),
    ),
  ];
}

function phoneField(state, act) {
  return h("div.number", {},
    h("label", { for: "phone" }, t("phone")),
    h("input", {
      id: "phone", type: "tel", inputmode: "tel", dir: "ltr", autocomplete: "off", required: true, maxlength: 20, autofocus: true,
      value: digits(state.phone, language()), oninput: (event) => act.typePhone(event.target.value),
    }),
    keypad(KEYS, act.phoneKey, act.phoneErase),
  );
}

function isLongEnough({ phone }) {
  return phone.length >= SHORTEST;
}

/** Who has this phone, as far as anybody can say. */
function who(state, act) {
  const { found } = state;
  if (!found) return h("p.quiet", {}, t("forgotten.how"));
  if (found.error?.code === "crm_unreachable") return h("p.aside", {}, icon("offline"), t("forgotten.offline"));
  if (found.error) {
    const enrol = found.error.code === "member_not_found" && h("button.plain.iconed", { type: "button", onclick: () => act.enrolling(state.phone) }, icon("join"), t("enrol"));
    return [refusal(found.error), enrol];
  }
  return [
    member(state, found),
    found.points === null ? h("p.quiet", {}, t("points.unknown")) : h("p.big", {}, h("strong", {}, points(found.points)), " ", t("points")),
    found.source === "terminal" && h("p.aside", {}, icon("offline"), t("forgotten.known-here")),
    h("p.quiet", {}, t("forgotten.later")),
  ];
}

function mayGoOn({ found }) {
  return !found?.error || found.error.code === "crm_unreachable";
}

function goOn(state) {
  const label = !state.found ? "forgotten.look" : state.found.error ? "forgotten.sell-unknown" : "forgotten.sell";
  return h("button.primary", { key: label, type: "submit", disabled: state.asking || !isLongEnough(state) }, t(label));
}
