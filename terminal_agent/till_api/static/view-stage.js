// The screens of a checkout: one large sign, one sentence, what comes of it, at most two buttons.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { countdown, phoneEnd } from "./numbers.js";
import { amount, isDecided, member, name, outcome, points, why } from "./parts.js";
import { language } from "./preferences.js";
import { secondsLeft } from "./state.js";
import { said, t } from "./words.js";

const SIGNS = {
  waiting: ["calm", "waves"], reading: ["busy", "card"], writing: ["busy", "card"], problem: ["warn", "warning"],
  in_doubt: ["warn", "back"], done: ["good", "lift"], failed: ["bad", "cross"], expired: ["warn", "clock"],
  closed: ["good", "check"],
};

export function stageView(state, screen, act) {
  const checkout = state.checkout;
  const [tone, sign] = screen === "done" && state.lifted ? ["good", "check"] : SIGNS[screen];
  return h("main.stage", { key: `${checkout.id} ${tone}`, "data-tone": tone },
    h("section.call", {},
      h("div.sign", {}, icon(sign)),
      h("h1", {}, title(state, screen)),
      sentences(state, screen).map((sentence) => h("p", {}, sentence)),
      ["waiting", "problem", "in_doubt"].includes(screen) && timeLeft(state, screen),
    ),
    h("section.tells", {}, tells(state), h("div.actions", {}, buttons(state, screen, act))),
  );
}

export function title(state, screen) {
  const { error, kind, already_member: wasMember } = state.checkout;
  const enrols = kind === "enrolment";
  if (screen === "problem") return said(error.message);
  if (screen === "waiting" && kind !== "purchase") return t(enrols ? "enrol.waiting" : "return.waiting");
  if (screen === "done" && state.lifted) return t(enrols ? (wasMember ? "enrol.known" : "enrol.done") : "done.lifted");
  return t(screen);
}

/** What the title leaves open: the next action above all. */
export function sentences(state, screen) {
  const { error, kind, member, replayed, sequence } = state.checkout;
  if (screen === "in_doubt") return [doubt(error), ...(secondsLeft(state) > 0 ? [] : [t("in_doubt.later")])];
  if (screen === "problem") return [said(error.action)];
  if (screen === "failed" && error) return [said(error.message), said(error.action)];
  if (screen === "closed") return [t("closed.why")];
  if (screen === "waiting" && kind === "enrolment") return [t("enrol.waiting.how")];
  if (screen === "done" && kind === "enrolment") return otherCards(state.checkout);
  if (replayed) return [t("replayed")];
  return screen === "done" && kind === "purchase" && sequence === null ? byPhone(member) : [];
}

/** A member's cards beside the new one, or instead of it. */
function otherCards({ card_no: card, sequence, takes_over: lost }) {
  if (lost?.length) return [t("enrol.lost")];
  return card && sequence === null ? [t("enrol.has-card")] : [];
}

/** When the points of a sale without the card come, and what nobody can say now. */
function byPhone(known) {
  return [t("forgotten.later"), ...(known ? [] : [t("forgotten.unknown")])];
}

/** Another card than the one that left, or a reader that is gone, is told as what it is. */
function doubt(error) {
  return error && error.code !== "card_removed_early" ? said(error.message) : t("in_doubt.why");
}

function timeLeft(state, screen) {
  const left = secondsLeft(state);
  if (left <= 0) return null;
  const shown = countdown(left, language());
  return h("p.left", { role: "timer" }, icon("clock"), screen === "in_doubt" ? `${t("in_doubt.left")}: ` : "", h("b", {}, shown));
}

function tells(state) {
  const checkout = state.checkout;
  const label = t(checkout.kind === "reversal" ? "return.of" : "sale.of", { receipt: "" });
  const known = isDecided(checkout);
  if (checkout.kind === "enrolment") return person(state);
  return [
    h("p.bill", {},
      h("span", {}, label, name(checkout.receipt_no)),
      checkout.amount !== null && h("strong", {}, amount(state, checkout.amount)),
    ),
    known && (checkout.card_no || checkout.member) && member(state, checkout.member),
    known && outcome(state, checkout),
    known && why(checkout),
  ];
}

/** Somebody who joins: their first name where it is known, of their number the end. */
function person({ checkout, phone, shop }) {
  const named = checkout.member?.first_name;
  return [
    h("p.bill", {}, h("span", {}, t("enrol")), phone && h("strong", { dir: "ltr" }, phoneEnd(phone, language()))),
    named && member({ shop }, checkout.member),
    checkout.points_after > 0 && h("p.big", {}, h("strong", {}, points(checkout.points_after)), " ", t("points")),
  ];
}

function buttons(state, screen, act) {
  const button = (kind, text, onclick, focus = false) =>
    h(`button.${kind}`, { key: text, type: "button", disabled: state.asking, onclick, focus }, text);
  const next = button("primary", t("next"), act.dismiss, true);
  if (["waiting", "problem"].includes(screen)) return [forgotten(state, button, act), button("plain", t("cancel"), act.cancel)];
  if (screen === "in_doubt") return secondsLeft(state) > 0 ? button("plain", t("leave"), act.leave) : next;
  if (screen === "failed") return [instead(state, button, act), next];
  return ["reading", "writing"].includes(screen) ? null : next;
}

/** A customer who has no card with them, as it turns out now: for sales that this page began. */
function forgotten({ checkout, own }, button, act) {
  return checkout.id === own && checkout.kind === "purchase" && !checkout.redeem_points && button("plain", t("forgotten"), act.forgotNow);
}

/** A redemption that was too large can be had smaller with one touch. */
function instead(state, button, act) {
  const { error, kind } = state.checkout;
  const most = error?.redeemable_points;
  const smaller = kind === "purchase" && most > 0 && most < state.checkout.redeem_points;
  return smaller && button("spend", t("spend.instead", { points: points(most) }), () => act.sellAgain(most));
}
