// The form of a registration: it shows the fields that fit the choices, and drops its preview at every change.

// Entities can be ticked only where the option asks for them, and each kind of destination has fields of its own.
function offerRegistration(form) {
  const option = form.querySelector("[name=exportOption]:checked");
  const list = form.querySelector("[data-selected]");
  if (option && list) list.disabled = option.value !== "export selected";
  const kind = form.querySelector("[name=kind]");
  if (kind) {
    for (const place of form.querySelectorAll("[data-kinds]")) {
      place.hidden = !place.dataset.kinds.split(" ").includes(kind.value);
    }
  }
}

// Drops the preview at a change of the form, because people put into force what they see there.
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

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("form[data-registers]").forEach(offerRegistration);
});

document.addEventListener("htmx:beforeRequest", (event) => {
  // The server makes a new preview, of the form as it is now.
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
