// Tables sort by a click on a heading; groups (tbody) and the rows that sum them up stay where they are.
"use strict";
const number = (text) => {
  const match = /^[<~]?\s*([-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)/i.exec(text);
  return match ? Number(match[1].replaceAll(",", "")) : NaN;
};
const compare = (a, b, sign) => {
  const [x, y] = [number(a), number(b)];
  if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1; // words and gaps come last
  return sign * (Number.isNaN(x) ? a.localeCompare(b) : x - y);
};
const sort = (heading) => {
  const sign = heading.ariaSort === "ascending" ? -1 : 1;
  for (const other of heading.parentElement.cells) other.ariaSort = null;
  heading.ariaSort = sign > 0 ? "ascending" : "descending";
  const text = (row) => row.cells[heading.cellIndex].textContent.trim();
  for (const body of heading.closest("table").tBodies) {
    const rows = [...body.rows];
    const totals = rows.filter((row) => row.className === "total");
    const others = rows.filter((row) => row.className !== "total");
    body.append(...others.sort((a, b) => compare(text(a), text(b), sign)), ...totals);
  }
};
for (const heading of document.querySelectorAll("table.sortable th:not(:empty)")) {
  const button = document.createElement("button");
  button.append(...heading.childNodes);
  button.addEventListener("click", () => sort(heading));
  heading.append(button);
}
const details = document.querySelectorAll("details");
addEventListener("beforeprint", () => details.forEach((one) => { one.open = true; }));
