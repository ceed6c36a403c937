"use strict";
(() => {
  const body = document.querySelector("#runs tbody");
  const rows = [...body.rows];
  const heads = [...document.querySelectorAll("#runs th")];

  // A button in each head sorts the table; a number is sorted as it is shown.
  function value(row, head) {
    const text = row.cells[head.cellIndex].textContent;
    return head.className === "n" && text !== "" ? Number(text.replaceAll(",", "")) : text;
  }
  function sort(head) {
    const up = head.ariaSort !== "ascending";
    for (const other of heads) other.ariaSort = null;
    head.ariaSort = up ? "ascending" : "descending";
    rows.sort((one, other) => {
      const [a, b] = [value(one, head), value(other, head)];
      if (a === "" || b === "") return (a === "") - (b === "");  // what is not known comes last
      const order = head.className === "n" ? a - b : a.localeCompare(b, undefined, { numeric: true });
      return up ? order : -order;
    });
    body.append(...rows);
  }
  for (const head of heads) {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(head));
    head.append(button);
  }

  const filter = document.getElementById("filter");
  function sift() {
    const words = filter.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    const count = rows.filter((row) => !row.hidden).length;
    document.getElementById("shown").textContent = `${count} of ${rows.length} runs`;
  }
  filter.addEventListener("input", sift);
  sift();

  // A link to a run opens it.
  function open() {
    const details = document.getElementById(location.hash.slice(1))?.querySelector("details");
    if (details) { details.open = true; details.scrollIntoView(); }
  }
  addEventListener("hashchange", open);
  open();
})();
