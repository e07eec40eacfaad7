// What is on the screen, as one value, and how each thing that happens changes it. Pure: no clock, no network, no page.

import { amountOf, typedAmount, typedPhone } from "./numbers.js";

export const initial = {
  paired: false,
  line: "connecting", // to the agent itself: connecting, up, down
  session: null, // who is signed in: {session, cashier, role}
  who: null, // the name chosen on the way there
  shop: null, // GET /v1/shop
  status: null, // GET /v1/status
  cardPresent: false,
  card: null, // the card that lies on the reader while no checkout is open: GET /v1/card, or {error}
  checkout: null, // the one on the screen, whole, as checkout.changed told it
  own: null, // the id of the last checkout that this page opened
  heard: [], // the ids of those that events told of lately, while the line was up
  lifted: false, // its card was taken away since it ended
  fresh: false, // a card came since the last problem
  sales: [],
  typed: "", // the amount's digits
  receipt: "", // empty: one is made up
  asking: false, // a request of this page is under way
  problem: null, // why the last request was refused
  sheet: null, // {kind: "health" | "sale" | "enrol" | "forgotten" | "approval" | "staff", …} before the screen
  phone: "", // the digits typed in a sheet, or those of the person on the screen
  found: null, // who has this phone: GET /v1/members, or {error}
  people: [], // GET /v1/cashiers, for administrators
  programs: [], // GET /v1/tokens, likewise
  now: 0, // ms, for countdowns
};

const ENDED = new Set(["done", "failed", "expired", "cancelled", "closed"]);
const HEARD = 20;
const AT_WORK = new Set(["waiting_for_card", "reading", "writing"]);

export function reduce(state, action) {
  const change = CHANGES[action.type];
  return change ? { ...state, ...change(state, action) } : state;
}

const CHANGES = {
  paired: () => ({ paired: true, problem: null }),
  unpaired: () => ({ ...initial }),
  session: (_, { session }) => ({ session, who: null, typed: "", sheet: null, people: [], programs: [], problem: null }),
  who: (_, { who }) => ({ who, problem: null }),
  line: (state, { line }) => ({ line, heard: line === "up" ? state.heard : [] }),
  shop: (_, { shop }) => ({ shop }),
  status: (_, { status }) => ({ status }),
  tick: (_, { now }) => ({ now }),
  reader: (_, { cardPresent }) => ({ cardPresent, ...(cardPresent ? {} : { card: null }) }),
  sales: (state, { open, checkouts }) => ({ sales: checkouts, ...(open ? answered(state, open) : {}) }),
  card: (state, { card }) => (state.cardPresent && !isOpen(state) ? { card } : {}),
  typed: (_, { text }) => ({ typed: typedAmount(text), problem: null }),
  key: (state, { key }) => ({ typed: typedAmount(state.typed + key), problem: null }),
  erased: (state) => ({ typed: state.typed.slice(0, -1), problem: null }),
  cleared: () => ({ typed: "", receipt: "", problem: null }),
  receipt: (_, { text }) => ({ receipt: text }),
  asking: (_, { asking }) => ({ asking }),
  refused: (_, { problem }) => ({ problem }),
  answered: (state, { checkout }) => ({ sheet: null, typed: "", receipt: "", own: checkout.id, ...answered(state, checkout) }),
  dismissed: () => ({ checkout: null, phone: "", problem: null }),
  sheet: (state, { sheet, phone = "" }) => ({ sheet, phone, found: null, problem: null }),
  phone: (_, { text }) => ({ phone: typedPhone(text), found: null, problem: null }),
  "phone.key": (state, { key }) => ({ phone: typedPhone(state.phone + key), found: null, problem: null }),
  "phone.erased": (state) => ({ phone: state.phone.slice(0, -1), found: null, problem: null }),
  found: (_, { found }) => ({ found }),
  people: (_, { cashiers }) => ({ people: cashiers }),
  programs: (_, { tokens }) => ({ programs: tokens.filter((each) => !each.revoked_at) }),
  "checkout.changed": (state, { data }) => ({ heard: [data.id, ...state.heard].slice(0, HEARD), ...shown(state, data) }),
  "card.presented": () => ({ cardPresent: true, card: null, lifted: false, fresh: true }),
  "card.removed": (state) => ({ cardPresent: false, card: null, lifted: state.checkout ? true : state.lifted }),
  "sync.changed": (state, { data }) => ({ status: state.status && { ...state.status, ...data } }),
  "reader.changed": (state, { data }) => ({ status: state.status && { ...state.status, reader: data } }),
};

