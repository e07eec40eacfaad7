// How both screens begin: what another window changes is heard, then the first picture, then the till.

import * as preferences from "./preferences.js";

export function begin(store, render) {
  preferences.whenChangedElsewhere((key) => {
    if (key === "token" && preferences.token.get() && !store.state.paired) store.follow();
    render(store.state);
  });
  document.documentElement.dataset.screen = "pair";
  render(store.state);
  store.start();
}
