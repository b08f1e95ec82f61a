// The tables: sorting, filtering, marks.
const cellValue = (row, column) => {
  const text = row.cells[column].dataset.value;
  if (text === undefined || text === "") return null;
  return find("thead", row.closest("table")).rows[0].cells[column].classList.contains("number") ? Number(text) : text;
};

const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));

// The section of each row: the runs that it is compared with.
const homes = new Map(findAll(".scroll tbody tr").map((row) => [row, row.parentElement]));
const together = () => find("#together input").checked;

// Unranked rows follow the others, rows without a value follow those with one. Sections stay apart while runs are kept
// together.
function sortTable(table, column, direction) {
  const order = (row) => Number(row.dataset.row ?? row.dataset.figure);
  const rows = findAll("tbody tr:not(.section)", table).sort((a, b) => {
    const rank = a.classList.contains("unranked") - b.classList.contains("unranked");
    if (rank || column === null) return rank && column !== null ? rank : order(a) - order(b);
    const [left, right] = [cellValue(a, column), cellValue(b, column)];
    if (left === null || right === null) return (left === null) - (right === null) || order(a) - order(b);
    return direction * compare(left, right) || order(a) - order(b);
  });
  rows.forEach((row) => (together() ? homes.get(row) : table.tBodies[0]).append(row));
  [...table.tHead.rows[0].cells].forEach((cell, index) => {
    if (index === column) cell.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    else cell.removeAttribute("aria-sort");
  });
}

function startTable(table) {
  for (const [column, cell] of [...table.tHead.rows[0].cells].entries()) {
    find("button", cell)?.addEventListener("click", () => {
      const first = cell.dataset.better === "more" ? -1 : 1;
      const now = { ascending: 1, descending: -1 }[cell.getAttribute("aria-sort")];
      sortTable(table, column, now === undefined ? first : -now);
    });
  }
}

function startTogether() {
  const table = find("#runs");
  find("#together").hidden = false;
  find("#together").addEventListener("change", () => {
    table.classList.toggle("grouped", together());
    const cells = [...table.tHead.rows[0].cells];
    const sorted = cells.findIndex((cell) => cell.hasAttribute("aria-sort"));
    sortTable(table, sorted < 0 ? null : sorted, cells[sorted]?.getAttribute("aria-sort") === "descending" ? -1 : 1);
  });
}

function startColumns() {
  find("#groups").hidden = false;
  findAll("#groups input").forEach((input) =>
    input.addEventListener("change", () => find("#runs").classList.toggle(`hide-${input.value}`, !input.checked)));
}

function showRows() {
  const left = new Set(filtered().filter((number) => state.cache === null || data.rows[number].cache === state.cache));
  const kept = new Set();
  findAll("#runs tbody tr:not(.section)").forEach((row) => {
    row.hidden = !left.has(Number(row.dataset.row));
    if (!row.hidden) kept.add(homes.get(row));
  });
  findAll("#runs .section").forEach((head) => { head.hidden = !kept.has(head.parentElement); });
  const ranked = [...left].filter((number) => data.rows[number].ranked).length;
  find("#count").textContent = `${left.size} of ${data.rows.length} runs, ${ranked} ranked`;
  find("#none-shown").hidden = left.size > 0;
  findAll("#theirs-table tbody tr").forEach((row) => {
    const figure = data.published[Number(row.dataset.figure)];
    row.hidden = ["model", "task"].some((key) => state.hidden[key]?.has(figure[key]));
  });
}

function markFront(numbers) {
  findAll("#runs tbody tr:not(.unranked, .section)").forEach((row) => {
    find(".front", row).hidden = !numbers.has(Number(row.dataset.row));
  });
}

function showRow(number) {
  const row = find(`#run-${number}`);
  if (row.hidden) return;
  row.scrollIntoView({ block: "center", inline: "nearest" });
  row.classList.add("flash");
  setTimeout(() => row.classList.remove("flash"), 2500);
}
