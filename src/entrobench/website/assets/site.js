"use strict";
// Sorting and searching of tables, the browser of problems, and the drawing of curves. Data comes as scripts
// that call entrobench.take: a page opened from a disk may load nothing else. Text is set as text, never as HTML.
const entrobench = (() => {
  const waiting = new Map();
  const pieces = new Map();

  function take(name, content) {
    pieces.set(name, content);
    waiting.get(name)?.(content);
  }

  function load(folder, name) {
    if (pieces.has(name)) return Promise.resolve(pieces.get(name));
    return new Promise((resolve, reject) => {
      waiting.set(name, resolve);
      const script = document.createElement("script");
      script.src = `${folder}${name}.js`;
      script.onerror = () => reject(new Error(`${script.src} cannot be read: was it moved away from the site?`));
      document.head.append(script);
    });
  }

  function element(tag, text, className) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  // -- tables -----------------------------------------------------------------------------------------------

  function orderOf(cell) {
    if (!cell) return "";
    const text = cell.dataset.order ?? cell.textContent.trim();
    const number = Number(text.replace(/,/g, ""));
    return text === "" || Number.isNaN(number) ? text.toLowerCase() : number;
  }

  function compare(a, b) {
    if ((a === "") !== (b === "")) return a === "" ? 1 : -1; // what is missing stands last either way
    if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
    return typeof a === "number" ? -1 : 1;
  }

  function sortBy(table, head) {
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
      const keyed = rows.map((row) => [orderOf(row.cells[head.cellIndex]), row]);
      keyed.sort(([a], [b]) => {
        const found = compare(a, b);
        return descending && a !== "" && b !== "" ? -found : found;
      });
      body.append(...keyed.map(([, row]) => row));
    }
  }

  function makeSortable(table) {
    const heads = table.tHead.rows[table.tHead.rows.length - 1];
    for (const head of heads.cells) {
      const button = element("button", head.textContent);
      button.type = "button";
      head.replaceChildren(button);
      button.addEventListener("click", () => sortBy(table, head));
    }
  }

  function filterRows(table, words, output) {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    const rows = [...table.tBodies[0].rows];
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    if (output) output.textContent = `${shown} of ${rows.length}`;
  }

  for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
  for (const input of document.querySelectorAll("input[data-filters]")) {
    const id = input.dataset.filters;
    const output = document.querySelector(`output[data-count="${id}"]`);
    const apply = () => filterRows(document.getElementById(id), input.value, output);
    input.addEventListener("input", apply);
    apply();
  }

  // -- problems ---------------------------------------------------------------------------------------------

  function browse(folder, cells, lists) {
    const table = document.getElementById("problem-list");
    const more = document.getElementById("more");
    const find = document.getElementById("find");
    const found = document.getElementById("found");
    const pieceOf = new Map();
    let next = 0;

    const apply = () => filterRows(table, find.value, found);
    find.addEventListener("input", apply);

    async function loadList() {
      const rows = await load(folder, `problems${next++}`);
      for (const row of rows) {
        pieceOf.set(row.id, row.piece);
        const line = document.createElement("tr");
        const link = element("a", row.id);
        link.href = `#${encodeURIComponent(row.id)}`;
        const first = document.createElement("td");
        first.append(link);
        line.append(first, element("td", row.text, "text"));
        for (const of_cell of row.correct) {
          const cell = element("td", of_cell ? `${of_cell[0]}/${of_cell[1]}` : "", "number");
          if (of_cell) cell.dataset.order = of_cell[0] / of_cell[1];
          line.append(cell);
        }
        table.tBodies[0].append(line);
      }
      more.hidden = next >= lists;
      apply();
    }

    function showSample(values, into) {
      const [number, completion, extracted, verdict, second, tokens, finish] = values;
      const sample = element("div", undefined, "sample");
      const line = element("p");
      line.append(element("b", verdict, verdict));
      const rest = [`sample ${number}`, `answer ${extracted ?? "none"}`, `${tokens ?? "?"} tokens`, finish];
      if (second !== null && second !== verdict) rest.push(`second grader: ${second}`);
      line.append(` · ${rest.join(" · ")}`);
      const text = element("pre", completion);
      text.tabIndex = 0;
      sample.append(line, text);
      into.append(sample);
    }

    async function showProblem() {
      const section = document.getElementById("problem");
      const id = decodeURIComponent(location.hash.slice(1));
      while (id && !pieceOf.has(id) && next < lists) await loadList();
      if (!pieceOf.has(id)) {
        section.hidden = true;
        return;
      }
      const piece = await load(folder, `samples${pieceOf.get(id)}`);
      const problem = piece.find((each) => each.id === id);
      section.replaceChildren(element("h2", id), element("pre", problem.problem), element("p", `Expected: ${problem.gold}`));
      for (const [cell, samples] of Object.entries(problem.cells)) {
        const correct = samples.filter((sample) => sample[3] === "correct").length;
        const part = document.createElement("details");
        part.open = Object.keys(problem.cells).length < 4;
        part.append(element("summary", `${cell}: ${correct} of ${samples.length} correct`));
        for (const sample of samples) showSample(sample, part);
        section.append(part);
      }
      section.hidden = false;
      section.scrollIntoView({ block: "start" });
    }

    const failed = (error) => {
      found.textContent = error.message;
    };
    more.addEventListener("click", () => loadList().catch(failed));
    addEventListener("hashchange", () => showProblem().catch(failed));
    if (lists) loadList().then(showProblem).catch(failed);
  }

  // -- curves -----------------------------------------------------------------------------------------------

  function drawCurves() {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const ink = dark ? "#ddd" : "#222";
    const config = {
      background: "transparent",
      axis: { labelColor: ink, titleColor: ink, gridColor: dark ? "#444" : "#ddd", domainColor: ink, tickColor: ink },
      legend: { labelColor: ink }, title: { color: ink, anchor: "start", fontSize: 13 }, view: { stroke: null },
    };
    for (const place of document.querySelectorAll(".curve")) {
      const spec = JSON.parse(place.querySelector("script").textContent);
      vegaEmbed(place, spec, { actions: false, renderer: "svg", config });
    }
  }

  return { take, browse, drawCurves };
})();
