// Dialogs: a button opens one for a row of a table, another closes it, and success closes it too.
import { forget } from "./problems.js";

function open(opener, dialog) {
  // One dialog serves all rows: it takes the id and the name of the row that it was opened for.
  const value = dialog.querySelector("[data-value]");
  if (value) value.value = opener.dataset.request;
  const named = dialog.querySelector("[data-named]");
  if (named) named.textContent = opener.dataset.name;
  forget(dialog);
  dialog.showModal();
}

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  const closer = event.target.closest("[data-closes]");
  const dialog = opener ? document.getElementById(opener.dataset.opens) : null;
  if (dialog) {
    event.preventDefault();
    open(opener, dialog);
  } else if (closer) {
    event.preventDefault();
    closer.closest("dialog").close();
  }
});

document.addEventListener("DOMContentLoaded", () => {
  // An address may ask for a dialog to be open at once.
  const asked = document.querySelector("dialog[data-now]");
  if (asked) asked.showModal();
});

document.addEventListener("htmx:afterRequest", (event) => {
  // The dialog's request succeeded: the dialog closes, and the focus goes to where the change can be seen.
  const dialog = event.detail.elt.closest("dialog[data-then]");
  if (!dialog || !event.detail.successful) return;
  dialog.close();
  const place = document.getElementById(dialog.dataset.then);
  (place && !place.hidden ? place : document.getElementById("main")).focus();
});
