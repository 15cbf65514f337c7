// Waybill's pages: what HTML and htmx cannot do by themselves. Loaded before the first paint, for the theme.
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

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  if (opener) {
    const dialog = document.getElementById(opener.dataset.opens);
    if (dialog) {
      event.preventDefault();
      const value = dialog.querySelector("[data-value]");
      if (value) value.value = opener.dataset.request;
      const named = dialog.querySelector("[data-named]");
      if (named) named.textContent = opener.dataset.name;
      forget(dialog); // what was said the last time
      dialog.showModal();
    }
    return;
  }
  if (event.target.closest("[data-back]")) {
    history.back();
    return;
  }
  const closer = event.target.closest("[data-closes]");
  if (closer) {
    event.preventDefault();
    closer.closest("dialog").close();
    return;
  }
  // The frame may not navigate the page around it; a link that belongs to that page may.
  const outward = event.target.closest("a[data-outer]");
  if (outward && "framed" in document.documentElement.dataset) {
    event.preventDefault();
    const link = window.parent.document.createElement("a");
    link.href = outward.href;
    window.parent.document.body.append(link);
    link.click();
    link.remove();
  }
});

function offerWhatFits(form) {
  // An export type decides about entities and formats; the entities chosen decide which formats remain; the level decides about fields.
  const type = form.querySelector("[name=exportType]");
  const kind = type ? type.selectedOptions[0] : null;
  const words = (node, name) => (node && node.dataset[name] ? node.dataset[name].split(" ") : null);
  const offered = words(kind, "entities");
  const level = form.querySelector("[name=level]");
  const taken = level && level.selectedOptions ? words(level.selectedOptions[0], "takes") || [] : null;
  let formats = words(kind, "formats");
  const narrow = { project: "project", app: "app", study: "study", participant: "participant" };
  for (const box of form.querySelectorAll("input[name=entities]")) {
    const scopes = words(box, "scopes") || [];
    const wanted = level ? narrow[level.value] : null;
    const fits = (!offered || offered.includes(box.value)) && (!wanted || scopes.includes(wanted));
    box.disabled = !fits;
    box.closest("li").hidden = !fits;
    if (fits && box.checked) {
      const own = words(box, "formats") || [];
      formats = formats ? formats.filter((one) => own.includes(one)) : own;
    }
  }
  for (const box of form.querySelectorAll("[name=formats]")) {
    box.disabled = formats !== null && !box.value.split(",").every((one) => formats.includes(one));
    box.closest("label").classList.toggle("off", box.disabled);
  }
  if (taken) {
    for (const place of form.querySelectorAll("[data-field]")) {
      const shown = taken.includes(place.dataset.field);
      place.hidden = !shown;
      for (const input of place.querySelectorAll("input")) input.disabled = !shown;
    }
  }
  // What recurs covers the week or month before, so there are no dates to choose.
  const repeat = form.querySelector("[name=repeat]");
  const recurs = Boolean(repeat && repeat.value);
  for (const place of form.querySelectorAll("[data-repeats]")) {
    place.hidden = !recurs;
    for (const input of place.querySelectorAll("input, select")) input.disabled = !recurs;
  }
  const range = form.querySelector("[data-range]");
  if (range) {
    range.hidden = recurs;
    range.disabled = recurs;
  }
  const preset = form.querySelector("[name=preset]");
  const dates = form.querySelector("[data-dates]");
  if (preset && dates) {
    dates.hidden = preset.value !== "";
    for (const input of dates.querySelectorAll("input")) input.disabled = preset.value !== "";
  }
}

function offerRegistration(form) {
  const option = form.querySelector("[name=exportOption]:checked");
  const list = form.querySelector("[data-selected]");
  if (option && list) list.disabled = option.value !== "export selected";
  const kind = form.querySelector("[name=kind]");
  if (kind) {
    for (const place of form.querySelectorAll("[data-kinds]")) place.hidden = !place.dataset.kinds.split(" ").includes(kind.value);
  }
}

function outdate(form) {
  // What was shown is what would be put into force, so it must not outlive a change of the form.
  form.dataset.edited = "";
  const diff = document.getElementById("registration-diff");
  if (!diff.querySelector("section")) return;
  const words = document.createElement("p");
  words.textContent = "The form has changed since. Show again what would change.";
  diff.replaceChildren(words);
}

