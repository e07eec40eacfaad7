// What surrounds every screen: the shop's name, how the till fares, banners that block nothing, sheets.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { date, moved, number, timeOfDay } from "./numbers.js";
import { amount, figure, name, refusal } from "./parts.js";
import { isMuted, language, theme } from "./preferences.js";
import { isOffline } from "./state.js";
import { t } from "./words.js";

export function header(state, act) {
  const tool = (label, drawing, onclick) => h("button.tool", { type: "button", title: label, "aria-label": label, onclick }, icon(drawing));
  return h("header", { key: "header" },
    h("p.shop", {}, name(state.shop?.name || t("title"))),
    state.session && h("button.who", { type: "button", "aria-label": `${state.session.cashier}: ${t("sign-out")}`, title: t("sign-out"), onclick: act.signOut }, icon("person"), name(state.session.cashier)),
    state.status && health(state, act),
    h("nav", {},
      state.paired && h("a.tool", { href: "/customer", target: "customer", title: t("customer.view"), "aria-label": t("customer.view") }, icon("screen")),
      tool(t(isMuted() ? "sound.off" : "sound.on"), isMuted() ? "muted" : "loud", act.toggleSound),
      tool(t(`theme.${theme()}`), theme(), act.nextTheme),
      h("button.tool.language", { type: "button", lang: language() === "fa" ? "en" : "fa", "aria-label": t("language.to"), onclick: act.nextLanguage }, t("language")),
    ),
  );
}

function health(state, act) {
  const { reader, crm, pending } = state.status;
  const waits = pending > 0 && isOffline(state) ? t("waits", { count: number(pending, language()) }) : t(`health.crm.${crm.state}`);
  const bad = (is) => ({ "data-bad": is ? "yes" : false });
  return h("button.health", { type: "button", onclick: () => act.sheet("health") },
    h("span.unseen", {}, t("health"), ": "),
    h("span.pill", bad(reader.state === "lost"), icon("reader"), h("span", {}, t(`health.reader.${reader.state}`))),
    h("span.pill", bad(isOffline(state)), icon(isOffline(state) ? "offline" : "online"), h("span", {}, waits)),
  );
}

export function banner(state) {
  const key = state.line === "down" ? "lost" : state.status?.reader.state === "lost" ? "reader.lost"
    : state.status?.crm.state === "unauthorized" ? "unauthorized" : state.status?.crm.state === "down" ? "offline" : null;
  const drawing = key === "offline" || key === "lost" ? "offline" : "warning";
  return h("div.banner", { key: "banner", role: "status", "data-kind": key ?? "none" }, key && [icon(drawing), h("span", {}, t(key))]);
}

export function sheet(state, act) {
  if (!state.sheet) return null;
  const body = state.sheet === "health" ? healthSheet(state) : saleSheet(state, state.sheet, act);
  return h("dialog", { key: state.sheet.id ?? "health", modal: true, "aria-labelledby": "sheet-title", oncancel: (event) => { event.preventDefault(); act.sheet(null); } },
    body,
    h("div.actions", {}, h("button.plain", { type: "button", autofocus: true, onclick: () => act.sheet(null) }, t("close"))),
  );
}

function healthSheet({ status, problem }) {
  const count = (value) => number(value, language());
  const { reader, crm } = status;
  const age = status.oldest_pending_age_s;
  return [
    h("h1", { id: "sheet-title" }, t("health")),
    problem && refusal(problem.body),
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

function saleSheet(state, sale, act) {
  const mayReturn = sale.kind === "purchase" && sale.state !== "in_doubt";
  return [
    h("h1", { id: "sheet-title" }, t("sale.of", { receipt: "" }), name(sale.receipt_no)),
    h("dl.figures", {},
      figure(t("amount"), amount(state, sale.amount)),
      figure(t("sale.time"), `${date(sale.at, language())} ${timeOfDay(sale.at, language())}`),
      figure(t("sale.earned"), moved(sale.points_earned, language())),
      sale.points_redeemed !== 0 && figure(t("sale.redeemed"), number(sale.points_redeemed, language())),
      figure(t("sale.card"), name(sale.card_no)),
    ),
    mayReturn && returnForm(state, sale, act),
    state.problem && refusal(state.problem.body),
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
