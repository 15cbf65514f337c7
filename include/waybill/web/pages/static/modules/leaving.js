// Ways out of a page: back, and from Airflow's frame to a page of Airflow's.

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-back]")) history.back();
});

document.addEventListener("DOMContentLoaded", () => {
  // A page in a new tab has nothing to go back to.
  for (const button of document.querySelectorAll("[data-back]")) button.hidden = history.length < 2;
});

document.addEventListener("click", (event) => {
  // The frame may not navigate Airflow's page around it, but a link that is made in that page may.
  const outward = event.target.closest("a[data-outer]");
  if (!outward || !("framed" in document.documentElement.dataset)) return;
  event.preventDefault();
  const link = window.parent.document.createElement("a");
  link.href = outward.href;
  window.parent.document.body.append(link);
  link.click();
  link.remove();
});
