// What the buttons do that ask who stands there: signing in, a supervisor's word, the administrator's sheet.

import { foldDigits } from "./numbers.js";
import { isAdministrator } from "./state.js";

export function staffActs(store, { opened }) {
  /** What changes people answers with everybody. */
  async function people(path, body) {
    const answer = await store.open(path, body);
    if (!answer) return null;
    store.change({ type: "people", ...answer });
    store.readShop();
    return answer;
  }

  return {
    choose: (who) => store.change({ type: "who", who }),
    signIn: (pin) => signIn(store, { cashier: store.state.who, pin: foldDigits(pin).trim() }),
    signInByCard: () => signIn(store, { card: true }),
    signOut: () => store.request("/v1/sessions/end").then(() => store.signed(null)),
    async approve(cashier, pin) {
      const { body } = store.state.sheet;
      const asked = { cashier, pin: foldDigits(pin).trim(), receipt_no: body.receipt_no };
      const given = await store.open("/v1/approvals", body.amount ? { ...asked, amount: body.amount } : asked);
      if (given) opened("/v1/reversals", body, given.approval);
    },
    async staff() {
      const [cashiers, tokens] = [await store.find("/v1/cashiers"), await store.find("/v1/tokens")];
      if (!cashiers || !tokens || !isAdministrator(store.state)) return;
      store.change({ type: "people", ...cashiers });
      store.change({ type: "programs", ...tokens });
      store.change({ type: "sheet", sheet: { kind: "staff" } });
    },
    changePerson(who, role, pin) {
      const given = foldDigits(pin).trim();
      people("/v1/cashiers/change", { name: who.name, role, ...(given && { pin: given }) });
    },
    async addPerson(name, role, pin, form) {
      if (await people("/v1/cashiers", { name, role, pin: foldDigits(pin).trim() })) form.reset();
    },
    giveCard: (who, remove) => people("/v1/cashiers/card", { name: who.name, remove }),
    removePerson: (who) => people("/v1/cashiers/remove", { name: who.name }),
    async revoke(program) {
      const answer = await store.open("/v1/tokens/revoke", { token_id: program.token_id });
      if (answer) store.change({ type: "programs", ...answer });
    },
  };
}

async function signIn(store, body) {
  const given = await store.open("/v1/sessions", body);
  if (given) store.signed(given);
}
