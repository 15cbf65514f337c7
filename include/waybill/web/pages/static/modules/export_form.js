// The form of an export offers only what fits together: type, scope, entities, formats, dates.

// By the level of a scope, what an entity must be limited by so that it can be exported at this level.
const NARROW = { project: "project", app: "app", study: "study", participant: "participant" };
// Returns the words of an attribute, or null where it is missing.
const listed = (node, name) => (node && node.dataset[name] ? node.dataset[name].split(" ") : null);

function show(place, shown) {
  // A field that is not shown is disabled, so that the browser does not send it.
  place.hidden = !shown;
  for (const input of place.querySelectorAll("input, select")) input.disabled = !shown;
}

function offerEntities(form, kind, level) {
  // The type says which entities it holds, and the level says which entities can be limited to it.
  // Returns the formats that all of them have.
  const offered = listed(kind, "entities");
  const wanted = level ? NARROW[level.value] : null;
  let formats = listed(kind, "formats");
  for (const box of form.querySelectorAll("input[name=entities]")) {
    const scopes = listed(box, "scopes") || [];
    const fits = (!offered || offered.includes(box.value)) && (!wanted || scopes.includes(wanted));
    box.disabled = !fits;
    box.closest("li").hidden = !fits;
    if (fits && box.checked) {
      const own = listed(box, "formats") || [];
      formats = formats ? formats.filter((one) => own.includes(one)) : own;
    }
  }
  return formats;
}

function offerFormats(form, formats) {
  // A choice may stand for several formats. It is offered if every one of them is.
  for (const box of form.querySelectorAll("[name=formats]")) {
    box.disabled = formats !== null && !box.value.split(",").every((one) => formats.includes(one));
    box.closest("label").classList.toggle("off", box.disabled);
  }
}

function offerScope(form, level) {
  // The level decides which fields are asked for beside it.
  if (!level || !level.selectedOptions) return;
  const taken = listed(level.selectedOptions[0], "takes") || [];
  for (const place of form.querySelectorAll("[data-field]")) show(place, taken.includes(place.dataset.field));
}

function offerRepeat(form) {
  // A recurring export covers the week or month before it, so there are no dates to choose.
  const repeat = form.querySelector("[name=repeat]");
  const recurs = Boolean(repeat && repeat.value);
  for (const place of form.querySelectorAll("[data-repeats]")) show(place, recurs);
  const range = form.querySelector("[data-range]");
  if (!range) return;
  range.hidden = recurs;
  range.disabled = recurs;
}

function offerDates(form) {
  // Dates are asked for only where no named range is chosen.
  const preset = form.querySelector("[name=preset]");
  const dates = form.querySelector("[data-dates]");
  if (preset && dates) show(dates, preset.value === "");
}

function offerWhatFits(form) {
  const type = form.querySelector("[name=exportType]");
  const level = form.querySelector("[name=level]");
  offerFormats(form, offerEntities(form, type ? type.selectedOptions[0] : null, level));
  offerScope(form, level);
  offerRepeat(form);
  offerDates(form);
}

document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-fits]");
  if (form) offerWhatFits(form);
});

document.addEventListener("change", (event) => {
  // The fields of the chosen entity are listed below the form.
  const shows = event.target.dataset.shows;
  if (!shows) return;
  for (const place of document.querySelectorAll(`[data-shown="${shows}"]`)) {
    place.hidden = place.id !== `${shows}-${event.target.value}`;
  }
});

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("form[data-fits]").forEach(offerWhatFits);
});
