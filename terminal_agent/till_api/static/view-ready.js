// The screen between two sales: an amount to type, whose card lies there, the latest sales.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { digits, moved, timeOfDay, typedShown } from "./numbers.js";
import { amount, keypad, member, name, points, refusal } from "./parts.js";
import { language } from "./preferences.js";
import { redeemable } from "./state.js";
import { t } from "./words.js";

const KEYS = ["7", "8", "9", "4", "5", "6", "1", "2", "3", "000", "0"];

export function readyView(state, act) {
  return h("main.ready", { key: "ready" },
    h("section.sale", { "aria-label": t("amount") },
      amountField(state, act),
      keypad(KEYS, act.key, act.erase),
      state.problem && !state.sheet && refusal(state.problem.body),
      actions(state, act),
    ),
    h("section.side", {}, withoutCard(state, act), state.cardPresent ? cardPanel(state) : h("p.hint", {}, icon("card"), t("spend.hint")), sales(state, act)),
  );
}

/** For customers who have no card, or not with them. */
function withoutCard(state, act) {
  return h("div.quick", {},
    h("button.plain.iconed", { type: "button", onclick: () => act.enrolling() }, icon("join"), t("enrol")),
    h("button.plain.iconed", { type: "button", disabled: !state.typed, onclick: act.forgot }, icon("phone"), t("forgotten")),
  );
}

function amountField(state, act) {
  const unit = state.shop.unit;
  return h("div.fields", {},
    h("div.field.amount", {},
      h("label", { for: "amount" }, t("amount")),
      h("div.entry", {},
        h("input", {
          id: "amount", inputmode: "none", autocomplete: "off", dir: "ltr", placeholder: digits("0", language()), focus: true,
          value: typedShown(state.typed, unit, language()),
          oninput: (event) => act.type(event.target),
        }),
        h("span.unit", {}, unit.name[language()]),
      ),
    ),
    h("div.field", {},
      h("label", { for: "receipt" }, t("receipt")),
      h("input", {
        id: "receipt", autocomplete: "off", dir: "auto", maxlength: 64, placeholder: t("receipt.auto"), value: state.receipt,
        oninput: (event) => act.typeReceipt(event.target.value),
      }),
    ),
  );
}

function actions(state, act) {
  const most = redeemable(state);
  const cannot = !state.typed || state.asking;
  const spend = most > 0 && h("button.spend", { type: "button", disabled: state.asking, onclick: () => act.sell(most) },
    h("span", {}, t("spend", { points: points(most) })),
    h("small", {}, t("spend.worth", { money: amount(state, most * state.shop.redeem.amount_per_point) })),
  );
  return h("div.actions", {}, spend,
    h("button.primary", { type: "button", disabled: cannot, onclick: () => act.sell(0) }, t(state.cardPresent ? "earn" : "take")),
  );
}

function cardPanel(state) {
  const card = state.card;
  if (!card) return h("div.panel.card-here", {}, h("p.quiet", {}, icon("card"), t("card.looking")));
  if (card.error) return h("div.panel.card-here", {}, refusal(card.error));
  return h("div.panel.card-here", {},
    h("h2", {}, icon("card"), t("card.here")),
    member(state, { first_name: card.member?.first_name, tier: card.tier }),
    h("p.big", {}, h("strong", {}, points(card.points)), " ", t("points")),
  );
}

function sales(state, act) {
  return h("div.panel.sales", {},
    h("h2", {}, icon("clock"), t("sales")),
    state.sales.length ? h("ul", {}, state.sales.map((sale) => row(state, sale, act))) : h("p.quiet", {}, t("sales.none")),
  );
}

function row(state, sale, act) {
  const moves = sale.points_earned - sale.points_redeemed;
  const mark = sale.state === "in_doubt" ? "sale.in_doubt" : sale.state === "closed" ? "sale.closed" : null;
  return h("li", { key: sale.id },
    h("button.row", { type: "button", onclick: () => act.sheet({ kind: "sale", sale }) },
      h("span.when", {}, timeOfDay(sale.at, language())),
      h("span.who", {}, name(sale.member?.first_name || t("member")),
        sale.kind === "reversal" && h("em.tag", {}, t("sale.return")),
        mark && h("em.tag.warn", {}, t(mark))),
      h("span.sum", {}, amount(state, sale.amount)),
      h("span.moves", {}, moved(moves, language())),
    ),
  );
}
