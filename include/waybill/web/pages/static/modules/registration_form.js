// The form of a registration: fields by what is chosen, and a preview that never outlives a change of the form.

function offerRegistration(form) {
  const option = form.querySelector("[name=exportOption]:checked");
  const list = form.querySelector("[data-selected]");
  if (option && list) list.disabled = option.value !== "export selected";
  const kind = form.querySelector("[name=kind]");
  if (kind) {
    for (const place of form.querySelectorAll("[data-kinds]")) place.hidden = !place.dataset.kinds.split(" ").includes(kind.value);
  }
}

// What was shown is what would be put into force, so it must not outlive a change of the form.
function outdate(form) {
  form.dataset.edited = "";
  const diff = document.getElementById("registration-diff");
  if (!diff.querySelector("section")) return;
  const words = document.createElement("p");
  words.textContent = form.dataset.outdated;
  diff.replaceChildren(words);
}

document.addEventListener("input", (event) => {
  const form = event.target.closest("form[data-registers]");
  if (form) outdate(form);
});

document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-registers]");
  if (form) offerRegistration(form);
});

document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("form[data-registers]").forEach(offerRegistration));

document.addEventListener("htmx:beforeRequest", (event) => {
  // A new preview is on its way, of the form as it is now.
  if (!event.detail.elt.matches("[data-registers]")) return;
  delete event.detail.elt.dataset.edited;
  document.getElementById("registration-diff").replaceChildren();
});

document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id !== "registration-diff") return;
  const form = document.querySelector("form[data-registers]");
  if (form && "edited" in form.dataset) outdate(form); // it was changed while the preview was made
  event.detail.target.scrollIntoView({ block: "nearest" });
});
