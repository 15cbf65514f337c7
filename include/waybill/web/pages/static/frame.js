// Makes the browser's Back work inside Airflow's frame. A browser forgets the history of a frame at a reload, and Back
// would do nothing then. The history of Airflow's own page stays, and its address holds the frame's. So a page in the
// frame replaces the one before it, and Airflow's page gets the entry in the history. When somebody goes back to that
// entry, Airflow puts the frame there, too.
"use strict";

(function () {
  if (!("framed" in document.documentElement.dataset)) return;
  const around = window.parent;
  const note = "waybill-around";
  const place = (where) => where.pathname + where.search + where.hash;

  const before = sessionStorage.getItem(note);
  sessionStorage.removeItem(note);
  if (before !== null && before + place(location) !== place(around.location)) {
    const state = around.history.state || {};
    around.history.pushState({ ...state, idx: (state.idx || 0) + 1 }, "", before + place(location));
  }
  // Airflow reads the frame's address once the whole page is loaded. People see the page sooner and may click or go
  // back before that. Airflow would then write this address over the entry that they went to. This event lets it read
  // the address now.
  if (window.frameElement) window.frameElement.dispatchEvent(new around.Event("load"));

  function leave(event, address) {
    const outer = around.location.pathname;
    // On the tab of a DAG, Airflow's address does not hold ours.
    if (event.defaultPrevented || !outer.endsWith(location.pathname)) return;
    event.preventDefault();
    sessionStorage.setItem(note, outer.slice(0, outer.length - location.pathname.length));
    location.replace(address);
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href]:not([target], [href^='#'])");
    if (link && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey)) leave(event, link.href);
  });
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method === "get") leave(event, `${form.action.split("?")[0]}?${new URLSearchParams(new FormData(form))}`);
  });
  document.addEventListener("htmx:beforeOnLoad", (event) => {
    const address = event.detail.xhr.getResponseHeader("HX-Redirect");
    if (address) leave(event, address);
  });
})();
