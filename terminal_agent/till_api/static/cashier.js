// The cashier's page: views, keys, sounds, and what the buttons do.

import { memberActs } from "./acts-member.js";
import { staffActs } from "./acts-staff.js";
import { begin } from "./begin.js";
import { h, patch } from "./dom.js";
import { amountOf, typedAmount, typedShown } from "./numbers.js";
import * as preferences from "./preferences.js";
import { play } from "./sound.js";
import { screenOf } from "./state.js";
import { Store } from "./store.js";
import { banner, header } from "./view-frame.js";
import { pairView } from "./view-pair.js";
import { readyView } from "./view-ready.js";
import { sheet } from "./view-sheets.js";
import { signInView } from "./view-sign-in.js";
import { sentences, stageView, title } from "./view-stage.js";
import { t } from "./words.js";

const DONE_SHOWN_MS = 4000;
const ENDED_SHOWN_MS = 20000;
const SALE_WAITS_S = 120;

const store = new Store(told);
let leaving = null;

const act = {
  ...memberActs(store, { opened, amountTyped, receiptTyped }),
  ...staffActs(store, { opened }),
  async pair(code) {
    const given = await store.open("/v1/pair", { code, name: "Cashier page", cashiers: true });
    if (!given) {
      document.getElementById("code")?.select(); // what is typed next takes its place
      return;
    }
    preferences.token.keep(given.token);
    preferences.keepTokenId(given.token_id);
    store.follow();
  },
  type(field) {
    store.change({ type: "typed", text: field.value });
    field.value = typedShown(store.state.typed, store.state.shop.unit, preferences.language());
  },
  typeReceipt: (text) => store.change({ type: "receipt", text }),
  key: (key) => store.change({ type: "key", key }),
  erase: () => store.change({ type: "erased" }),
  formatted: (text) => typedShown(typedAmount(text), store.state.shop.unit, preferences.language()),
  sheet: (shown) => store.change({ type: "sheet", sheet: shown }),
  sell: (redeem) => sell(amountTyped(), receiptTyped(), redeem),
  sellAgain: (redeem) => sell(store.state.checkout.amount, store.state.checkout.receipt_no, redeem),
  async giveBack(sale, part) {
    const body = { receipt_no: sale.receipt_no };
    if (part !== null) {
      body.amount = amountOf(typedAmount(part), store.state.shop.unit);
      body.reference = receiptNo(); // two returns of the same amount are two
    }
    await opened("/v1/reversals", body);
    if (store.state.problem?.body?.code === "supervisor_needed") act.sheet({ kind: "approval", sale, body });
  },
  cancel: () => store.request(`/v1/checkouts/${store.state.checkout.id}/cancel`),
  leave: () => store.request(`/v1/checkouts/${store.state.checkout.id}/leave`).then((left) => left && act.dismiss()),
  dismiss() {
    store.change({ type: "dismissed" });
    if (store.state.cardPresent) store.look();
  },
  toggleSound() {
    preferences.toggleMuted();
    if (!preferences.isMuted()) play("done");
    render(store.state);
  },
  nextTheme() {
    preferences.nextTheme();
    render(store.state);
  },
  nextLanguage() {
    preferences.chooseLanguage(preferences.language() === "fa" ? "en" : "fa");
    render(store.state);
  },
};

function sell(amount, receipt, redeem) {
  if (amount <= 0) return;
  const body = { amount, currency: store.state.shop.currency, receipt_no: receipt, expires_in_s: SALE_WAITS_S };
  opened("/v1/checkouts", redeem ? { ...body, redeem_points: redeem } : body);
}

function amountTyped() {
  return amountOf(store.state.typed, store.state.shop.unit);
}

function receiptTyped() {
  return store.state.receipt.trim() || receiptNo();
}

async function opened(path, body, approval) {
  const checkout = await store.open(path, body, approval);
  if (checkout) store.change({ type: "answered", checkout });
}

/** A number that no other sale has: the moment, and two digits of chance. */
function receiptNo() {
  const moment = new Date().toISOString().replace(/\D/g, "").slice(2, 14);
  return `${moment}-${String(crypto.getRandomValues(new Uint8Array(1))[0] % 100).padStart(2, "0")}`;
}

function told(state, before, action) {
  const screen = screenOf(state);
  if (action.type === "card.presented" || (screen === "reading" && screenOf(before) === "waiting")) sound("seen");
  if (isNews(state, before)) entered(state, screen, screenOf(before));
  render(state);
  if (action.type === "card.presented" && screen === "sign-in" && !state.who) act.signInByCard();
}

/** Another screen, or another problem on the same one. */
function isNews(state, before) {
  const isSame = screenOf(state) === screenOf(before) && state.lifted === before.lifted;
  return !isSame || (screenOf(state) === "problem" && state.checkout.error.code !== before.checkout.error.code);
}

function entered(state, screen, before) {
  document.documentElement.dataset.screen = screen;
  document.getElementById("spoken").textContent = spoken(state, screen);
  if (screen === "done" && before !== "done") sound("done");
  if (["problem", "in_doubt", "failed"].includes(screen)) sound("wrong");
  clearTimeout(leaving);
  if (screen === "done" && state.lifted) leaving = setTimeout(act.dismiss, DONE_SHOWN_MS);
  if (["failed", "expired", "closed"].includes(screen)) leaving = setTimeout(act.dismiss, ENDED_SHOWN_MS);
}

function spoken(state, screen) {
  const said = state.checkout ? [title(state, screen), ...sentences(state, screen)] : [];
  return said.map((sentence) => sentence.replace(/\.$/, "")).join(". ");
}

function sound(tune) {
  if (!preferences.isMuted()) play(tune);
}

function render(state) {
  document.title = state.shop?.name || t("title");
  const screen = screenOf(state);
  const view = screen === "pair" ? pairView(state, act)
    : screen === "connecting" ? h("main.pair", { key: "connecting" }, h("p", {}, t("connecting")))
    : screen === "sign-in" ? signInView(state, act)
    : screen === "ready" ? readyView(state, act) : stageView(state, screen, act);
  patch(document.getElementById("app"), [header(state, act), banner(state), view, sheet(state, act)]);
}

/** Keyboard alone will do: digits, Backspace, Enter and Escape, wherever the focus is. */
function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || store.state.sheet) return;
  const screen = screenOf(store.state);
  const field = event.target.localName === "input" ? event.target.id : null;
  if (screen === "ready") readyKey(event, field);
  else if (event.key === "Escape") escape(screen);
}

function readyKey(event, field) {
  const typed = typedAmount(`1${event.key}`).slice(1);
  if (event.key === "Enter" && event.target.localName !== "button") act.sell(0);
  else if (event.key === "Escape") store.change({ type: "cleared" });
  else if (field === null && event.key.length === 1 && typed) act.key(typed);
  else if (field === null && event.key === "Backspace") act.erase();
  else return;
  event.preventDefault();
}

function escape(screen) {
  if (["waiting", "problem"].includes(screen)) act.cancel();
  else if (screen !== "reading" && screen !== "writing" && screen !== "in_doubt") act.dismiss();
}

addEventListener("keydown", onKey);
// A button that was touched does not take the focus: the next Enter is meant for the sale, not for the same key again.
addEventListener("mousedown", (event) => event.target.closest("button") && event.preventDefault());
begin(store, render);
