// Tables that sort by a click on a heading and filter by a word. Both outlive the polls that put a new table in place
// of the old one.

const sorted = new Map(); // by the id of the table: the heading sorted by, and whether it descends
const UNITS = ["B", "KB", "MB", "GB", "TB", "PB"];

function valueOf(cell) {
  // Instants sort by their time, numbers and sizes by what they count, and everything else by its text. Empty cells
  // come last.
  const time = cell.querySelector("time[datetime]");
  if (time) return Date.parse(time.dateTime);
  const text = cell.innerText.trim();
  const number = /^(-?[\d,]+(?:\.\d+)?)(?: (B|KB|MB|GB|TB|PB))?$/.exec(text.split("\n")[0]);
  if (number) return Number(number[1].replaceAll(",", "")) * 1000 ** Math.max(0, UNITS.indexOf(number[2]));
  return text === "–" ? "" : text.toLowerCase();
}

function compare(one, other) {
  if (one === "" || other === "") return one === other ? 0 : one === "" ? 1 : -1;
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one).localeCompare(String(other));
}

function groups(table) {
  // A row that explains the row before it stays below that row.
  const found = [];
  for (const row of table.tBodies[0].rows) {
    if (row.matches(".cause") && found.length) found[found.length - 1].push(row);
    else found.push([row]);
  }
  return found;
}

function sort(table) {
  const choice = sorted.get(table.id);
  if (!choice) return;
  const at = choice.column;
  for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
  const head = table.tHead.rows[0].cells[at];
  if (!head) return;
  head.setAttribute("aria-sort", choice.descending ? "descending" : "ascending");
  const rows = groups(table).map((group) => [valueOf(group[0].cells[at]), group]);
  const turned = ([one], [other]) => (one === "" || other === "" ? compare(one, other) : compare(other, one));
  rows.sort(choice.descending ? turned : ([one], [other]) => compare(one, other));
  table.tBodies[0].append(...rows.flatMap(([, group]) => group));
}

function filter(table) {
  const field = document.querySelector(`[data-filters="${table.id}"]`);
  if (!field) return;
  field.closest(".filter").hidden = groups(table).length < 2; // one row needs no search
  const words = field.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const group of groups(table)) {
    const text = group.map((row) => row.innerText).join(" ").toLowerCase();
    const fits = words.every((word) => text.includes(word));
    for (const row of group) row.hidden = !fits;
    shown += fits ? 1 : 0;
  }
  const none = document.querySelector(`[data-none-of="${table.id}"]`);
  if (none) none.hidden = shown > 0;
}

function prepare(table) {
  // Headings become buttons, so that the keyboard reaches them; a column of buttons is not sorted.
  for (const head of table.tHead.rows[0].cells) {
    if (head.querySelector("button") || head.matches("[data-fixed]")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sorts";
    button.append(...head.childNodes);
    head.append(button);
  }
  sort(table);
  filter(table);
}

const prepareAll = () => document.querySelectorAll("table[data-sorts]").forEach(prepare);

document.addEventListener("click", (event) => {
  const head = event.target.closest("table[data-sorts] thead th");
  if (!head || !event.target.closest("button.sorts")) return;
  const table = head.closest("table");
  const column = head.cellIndex;
  const before = sorted.get(table.id);
  sorted.set(table.id, { column, descending: Boolean(before && before.column === column && !before.descending) });
  sort(table);
});

document.addEventListener("input", (event) => {
  const table = event.target.dataset.filters && document.getElementById(event.target.dataset.filters);
  if (table) filter(table);
});

document.addEventListener("DOMContentLoaded", prepareAll);
for (const name of ["htmx:afterSwap", "htmx:oobAfterSwap"]) document.addEventListener(name, prepareAll);