/** An answer is older than the events that came meanwhile: a sale that was cancelled since must not come back. */
function answered(state, checkout) {
  return state.heard.includes(checkout.id) ? {} : shown(state, checkout);
}

function shown(state, checkout) {
  if (checkout.state === "cancelled") return state.checkout?.id === checkout.id ? { checkout: null } : {};
  const isNew = state.checkout?.id !== checkout.id;
  if (!isNew && isTriedAgain(state, checkout)) return {};
  return { checkout, card: null, fresh: state.fresh && !checkout.error, sheet: isNew ? null : state.sheet, lifted: isLifted(state, checkout, isNew) };
}

/** What was done without a card in hand has none to take away. */
function isLifted(state, checkout, isNew) {
  const needsNone = checkout.state === "done" && (checkout.sequence === null || checkout.replayed);
  return needsNone && !state.cardPresent ? true : !isNew && state.lifted;
}

/** The card that was just refused is tried twice a second as long as it lies there: what stands on the screen stays. */
function isTriedAgain(state, checkout) {
  return checkout.state === "reading" && checkout.error !== null && !state.fresh;
}

/** Which screen it is: pair, connecting, sign-in, ready, waiting, reading, writing, problem, in_doubt, done, failed, expired, closed. */
export function screenOf(state) {
  if (!state.paired) return "pair";
  if (!state.shop) return "connecting";
  const checkout = state.checkout;
  if (!checkout) return state.shop.sign_in && !state.session ? "sign-in" : "ready";
  if (checkout.state === "waiting_for_card") return checkout.error ? "problem" : "waiting";
  return checkout.state;
}

/** Whether a checkout has the till to itself. One in doubt keeps it until its time is over. */
export function isOpen(state) {
  const checkout = state.checkout;
  if (!checkout || ENDED.has(checkout.state)) return false;
  return AT_WORK.has(checkout.state) || secondsLeft(state) > 0;
}

/** Until the checkout on the screen waits no longer. */
export function secondsLeft(state) {
  return state.checkout ? (Date.parse(state.checkout.expires_at) - state.now) / 1000 : 0;
}

export function isOffline(state) {
  return ["down", "unauthorized"].includes(state.status?.crm.state);
}

/** The most points that the card on the reader may pay with for the typed amount; 0 where it may not. The till decides. */
export function redeemable(state) {
  const { card, shop, typed } = state;
  if (!card || card.error || card.problem || !typed) return 0;
  const rule = shop.redeem;
  const share = Math.floor((amountOf(typed, shop.unit) * rule.maximum_share_percent) / 100);
  const payable = Math.floor(share / rule.amount_per_point);
  const online = state.status?.crm.state === "up";
  const allowed = online ? card.points : shop.offline_points_per_card - card.redeemed_offline;
  const most = Math.min(card.points, payable, allowed);
  return most >= rule.minimum_points ? most : 0;
}

/** Who may change people and programs: a staff card alone says who somebody is and proves nothing. */
export function isAdministrator(state) {
  return state.session?.role === "administrator";
}

/** What is left to pay in money, by the rule in force now. */
export function toPay(checkout, shop) {
  return checkout.amount - (checkout.points_redeemed ?? 0) * shop.redeem.amount_per_point;
}

export function tierOf(state, name) {
  return state.shop?.tiers.find((tier) => tier.tier === name) ?? null;
}
