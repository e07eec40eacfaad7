// What lies before a screen until it is closed: one sheet at a time.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { cardNumber, date, moved, number, timeOfDay } from "./numbers.js";
import { amount, figure, name, refused } from "./parts.js";
import { language } from "./preferences.js";
import { enrolSheet, forgottenSheet } from "./view-member.js";
import { approvalSheet, staffSheet } from "./view-staff.js";
import { t } from "./words.js";

const SHEETS = {
  health: healthSheet, sale: saleSheet, enrol: enrolSheet, forgotten: forgottenSheet, approval: approvalSheet, staff: staffSheet,
};

export function sheet(state, act) {
  if (!state.sheet) return null;
  const { kind, sale } = state.sheet;
  const close = (event) => {
    event.preventDefault();
    act.sheet(null);
  };
  return h("dialog", { key: `${kind} ${sale?.id ?? ""}`, class: `sheet-${kind}`, modal: true, "aria-labelledby": "sheet-title", oncancel: close },
    SHEETS[kind](state, act),
    h("div.actions", {}, h("button.plain", { type: "button", autofocus: ["health", "sale", "staff"].includes(kind), onclick: close }, t("close"))),
  );
}

function healthSheet(state) {
  const { status } = state;
  const count = (value) => number(value, language());
  const { reader, crm } = status;
  const age = status.oldest_pending_age_s;
  return [
    h("h1", { id: "sheet-title" }, t("health")),
    refused(state),
    h("dl.figures", {},
      figure(t("health.reader"), [t(`health.reader.${reader.state}`), reader.name && [" · ", name(reader.name)]]),
      figure(t("health.crm"), t(`health.crm.${crm.state}`)),
      figure(t("health.pending"), count(status.pending)),
      age > 60 && figure(t("health.oldest"), t("health.minutes", { count: count(Math.floor(age / 60)) })),
      figure(t("health.in_doubt"), count(status.in_doubt)),
      figure(t("health.quarantined"), count(status.quarantined)),
      figure(t("health.terminal"), name(status.terminal_id)),
      figure(t("health.version"), name(status.version)),
    ),
    reader.hint && h("p.quiet", { dir: "ltr", lang: "en" }, reader.problem, " ", reader.hint),
  ];
}

function saleSheet(state, act) {
  const { sale } = state.sheet;
  const mayReturn = sale.kind === "purchase" && sale.state !== "in_doubt";
  return [
    h("h1", { id: "sheet-title" }, t("sale.of", { receipt: "" }), name(sale.receipt_no)),
    h("dl.figures", {},
      figure(t("amount"), amount(state, sale.amount)),
      figure(t("sale.time"), `${date(sale.at, language())} ${timeOfDay(sale.at, language())}`),
      figure(t("sale.earned"), moved(sale.points_earned, language())),
      sale.points_redeemed !== 0 && figure(t("sale.redeemed"), number(sale.points_redeemed, language())),
      figure(t("sale.card"), sale.card_no ? name(cardNumber(sale.card_no)) : t("sale.no-card")),
    ),
    mayReturn && returnForm(state, sale, act),
    refused(state),
  ];
}

function returnForm(state, sale, act) {
  const part = (event) => {
    event.preventDefault();
    act.giveBack(sale, event.target.elements.part.value);
  };
  return h("form.return", { onsubmit: part, autocomplete: "off" },
    h("h2", {}, icon("back"), t("return.title")),
    h("button.danger", { type: "button", disabled: state.asking, onclick: () => act.giveBack(sale, null) }, t("return.whole")),
    h("label", { for: "part" }, `${t("return.amount")} (${state.shop.unit.name[language()]})`),
    h("div.together", {},
      h("input", { id: "part", name: "part", inputmode: "numeric", dir: "ltr", required: true, maxlength: 20, oninput: (event) => { event.target.value = act.formatted(event.target.value); } }),
      h("button.plain", { type: "submit", disabled: state.asking }, t("return.part")),
    ),
  );
}
