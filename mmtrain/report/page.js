"use strict";
(() => {
  // what a spreadsheet would run as a formula is text in a CSV file
  const field = (value) => {
    if (value === null || value === undefined) return "";
    let text = String(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };

  const download = (title, rows) => {
    const text = rows.map((row) => row.map(field).join(",")).join("\r\n") + "\r\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" }));
    link.download = (title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "") || "data") + ".csv";
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  const config = {
    background: null,
    aria: false,
    font: getComputedStyle(document.body).fontFamily, // what texts are measured in
    view: { stroke: null },
    axis: { labelFontSize: 11, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 140, grid: true, domain: true,
            titlePadding: 9, labelOverlap: true, labelSeparation: 4, labelFlush: false },
    legend: { labelFontSize: 11, titleFontSize: 12, titleFontWeight: "normal", orient: "top", symbolSize: 220, labelLimit: 200,
              symbolStrokeWidth: 2, direction: "horizontal" },
    line: { strokeWidth: 1.8 },
    point: { size: 35 },
  };

  const draw = async (figure) => {
    const { drawing, columns } = JSON.parse(figure.querySelector("script").textContent);
    const names = Object.keys(columns);
    const length = names.length ? columns[names[0]].length : 0;
    const rows = Array.from({ length }, (_, at) => Object.fromEntries(names.map((name) => [name, columns[name][at]])));
    figure.querySelector(".csv").addEventListener("click", () => {
      download(figure.querySelector("h3").textContent, [names, ...rows.map((row) => names.map((name) => row[name]))]);
    });
    const place = figure.querySelector(".drawing");
    const spec = { ...drawing, datasets: { rows } };
    const abreast = Math.max(1, Math.floor((place.clientWidth - 60) / (drawing.usermeta?.legend ?? 100)));
    const fitting = { ...config, legend: { ...config.legend, columns: abreast } };
    const options = { mode: "vega-lite", renderer: "svg", ast: true, actions: false, defaultStyle: false, config: fitting,
                      tooltip: { disableDefaultStyle: true } };
    await window.vegaEmbed(place, spec, options);
    place.querySelector("svg").setAttribute("aria-hidden", "true");
  };

  const drawAll = async () => {
    for (const figure of document.querySelectorAll("figure.chart")) {
      await draw(figure);
      await new Promise((resolve) => setTimeout(resolve));
    }
    document.documentElement.dataset.drawn = "true";
  };

  const valueOf = (cell) => {
    if (cell.dataset.value === undefined) return cell.textContent;
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };

  const compare = (one, other) => {
    if (typeof one === "number" && typeof other === "number") return one - other;
    return String(one).localeCompare(String(other), "en", { numeric: true });
  };

  const sortBy = (table, column, direction) => {
    const body = table.tBodies[0];
    const keyed = Array.from(body.rows, (row) => [valueOf(row.cells[column]), row]);
    const known = keyed.filter(([value]) => value !== null);
    const unknown = keyed.filter(([value]) => value === null); // last, whichever way
    known.sort(([one], [other]) => direction * compare(one, other));
    body.append(...[...known, ...unknown].map(([, row]) => row));
  };

  const cells = (row) => Array.from(row.cells, (cell) => {
    const value = valueOf(cell);
    return typeof value === "number" && String(cell.textContent).includes("[") ? cell.textContent : value;
  });

  const prepare = (figure) => {
    const table = figure.querySelector("table");
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const first = head.classList.contains("number") ? "descending" : "ascending";
      const now = head.getAttribute("aria-sort");
      const next = now === null ? first : now === "ascending" ? "descending" : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", next);
      sortBy(table, column, next === "ascending" ? 1 : -1);
    }));
    const all = Array.from(table.tBodies[0].rows);
    const count = figure.querySelector("output");
    const search = figure.querySelector("input");
    const show = () => {
      if (search === null) return;
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of all) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      count.textContent = shown === all.length ? `${shown} rows` : `${shown} of ${all.length} rows`;
    };
    search?.addEventListener("input", show);
    show();
    figure.querySelector(".csv").addEventListener("click", () => {
      const rows = Array.from(table.tBodies[0].rows).filter((row) => !row.hidden);
      download(figure.querySelector("h3").textContent, [heads.map((head) => head.textContent), ...rows.map(cells)]);
    });
  };

  const follow = () => {
    const links = new Map(Array.from(document.querySelectorAll("nav a"), (link) => [link.hash.slice(1), link]));
    const observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const link = links.get(target.id);
        if (isIntersecting) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    }, { rootMargin: "-20% 0px -60% 0px" });
    document.querySelectorAll("main > section").forEach((section) => observer.observe(section));
  };

  document.querySelectorAll("figure.table").forEach(prepare);
  follow();
  drawAll();
})();
