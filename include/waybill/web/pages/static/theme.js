// Light or dark, the direction of the text, and what people do before the scripts are there. A plain script in the
// head, so that it has run before the first paint.
"use strict";

(function followTheParent() {
  // Inside Airflow the page stands in a same-origin frame: light or dark and the direction are those of the page around
  // it.
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
    const says = [outer.classList.contains("dark") && "dark", outer.dataset.theme, outer.style.colorScheme];
    own.dataset.theme = says.includes("dark") ? "dark" : "light";
    own.dir = outer.dir || (rightToLeft.test(outer.lang) ? "rtl" : "ltr");
  };
  follow();
  const watched = ["class", "style", "data-theme", "dir", "lang"];
  new MutationObserver(follow).observe(outer, { attributes: true, attributeFilter: watched });
})();

(function keepEarlyActs() {
  // Buttons and forms are served by modules and htmx, and a page on a slow line is seen before they are there: what is
  // pressed is done then.
  let early = null;
  const press = (event) => {
    const button = event.target.closest("[data-opens], button[hx-post], button[hx-get]");
    if (button) early = () => button.click();
  };
  const send = (event) => {
    if (!event.target.matches("form[hx-post], form[hx-get]")) return;
    event.preventDefault();
    early = () => event.target.requestSubmit(event.submitter);
  };
  document.addEventListener("click", press, true);
  document.addEventListener("submit", send, true);
  document.addEventListener("DOMContentLoaded", () => {
    document.removeEventListener("click", press, true);
    document.removeEventListener("submit", send, true);
    setTimeout(() => early && early()); // htmx begins at this event, too
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
