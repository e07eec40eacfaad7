// What surrounds every screen: the shop's name, how the till fares, banners that block nothing.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { number } from "./numbers.js";
import { name } from "./parts.js";
import { isMuted, language, theme } from "./preferences.js";
import { isAdministrator, isOffline } from "./state.js";
import { t } from "./words.js";

export function header(state, act) {
  const tool = (label, drawing, onclick) => h("button.tool", { type: "button", title: label, "aria-label": label, onclick }, icon(drawing));
  return h("header", { key: "header" },
    h("p.shop", {}, name(state.shop?.name || t("title"))),
    state.session && h("button.who", { type: "button", "aria-label": `${state.session.cashier}: ${t("sign-out")}`, title: t("sign-out"), onclick: act.signOut }, icon("person"), name(state.session.cashier)),
    state.status && health(state, act),
    h("nav", {},
      isAdministrator(state) && tool(t("staff"), "people", act.staff),
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
  return h("button.health", { type: "button", onclick: () => act.sheet({ kind: "health" }) },
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
