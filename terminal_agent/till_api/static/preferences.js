// What this browser remembers by itself. The token is all that opens the till: it goes into no address and no log.

const THEMES = ["auto", "light", "dark"];

export const token = {
  get: () => localStorage.getItem("token"),
  keep: (value) => localStorage.setItem("token", value),
  forget: () => localStorage.removeItem("token"),
};

/** Which of the paired programs this browser is. */
export function tokenId() {
  return localStorage.getItem("token_id");
}

export function keepTokenId(id) {
  localStorage.setItem("token_id", id);
}

/** Who is signed in: for this tab alone, until it is closed. */
export const session = {
  get: () => JSON.parse(sessionStorage.getItem("session")),
  keep: (value) => sessionStorage.setItem("session", JSON.stringify(value)),
  forget: () => sessionStorage.removeItem("session"),
};

export function language() {
  return document.documentElement.lang;
}

export function chooseLanguage(chosen) {
  localStorage.setItem("language", chosen);
  showLanguage(chosen);
}

/** The shop's language, until somebody chooses one here. */
export function suggestLanguage(shops) {
  if (!localStorage.getItem("language")) showLanguage(shops);
}

function showLanguage(chosen) {
  document.documentElement.lang = chosen;
  document.documentElement.dir = chosen === "fa" ? "rtl" : "ltr";
}

export function theme() {
  return document.documentElement.dataset.theme;
}

export function nextTheme() {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  localStorage.setItem("theme", next);
  document.documentElement.dataset.theme = next;
}

export function isMuted() {
  return localStorage.getItem("muted") === "yes";
}

export function toggleMuted() {
  localStorage.setItem("muted", isMuted() ? "no" : "yes");
}

/** Another tab or the customer's view changed something. */
export function whenChangedElsewhere(tell) {
  addEventListener("storage", (event) => {
    if (event.key === "language" && event.newValue) showLanguage(event.newValue);
    if (event.key === "theme") document.documentElement.dataset.theme = event.newValue || "auto";
    tell(event.key);
  });
}
