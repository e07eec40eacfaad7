// What several screens show alike.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { digits, moneyText, moved, number } from "./numbers.js";
import { language } from "./preferences.js";
import { tierOf, toPay } from "./state.js";
import { has, said, t } from "./words.js";

const NO_TIER = "basic"; // what a member without a tier has at the CRM

/** A name in whatever script it is written: it turns nothing around it. */
export function name(text) {
  return h("bdi", {}, text);
}

export function tierChip(state, tier) {
  const known = tierOf(state, tier);
  if (!tier || (!known && tier === NO_TIER)) return null;
  const level = known ? Math.min(known.level, 5) : 1;
  return h("span.tier", { "data-level": String(level) }, icon("star"), name(known ? said(known.name) : tier));
}

export function member(state, who) {
  return h("p.member", {}, h("span.name", {}, name(who?.first_name || t("member"))), tierChip(state, who?.tier));
}

/** Keys for fingers. `press(text)`, `erase()`. */
export function keypad(keys, press, erase) {
  const key = (text) => h("button.key", { type: "button", onclick: () => press(text) }, digits(text, language()));
  const last = h("button.key", { type: "button", onclick: erase, "aria-label": t("erase") }, icon("erase"));
  return h("div.keypad", { dir: "ltr", role: "group", "aria-label": t("keypad") }, keys.map(key), last);
}

export function points(value) {
  return number(value, language());
}

export function amount(state, value) {
  return moneyText(value, state.shop.unit, language());
}

/** Why the points moved: offers by their names, the other rules by what they are. */
export function why(checkout) {
  const offers = checkout.offers.map((offer) =>
    reason(said(offer.name), offer.points, offer.stamps ? t("stamps", { count: moved(offer.stamps, language()) }) : null),
  );
  const rules = checkout.explanation
    .filter((each) => each.points && !["offer", "stamps"].includes(each.rule))
    .map((each) => reason(t(has(`rule.${each.rule}`) ? `rule.${each.rule}` : "rule.other"), each.points));
  return offers.length || rules.length ? h("ul.why", {}, rules, offers) : null;
}

function reason(label, moves, more) {
  return h("li", {}, h("span", {}, name(label)), h("span.moves", {}, more, more && moves ? " " : null, (moves || !more) && moved(moves, language())));
}

/** What the till said no to, and what to do next. `problem`: a body of RFC 9457, or null when nobody answered. */
export function refusal(problem) {
  const message = problem ? said(problem.message) : t("unreachable");
  const action = problem ? problem.action && said(problem.action) : t("unreachable.action");
  return h("div.refusal", { role: "alert" }, icon("warning"), h("p", {}, h("strong", {}, message), " ", action));
}

/** Where the last refusal is told. It is there without one too, so that nothing around it is made anew. */
export function refused(state) {
  return h("div.told", {}, state.problem && refusal(state.problem.body));
}

/** A label above its value. */
export function figure(label, value, props = {}) {
  return h("div.figure", props, h("dt", {}, label), h("dd", {}, value));
}

/** Whether it is known what a checkout does to the points. */
export function isDecided(checkout) {
  return checkout.points_earned !== null;
}

/** What a checkout does to the points, and what is left to pay in money. */
export function outcome(state, checkout) {
  const isSale = checkout.kind === "purchase";
  const moves = checkout.points_earned - checkout.points_redeemed;
  return h("dl.outcome", {},
    figure(t(isSale ? "earned" : "taken"), moved(isSale ? checkout.points_earned : moves, language()), { class: moves < 0 && !isSale ? "lead less" : "lead" }),
    checkout.points_after !== null && figure(t("now"), points(checkout.points_after)),
    isSale && checkout.points_redeemed > 0 && figure(t("to_pay"), amount(state, toPay(checkout, state.shop)), { class: "pay" }),
  );
}
