"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;
  const drawn = new Set();
  const plain = (text) => new DOMParser().parseFromString(String(text), "text/html").body.textContent;

  // Charts are drawn when they come near the window, so that a page of many opens at once.
  function themed(layout) {
    const style = getComputedStyle(root);
    const color = (name) => style.getPropertyValue(name).trim();
    const axis = { gridcolor: color("--line"), zerolinecolor: color("--line"), linecolor: color("--line") };
    return { ...layout,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: color("--text"), family: "system-ui, sans-serif", size: 12 },
      hoverlabel: { bgcolor: color("--card"), font: { color: color("--text") }, align: "left" },
      xaxis: { ...layout.xaxis, ...axis }, yaxis: { ...layout.yaxis, ...axis } };
  }
  function draw(key) {
    const { data, layout } = figures[key];
    const config = { responsive: true, displaylogo: false, displayModeBar: false };
    if (!drawn.has(key)) legend(key);
    drawn.add(key);
    return Plotly.react(document.getElementById(key), data, themed(layout), config);
  }
  // The legend: a button for each series, which hides it.
  function legend(key) {
    const { data } = figures[key];
    if (data.length < 2) return;
    const list = document.createElement("ul");
    list.className = "legend";
    for (const series of data) {
      const button = document.createElement("button");
      const mark = button.appendChild(document.createElement("span"));
      const kind = series.mode === "lines" || series.mode?.startsWith("lines+") ? series.line.dash
        : series.type === "bar" ? "bar" : "point";
      mark.className = `mark ${kind}`;
      mark.style.color = (series.marker ?? series.line).color;
      button.append(plain(series.name));
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        series.visible = series.visible === false;
        button.setAttribute("aria-pressed", String(series.visible));
        draw(key);
      });
      list.appendChild(document.createElement("li")).append(button);
    }
    document.getElementById(key).after(list);
  }
  const near = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) {
      if (isIntersecting && !drawn.has(target.id)) draw(target.id);
    }
  }, { rootMargin: "400px" });
  document.querySelectorAll(".chart").forEach((chart) => near.observe(chart));

  // What a chart shows, as a table, for those who do not see it.
  function numbers({ data, layout }) {
    if (data[0].type === "heatmap") {
      const [{ x, y, text }] = data;
      return [["", ...x.map(plain)], ...y.map((name, row) => [plain(name), ...text[row]])];
    }
    const label = (axis) => plain(layout[axis].title?.text ?? "");
    const bars = data[0].type === "bar";
    const head = bars ? ["", "", label("xaxis"), ""] : ["", label("xaxis"), label("yaxis"), "", ""];
    return [head, ...data.flatMap((own) => own.x.map((x, at) => {
      const told = own.customdata ? [own.customdata[at]].flat() : [];
      const [a, b, ...rest] = own.type === "bar" ? [own.y[at], x, ...told]
        : told.length ? told : [x, own.y[at]];
      return [own.name ?? "", a, b, ...rest].map(plain);
    }))];
  }
  document.querySelectorAll(".numbers").forEach((details) => details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector("table")) return;
    const table = details.appendChild(document.createElement("table"));
    const [head, ...rows] = numbers(figures[details.dataset.chart]);
    const top = table.createTHead().insertRow();
    for (const name of head) {
      const cell = top.appendChild(document.createElement("th"));
      cell.scope = "col";
      cell.textContent = name;
    }
    const body = table.createTBody();
    for (const row of rows) {
      const line = body.insertRow();
      row.forEach((cell) => { line.insertCell().textContent = cell; });
    }
  }));

  // Light and dark: as the system has it, until the button is pressed.
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  function choose(dark) {
    root.dataset.theme = dark ? "dark" : "light";
    button.setAttribute("aria-pressed", String(dark));
    drawn.forEach(draw);
  }
  button.addEventListener("click", () => choose(root.dataset.theme !== "dark"));
  system.addEventListener("change", () => choose(system.matches));
  choose(system.matches);

  // On paper every chart is drawn, and light.
  let before = root.dataset.theme;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    choose(false);
    document.querySelectorAll(".chart").forEach((chart) => {
      if (chart.offsetParent !== null) draw(chart.id);
    });
  });
  addEventListener("afterprint", () => choose(before === "dark"));

  // A link to a run opens it.
  function open() {
    const details = document.getElementById(location.hash.slice(1))?.querySelector("details");
    if (details) { details.open = true; details.scrollIntoView(); }
  }
  addEventListener("hashchange", open);
  document.querySelectorAll("a[href^='#run-']").forEach((link) => {
    link.addEventListener("click", () => setTimeout(open));
  });
  open();

  const table = document.getElementById("runs");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const number = head.classList.contains("n");
    const value = (row) => row.cells[column].dataset.value;
    const compare = (a, b) => number ? a - b : a.localeCompare(b, undefined, { numeric: true });
    body.append(...[...rows].sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === "" || b === "") return (a === "") - (b === "");  // what is not known comes last
      return up ? compare(a, b) : compare(b, a);
    }));
  }));
  const filter = document.getElementById("filter");
  const least = document.getElementById("least");
  const removed = heads.findIndex((head) => head.textContent.trim() === "removed %");
  function sift() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(words.every((word) => text.includes(word))
        && (least.value === "" || Number(row.cells[removed].dataset.value) >= Number(least.value)));
      shown += !row.hidden;
    }
    document.getElementById("shown").textContent = `${shown} of ${rows.length} runs`;
  }
  filter.addEventListener("input", sift);
  least.addEventListener("input", sift);
  sift();
})();
