// Before anything is painted: language, direction and colours as this browser was left. A classic script on purpose.
"use strict";
(() => {
  const root = document.documentElement;
  const language = localStorage.getItem("language");
  if (language) {
    root.lang = language;
    root.dir = language === "fa" ? "rtl" : "ltr";
  }
  root.dataset.theme = localStorage.getItem("theme") || "auto";
})();
