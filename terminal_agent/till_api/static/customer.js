// The screen that faces the customer: the same till, nobody's data but a first name, nothing to touch.

import { begin } from "./begin.js";
import { h, patch } from "./dom.js";
import { icon } from "./icons.js";
import { amount, isDecided, member, name, outcome, why } from "./parts.js";
import { screenOf } from "./state.js";
import { Store } from "./store.js";
import { title } from "./view-stage.js";
import { t } from "./words.js";

const SIGNS = {
  waiting: ["calm", "waves"], reading: ["busy", "card"], writing: ["busy", "card"], problem: ["warn", "back"],
  in_doubt: ["warn", "back"], done: ["good", "lift"],
};
const THANKS_SHOWN_MS = 6000;

const store = new Store(told, { looksAtCards: false });
let leaving = null;

function told(state, before) {
  const screen = screenOf(state);
  if (screen !== screenOf(before) || state.lifted !== before.lifted) {
    document.documentElement.dataset.screen = screen;
    document.getElementById("spoken").textContent = SIGNS[screen] ? call(state, screen) : "";
    clearTimeout(leaving);
    const over = (screen === "done" && state.lifted) || ["failed", "expired", "closed"].includes(screen);
    if (over) leaving = setTimeout(() => store.change({ type: "dismissed" }), THANKS_SHOWN_MS);
  }
  render(state);
}

function call(state, screen) {
  if (state.checkout.kind === "enrolment") return t(screen === "done" ? "customer.enrolled" : "customer.enrol");
  if (screen === "done") return t(state.lifted ? "customer.thanks" : "done");
  return screen === "problem" ? t("waiting") : title(state, screen);
}

function render(state) {
  const screen = screenOf(state);
  document.title = state.shop?.name || t("customer.title");
  patch(document.getElementById("app"), !state.paired || !state.shop ? welcome(state, t("customer.pair"))
    : SIGNS[screen] ? scene(state, screen) : welcome(state, t("customer.ready")));
}

function welcome(state, text) {
  return h("main.welcome", { key: "welcome" },
    h("div.sign", {}, icon("card")),
    h("h1", {}, name(state.shop?.name || t("customer.title"))),
    h("p", {}, text),
  );
}

function scene(state, screen) {
  const checkout = state.checkout;
  const [tone, sign] = screen === "done" && state.lifted ? ["good", "check"] : SIGNS[screen];
  const known = isDecided(checkout) && screen !== "problem";
  const tells = [
    checkout.amount !== null && h("p.bill", {}, h("span", {}, t("amount")), h("strong", {}, amount(state, checkout.amount))),
    (known || checkout.kind === "enrolment") && checkout.member && member(state, checkout.member),
    known && outcome(state, checkout),
    known && why(checkout),
  ].filter(Boolean);
  return h("main.stage", { key: `${checkout.id} ${tone}`, "data-tone": tone },
    h("section.call", {}, h("div.sign", {}, icon(sign)), h("h1", {}, call(state, screen))),
    tells.length > 0 && h("section.tells", {}, tells),
  );
}

begin(store, render);
