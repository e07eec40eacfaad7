// How both screens begin: what another window changes is heard, then the first picture, then the till.

import * as preferences from "./preferences.js";

export function begin(store, render) {
  preferences.whenChangedElsewhere((key) => {
    if (key === "token" && preferences.token.get() && !store.state.paired) store.follow();
    render(store.state);
  });
  addEventListener("invalid", stay, true);
  document.documentElement.dataset.screen = "pair";
  render(store.state);
  store.start();
}

/** A field that must be filled gets the focus; the browser's own words are not in the page's language. */
function stay(event) {
  event.preventDefault();
  event.target.form.querySelector("input:invalid").focus();
}
