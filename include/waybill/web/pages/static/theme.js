// Light or dark, the direction of the text, and clicks and searches that come early. A plain script in the head, so that it has run before the first paint.
"use strict";

(function followTheParent() {
  // Inside Airflow the page stands in a same-origin frame: light or dark and the direction are those of the page around it.
  const own = document.documentElement;
  let outer = null;
  try {
    if (window.parent !== window) outer = window.parent.document.documentElement;
  } catch {
    outer = null;
  }
  if (!outer) return;
  own.dataset.framed = "";
  const rightToLeft = /^(ar|dv|fa|he|iw|ku|ps|ur|yi)\b/i;
  const follow = () => {
    const dark = outer.classList.contains("dark") || outer.dataset.theme === "dark" || outer.style.colorScheme === "dark";
    own.dataset.theme = dark ? "dark" : "light";
    own.dir = outer.dir || (rightToLeft.test(outer.lang) ? "rtl" : "ltr");
  };
  follow();
  new MutationObserver(follow).observe(outer, { attributes: true, attributeFilter: ["class", "style", "data-theme", "dir", "lang"] });
})();

(function keepEarlyClicks() {
  // A dialog is opened by a module, and a page on a slow line is seen before its modules are there: such a click is repeated then.
  let early = null;
  const keep = (event) => {
    early = event.target.closest("[data-opens]") || early;
  };
  document.addEventListener("click", keep, true);
  document.addEventListener("DOMContentLoaded", () => {
    document.removeEventListener("click", keep, true);
    if (early) early.click();
  });
})();

(function searchWhatWasTypedEarly() {
  // A word that is typed before htmx is there is searched for once it is.
  window.addEventListener("load", () => {
    for (const field of document.querySelectorAll("form[hx-get] input[type=search]")) {
      if (field.value !== field.defaultValue) field.form.requestSubmit();
    }
  });
})();