document.addEventListener("input", (event) => {
  const form = event.target.closest("form[data-registers]");
  if (form) outdate(form);
});

document.addEventListener("change", (event) => {
  const shows = event.target.dataset.shows;
  if (shows) {
    for (const place of document.querySelectorAll(`[data-shown="${shows}"]`)) place.hidden = place.id !== `${shows}-${event.target.value}`;
  }
  const form = event.target.closest("form");
  if (form && form.matches("[data-fits]")) offerWhatFits(form);
  if (form && form.matches("[data-registers]")) offerRegistration(form);
});

document.addEventListener("DOMContentLoaded", () => {
  // In a tab of its own there is nothing to go back to.
  for (const button of document.querySelectorAll("[data-back]")) button.hidden = history.length < 2;
  document.querySelectorAll("form[data-fits]").forEach(offerWhatFits);
  document.querySelectorAll("form[data-registers]").forEach(offerRegistration);
  const opened = document.querySelector("dialog[data-now]");
  if (opened) opened.showModal();
});

// A network that is gone ends in words, never in a wait without an end.
for (const name of ["htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(name, () => {
    const place = document.querySelector("dialog[open] [role=alert]") || document.getElementById("problem");
    place.innerHTML = '<div class="note bad"><p><strong>The server did not answer.</strong> Check the connection and try again.</p></div>';
  });
}
document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.elt.matches("[list]")) return; // a field that asks what there is sends nothing
  // What was said to an earlier try is no answer to this one.
  const form = event.detail.elt.closest("dialog, form");
  if (form) forget(form);
  document.getElementById("problem").replaceChildren();
  if (event.detail.elt.matches("[data-registers]")) {
    delete event.detail.elt.dataset.edited;
    document.getElementById("registration-diff").replaceChildren();
  }
});
function forget(place) {
  for (const alert of place.querySelectorAll("[role=alert]")) alert.replaceChildren();
  for (const words of place.querySelectorAll(".wrong")) words.remove();
  for (const field of place.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  for (const field of place.querySelectorAll("[data-wrong]")) {
    field.removeAttribute("aria-describedby");
    delete field.dataset.wrong;
  }
}

function pointOut(problem) {
  // What is wrong with a field is said at that field; the first of them gets the focus.
  const form = problem.closest("form");
  let first = null;
  for (const said of form ? problem.querySelectorAll("li[data-field]") : []) {
    const field = form.querySelector(`[name="${said.dataset.field}"]:not([type=hidden])`);
    if (!field || field.closest("[hidden]")) continue;
    const place = field.matches("[type=checkbox], [type=radio]") ? field.closest("fieldset") : field;
    const words = document.createElement("small");
    words.className = "wrong";
    words.id = `${form.id}-wrong-${form.querySelectorAll(".wrong").length}`;
    words.textContent = said.querySelector("span").textContent;
    (place === field ? field.parentElement : place).append(words);
    place.dataset.wrong = `${place.dataset.wrong || ""} ${words.id}`.trim();
    place.setAttribute("aria-describedby", place.dataset.wrong);
    field.setAttribute("aria-invalid", "true");
    said.remove();
    const folded = field.closest("details");
    if (folded) folded.open = true;
    if (!first || field.compareDocumentPosition(first) & Node.DOCUMENT_POSITION_FOLLOWING) first = field;
  }
  for (const list of problem.querySelectorAll("ul:empty")) list.remove();
  if (first) first.focus();
}

document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id.endsWith("-form-problem")) pointOut(event.detail.target);
  if (event.detail.target.id !== "registration-diff") return;
  const form = document.querySelector("form[data-registers]");
  if (form && "edited" in form.dataset) outdate(form);
  event.detail.target.scrollIntoView({ block: "nearest" });
});
document.addEventListener("htmx:afterRequest", (event) => {
  // What a dialog asked for is done: the dialog goes, and who works with the keyboard stands where the change can be seen.
  const dialog = event.detail.elt.closest("dialog[data-then]");
  if (!dialog || !event.detail.successful) return;
  dialog.close();
  const place = document.getElementById(dialog.dataset.then);
  (place && !place.hidden ? place : document.getElementById("main")).focus();
});
