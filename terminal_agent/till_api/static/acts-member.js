// What the buttons of the members' sheets do. `opened(path, body)` opens a checkout and shows it.

import { Problem } from "./api.js";

const WAITS_S = 120;

export function memberActs(store, { opened, amountTyped, receiptTyped }) {
  const sheet = (shown, phone) => store.change({ type: "sheet", sheet: shown, phone });
  return {
    enrolling: (phone) => sheet({ kind: "enrol" }, phone),
    forgot: () => sheet({ kind: "forgotten", amount: amountTyped(), receipt: receiptTyped() }),
    /** The card turns out to be at home while the till waits for it. */
    async forgotNow() {
      const { id, amount, receipt_no: receipt } = store.state.checkout;
      if (await store.request(`/v1/checkouts/${id}/cancel`)) {
        store.change({ type: "dismissed" });
        sheet({ kind: "forgotten", amount, receipt });
      }
    },
    typePhone: (text) => store.change({ type: "phone", text }),
    phoneKey: (key) => store.change({ type: "phone.key", key }),
    phoneErase: () => store.change({ type: "phone.erased" }),
    async lookUp() {
      const { phone } = store.state;
      store.change({ type: "asking", asking: true });
      const found = await store.api.get(`/v1/members?phone=${encodeURIComponent(phone)}`).catch(refused);
      store.change({ type: "asking", asking: false });
      if (store.state.phone === phone) store.change({ type: "found", found });
    },
    sellByPhone() {
      const { sheet: { amount, receipt }, phone, shop } = store.state;
      opened("/v1/checkouts", { amount, currency: shop.currency, receipt_no: receipt, phone });
    },
    enrol({ name, consent, card }) {
      const body = { phone: store.state.phone, card, marketing_consent: consent, expires_in_s: WAITS_S };
      opened("/v1/enrolments", name ? { ...body, name } : body);
    },
  };
}

/** An answer of its own kind: nobody has this phone, nobody can say now. */
function refused(problem) {
  if (!(problem instanceof Problem)) throw problem;
  return { error: problem.body ?? { code: "crm_unreachable" } };
}
