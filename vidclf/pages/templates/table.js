// Header buttons sort their table, and a search box filters the table that it names. Without JavaScript, tables are
// complete and in their original order.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), body = head.closest("table").tBodies[0];
    const ascending = head.getAttribute("aria-sort") === "descending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const value = row => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent.trim();
    const compare = (a, b) => isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
    const rows = [...body.rows].map(row => [value(row), row]).sort((a, b) => compare(a[0], b[0]));
    body.append(...(ascending ? rows : rows.reverse()).map(pair => pair[1]));
  });
}
for (const box of document.querySelectorAll("input[type=search]")) {
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(" ");
    for (const row of document.getElementById(box.dataset.table).tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
    }
  });
}
