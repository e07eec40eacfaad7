// The screens of a checkout: one large sign, one sentence, what comes of it, at most two buttons.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { countdown } from "./numbers.js";
import { amount, member, name, outcome, points, why } from "./parts.js";
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
  const error = state.checkout.error;
  if (screen === "problem") return said(error.message);
  if (screen === "done" && state.lifted) return t("done.lifted");
  return t(screen);
}

/** What the title leaves open: the next action above all. */
export function sentences(state, screen) {
  const { error, replayed } = state.checkout;
  if (screen === "in_doubt") return [doubt(error), ...(secondsLeft(state) > 0 ? [] : [t("in_doubt.later")])];
  if (screen === "problem") return [said(error.action)];
  if (screen === "failed" && error) return [said(error.message), said(error.action)];
  if (screen === "closed") return [t("closed.why")];
  return replayed ? [t("replayed")] : [];
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
  const known = checkout.points_before !== null;
  return [
    h("p.bill", {},
      h("span", {}, label, name(checkout.receipt_no)),
      checkout.amount !== null && h("strong", {}, amount(state, checkout.amount)),
    ),
    known && member(state, checkout.member),
    known && outcome(state, checkout),
    known && why(checkout),
  ];
}

function buttons(state, screen, act) {
  const button = (kind, text, onclick, focus = false) =>
    h(`button.${kind}`, { key: text, type: "button", disabled: state.asking, onclick, focus }, text);
  const next = button("primary", t("next"), act.dismiss, true);
  if (["waiting", "problem"].includes(screen)) return button("plain", t("cancel"), act.cancel);
  if (screen === "in_doubt") return secondsLeft(state) > 0 ? button("plain", t("leave"), act.leave) : next;
  if (screen === "failed") return [instead(state, button, act), next];
  return ["reading", "writing"].includes(screen) ? null : next;
}

/** A redemption that was too large can be had smaller with one touch. */
function instead(state, button, act) {
  const { error, kind } = state.checkout;
  const most = error?.redeemable_points;
  const smaller = kind === "purchase" && most > 0 && most < state.checkout.redeem_points;
  return smaller && button("spend", t("spend.instead", { points: points(most) }), () => act.sellAgain(most));
}
