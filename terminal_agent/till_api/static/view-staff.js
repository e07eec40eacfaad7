// A supervisor's word in place, and the administrator's sheet: people, their PINs, roles and cards, paired programs.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { date } from "./numbers.js";
import { amount, name, refused } from "./parts.js";
import { language, tokenId } from "./preferences.js";
import { t } from "./words.js";

const ROLES = ["cashier", "supervisor", "administrator"];

export function approvalSheet(state, act) {
  const submit = (event) => {
    event.preventDefault();
    const { supervisor, pin } = event.target.elements;
    act.approve(supervisor.value, pin.value);
    pin.value = "";
  };
  const others = state.shop.cashiers.filter((who) => who !== state.session?.cashier);
  return [
    h("h1", { id: "sheet-title" }, t("approval.title")),
    h("p", {}, t("approval.why")),
    h("p.bill", {}, h("span", {}, t("return.of", { receipt: "" }), name(state.sheet.sale.receipt_no)),
      h("strong", {}, state.sheet.body.amount ? amount(state, state.sheet.body.amount) : t("return.whole"))),
    h("form.fields-of", { onsubmit: submit, autocomplete: "off" },
      h("label", { for: "supervisor" }, t("approval.who")),
      h("select", { id: "supervisor", name: "supervisor", autofocus: others.length > 1 }, others.map((who) => h("option", { value: who }, who))),
      pinField("approval-pin", t("sign-in.pin"), true, others.length === 1),
      refused(state),
      h("div.actions", {}, h("button.primary", { type: "submit", disabled: state.asking }, t("approval.go"))),
    ),
  ];
}

export function staffSheet(state, act) {
  return [
    h("h1", { id: "sheet-title" }, t("staff")),
    refused(state),
    h("h2", {}, icon("people"), t("staff.people")),
    h("div.list", {}, state.people.map((who, place) => person(state, who, place, act)), newcomer(state, act)),
    h("h2", {}, icon("screen"), t("staff.programs")),
    h("div.list", {}, state.programs.map((program) => paired(state, program, act))),
  ];
}

function person(state, who, place, act) {
  const submit = (event) => {
    event.preventDefault();
    const { role, pin } = event.target.elements;
    act.changePerson(who, role.value, pin.value);
    pin.value = "";
  };
  const button = (kind, label, onclick, disabled = state.asking) => h(`button.${kind}`, { type: "button", disabled, onclick }, t(label));
  return h("details", { key: `person ${who.name}` },
    h("summary", {}, name(who.name), h("em.tag", {}, t(`role.${who.role}`)), who.card && h("em.tag", {}, t("staff.has-card"))),
    h("form.fields-of", { onsubmit: submit, autocomplete: "off" },
      roleField(`role-${place}`, who.role),
      pinField(`pin-${place}`, t("staff.new-pin"), false),
      h("div.actions", {}, h("button.primary", { type: "submit", disabled: state.asking }, t("staff.save"))),
      h("div.actions", {},
        who.card ? button("plain", "staff.take-card", () => act.giveCard(who, true))
          : button("plain", state.cardPresent ? "staff.give-card" : "staff.lay-card", () => act.giveCard(who, false), !state.cardPresent),
        button("danger", "staff.remove", () => act.removePerson(who)),
      ),
    ),
  );
}

function newcomer(state, act) {
  const submit = (event) => {
    event.preventDefault();
    const { who, role, pin } = event.target.elements;
    act.addPerson(who.value.trim(), role.value, pin.value, event.target);
  };
  return h("details", { key: "newcomer" },
    h("summary", {}, icon("join"), t("staff.add")),
    h("form.fields-of", { onsubmit: submit, autocomplete: "off" },
      h("label", { for: "newcomer" }, t("staff.name")),
      h("input", { id: "newcomer", name: "who", dir: "auto", required: true, maxlength: 64, autocomplete: "off" }),
      roleField("newcomer-role", "cashier"),
      pinField("newcomer-pin", t("staff.pin"), true),
      h("div.actions", {}, h("button.primary", { type: "submit", disabled: state.asking }, t("staff.add"))),
    ),
  );
}

function roleField(id, chosen) {
  const option = (role) => h("option", { value: role, selected: role === chosen }, t(`role.${role}`));
  return [h("label", { for: id }, t("role")), h("select", { id, name: "role" }, ROLES.map(option))];
}

function pinField(id, label, required, autofocus = false) {
  return [
    h("label", { for: id }, label),
    h("input", { id, name: "pin", type: "password", inputmode: "numeric", dir: "ltr", required, autofocus, maxlength: 12, autocomplete: "off" }),
  ];
}

function paired(state, program, act) {
  return h("details", { key: `program ${program.token_id}` },
    h("summary", {}, name(program.name), h("span.quiet", {}, date(program.created_at, language())),
      program.token_id === tokenId() && h("em.tag", {}, t("staff.this-page"))),
    h("p.quiet", {}, t("staff.revoke-why")),
    h("div.actions", {}, h("button.danger", { type: "button", disabled: state.asking, onclick: () => act.revoke(program) }, t("staff.revoke"))),
  );
}
