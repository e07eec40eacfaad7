// The state of a page, kept up to date from the till. Both pages, the cashier's and the customer's, follow the same.

import { Api, Problem } from "./api.js";
import { session, suggestLanguage, token } from "./preferences.js";
import { initial, isOpen, reduce, screenOf } from "./state.js";
import { Stream } from "./stream.js";

const STATUS_EVERY_MS = 5000;
const SALES_SHOWN = 10;

export class Store {
  #stream = null;
  #told;

  /** `told(state, before, action)` after each change. `looksAtCards`: read a card that is laid down between sales. */
  constructor(told, { looksAtCards = true } = {}) {
    this.state = initial;
    this.looksAtCards = looksAtCards;
    this.api = null;
    this.#told = told;
  }

  change(action) {
    const before = this.state;
    this.state = reduce(before, action);
    if (this.state !== before) this.#told(this.state, before, action);
  }

  start() {
    setInterval(() => this.#tick(), 1000);
    setInterval(() => this.api && this.#ask("/v1/status", (status) => this.change({ type: "status", status })), STATUS_EVERY_MS);
    this.#tick();
    if (token.get()) this.follow();
  }

  /** Countdowns are counted from what the clock says now. */
  #tick() {
    this.change({ type: "tick", now: Date.now() });
  }

  /** With the token that this browser keeps now. */
  follow() {
    const kept = session.get();
    this.api = new Api(token.get(), kept?.session);
    this.change({ type: "paired" });
    this.change({ type: "session", session: kept });
    this.#stream = new Stream(token.get(), (name, data) => this.#event(name, data), (line, status) => this.#line(line, status));
    this.#stream.run();
  }

  /** Somebody signed in, or nobody any more. */
  signed(given) {
    if (given) session.keep(given);
    else session.forget();
    this.api.session = given?.session ?? null;
    this.change({ type: "session", session: given });
    this.readShop();
    if (this.state.cardPresent) this.look();
  }

  unpair() {
    this.#stream?.end();
    this.api = null;
    token.forget();
    session.forget();
    this.change({ type: "unpaired" });
  }

  /** A request that opens something: one at a time, whatever is pressed meanwhile. The answer, or null. */
  async open(path, body, approval) {
    if (this.state.asking) return null;
    this.change({ type: "asking", asking: true });
    const answer = await this.request(path, body, approval);
    this.#tick();
    this.change({ type: "asking", asking: false });
    return answer;
  }

  /** A request of the cashier's; its refusal is shown. The answer, or null. */
  request(path, body, approval) {
    return this.#shown((api) => api.post(path, body, approval));
  }

  /** A question of the cashier's; its refusal is shown. The answer, or null. */
  find(path) {
    return this.#shown((api) => api.get(path));
  }

  async #shown(asking) {
    this.change({ type: "refused", problem: null });
    try {
      return await asking(this.api ?? new Api(null));
    } catch (problem) {
      this.#refused(problem);
      return null;
    }
  }

  #refused(problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.status === 401) this.unpair();
    if (problem.body?.code === "sign_in_required") this.signed(null);
    this.change({ type: "refused", problem });
  }

  #line(line, status) {
    if (status === 401) {
      this.unpair();
      return;
    }
    this.change({ type: "line", line });
    if (line === "up") this.#refresh();
  }

  /** Whatever was missed while the line was down. */
  #refresh() {
    this.readShop();
    this.#ask("/v1/status", (status) => this.change({ type: "status", status }));
    this.#ask("/v1/reader", (reader) => {
      this.change({ type: "reader", cardPresent: reader.card_present });
      if (reader.card_present) this.look();
    });
    this.#readSales();
    if (isOpen(this.state)) this.#readCheckout();
  }

  /** What became of the checkout on the screen. One that nobody knows any more is not shown on. */
  #readCheckout() {
    const known = this.state.checkout; // an event that comes before the answer is newer
    const told = (action) => this.state.checkout === known && this.change(action);
    const gone = (problem) => problem.status === 404 && told({ type: "dismissed" });
    this.#ask(`/v1/checkouts/${known.id}`, (data) => told({ type: "checkout.changed", data }), gone);
  }

  /** The shop's name, rules and cashiers. */
  readShop() {
    this.#ask("/v1/shop", (shop) => {
      suggestLanguage(shop.language);
      this.change({ type: "shop", shop });
    });
  }

  #readSales() {
    this.#ask(`/v1/checkouts?limit=${SALES_SHOWN}`, (found) => this.change({ type: "sales", ...found }));
  }

  #event(name, data) {
    this.#tick();
    this.change({ type: name, data });
    if (name === "card.presented" && !isOpen(this.state)) this.look();
    if (name === "checkout.changed" && ["done", "in_doubt", "closed"].includes(data.state)) this.#readSales();
  }

  /** Whose card lies on the reader. The checkout that may have begun meanwhile goes before. */
  look() {
    if (!this.looksAtCards || screenOf(this.state) === "sign-in") return;
    this.#ask("/v1/card", (card) => this.change({ type: "card", card }), (problem) => {
      const silent = !problem.body || ["busy", "no_card_timeout", "card_removed_early"].includes(problem.body.code);
      if (!silent) this.change({ type: "card", card: { error: problem.body } });
    });
  }

  async #ask(path, take, failed = () => {}) {
    const api = this.api;
    try {
      const answer = await api.get(path);
      if (api === this.api) take(answer);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (problem.status === 401 && api === this.api) this.unpair();
      else failed(problem);
    }
  }
}
