// Inside Airflow's frame: Back. What a browser remembers of a frame does not outlive a reload, and Back would do nothing then.
// The address of Airflow's own page does, and holds the frame's. So in the frame one page replaces the other, and the page around it gets
// the entry; Airflow brings the frame along when that is gone back to.
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
  // Airflow reads where the frame is when everything of the page is loaded. A click or Back may come before that, as the page is seen sooner;
  // Airflow would then write this place over the entry that is gone back to. So it reads it now.
  if (window.frameElement) window.frameElement.dispatchEvent(new around.Event("load"));

  function leave(event, address) {
    const outer = around.location.pathname;
    if (event.defaultPrevented || !outer.endsWith(location.pathname)) return; // on the tab of a DAG Airflow's address holds no place of ours
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
