// Shows what is wrong with a form: at the field, or else in the place that the form keeps for it.

// Removes the answer to an earlier try, because it does not answer the next one.
export function forget(place) {
  for (const alert of place.querySelectorAll("[role=alert]")) alert.replaceChildren();
  for (const words of place.querySelectorAll(".wrong")) words.remove();
  for (const field of place.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  for (const field of place.querySelectorAll("[data-wrong]")) {
    field.removeAttribute("aria-describedby");
    delete field.dataset.wrong;
  }
}

// Puts each message at its field, and the focus into the first of these fields.
function pointOut(problem) {
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

document.addEventListener("htmx:beforeRequest", (event) => {
  // A request that no person made leaves the messages alone.
  if (event.detail.elt.matches("[list], [hx-trigger^=every], [data-again]")) return;
  const form = event.detail.elt.closest("dialog, form");
  if (form) forget(form);
  document.getElementById("problem").replaceChildren();
});

document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id.endsWith("-form-problem")) pointOut(event.detail.target);
});

// Somebody else was faster, and the list is out of date. It is loaded again, and the message stays above it.
document.addEventListener("htmx:responseError", (event) => {
  const list = event.detail.target.ownerDocument.querySelector("[data-again]");
  if (!list || !list.contains(event.detail.elt)) return;
  window.htmx.ajax("GET", list.dataset.again, { source: list, target: list, swap: "outerHTML" });
});

// Says that the network is gone, instead of waiting without an end.
for (const name of ["htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(name, () => {
    const page = document.getElementById("problem");
    const note = document.createElement("div");
    const words = document.createElement("p");
    note.className = "note bad";
    words.textContent = page.dataset.unanswered;
    note.append(words);
    (document.querySelector("dialog[open] [role=alert]") || page).replaceChildren(note);
  });
}
