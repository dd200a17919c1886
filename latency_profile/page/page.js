"use strict";
(async () => {
  const themes = JSON.parse(document.getElementById("themes").textContent);
  const packed = Uint8Array.from(atob(document.getElementById("figures").textContent), (sign) => sign.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const figures = await new Response(unpacked).json();
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const MANY = 3000; // rows from which an SVG would be slow
  const HEIGHT = 280;
  const views = new Map(); // by place, of those that are drawn
  const hidden = { profile: new Set(), line: new Set() };
  let printing = false;
  let logarithmic = false;

  const theme = () => {
    if (printing) return "light";
    return root.dataset.theme || (prefersDark.matches ? "dark" : "light");
  };

  // Columns to rows, without those that the legend hides.
  function rows(columns) {
    const names = Object.keys(columns);
    const count = names.length ? columns[names[0]].length : 0;
    const made = [];
    for (let k = 0; k < count; k += 1) {
      const row = {};
      for (const name of names) row[name] = columns[name][k];
      if (!hidden.profile.has(row.profile) && !hidden.line.has(row.line)) made.push(row);
    }
    return made;
  }

  const isOverview = (place) => place.startsWith("overview-");

  // What the page itself shows beside the figure (profiles, percentiles, verdicts) needs no legend in it.
  function without(spec, percentiles) {
    const strip = (channels) => {
      for (const channel of Object.values(channels || {})) {
        if (channel.legend && (channel.field !== "line" || percentiles)) channel.legend = null; // {} shows one
      }
    };
    for (const layer of spec.layer || []) strip(layer.encoding);
  }

  // A logarithm has no place for 0.
  function decades({ y, low, high }) {
    const ends = [...y, ...low, ...high].filter((value) => value !== null);
    const least = Math.min(...ends);
    return least > 0 ? Math.ceil(Math.log10(Math.max(...ends))) - Math.floor(Math.log10(least)) : 0;
  }

  function scaled(spec, points) {
    const powers = logarithmic ? decades(points) : 0;
    for (const part of [spec, ...(spec.layer || [])]) {
      const y = part.encoding && part.encoding.y;
      if (y && y.scale && /, ms$/.test(y.title || "")) {
        y.scale = powers ? { type: "log" } : { type: "linear", zero: true };
        y.axis = { tickCount: powers > 1 ? powers : 6 };
      }
    }
  }

  function specOf(place) {
    const { spec, data } = figures[place];
    const made = structuredClone(spec);
    if (isOverview(place)) {
      without(made, data.points.line.some((line) => line === "p50"));
      scaled(made, data.points);
    }
    const composed = ["facet", "repeat", "concat", "hconcat", "vconcat"].some((key) => key in made);
    if (!composed && made.width === undefined) made.width = "container";
    if (!composed && made.height === undefined) made.height = HEIGHT;
    made.datasets = Object.fromEntries(Object.entries(data).map(([name, columns]) => [name, rows(columns)]));
    return made;
  }

  // [px, names that stand beside each other in the legend of a figure that is narrower than that]
  const COLUMNS = [[480, 1], [640, 3]];

  function look(node) {
    const config = structuredClone(themes[theme()]);
    const narrow = COLUMNS.find(([width]) => node.clientWidth < width);
    if (narrow) config.legend.columns = narrow[1];
    return config;
  }

  async function draw(node) {
    const place = node.dataset.figure;
    const { data } = figures[place];
    const many = Object.values(data).some((columns) => (Object.values(columns)[0] || []).length > MANY);
    const old = views.get(place);
    if (old) old.finalize();
    const result = await vegaEmbed(node, specOf(place), {
      mode: "vega-lite",
      actions: false,
      logLevel: 1, // errors: what there is no data for is no news
      config: look(node),
      renderer: many ? "canvas" : "svg",
      tooltip: { theme: theme() === "dark" ? "dark" : "light" },
    });
    views.set(place, result);
    node.dataset.drawn = theme();
  }

  const plots = () => [...document.querySelectorAll(".plot")];
  const isSeen = (node) => {
    for (let at = node.closest("details"); at; at = at.parentElement.closest("details")) if (!at.open) return false;
    return true;
  };

  const pause = () => new Promise((resolve) => setTimeout(resolve)); // Vega itself never lets go of the page

  async function drawAll(again) {
    for (const node of plots()) {
      if (isSeen(node) && (again || !node.dataset.drawn)) {
        await pause();
        try {
          await draw(node);
        } catch (error) {
          node.textContent = `This figure could not be drawn: ${error.message}`;
          node.dataset.drawn = "failed";
          console.error(error);
        }
      }
    }
  }

  // One after the other: a figure is not drawn twice at once.
  let queue = Promise.resolve();
  function drawSeen(again) {
    document.body.dataset.ready = "false";
    const mine = queue.then(() => drawAll(again));
    queue = mine;
    mine.then(() => {
      if (queue === mine) document.body.dataset.ready = "true";
    });
  }

  function refill() {
    for (const [place, { view }] of views) {
      for (const [name, columns] of Object.entries(figures[place].data)) {
        if ("profile" in columns || "line" in columns) view.data(name, rows(columns));
      }
      view.run();
    }
  }

  const shapes = {
    circle: "M8 3a5 5 0 1 0 .01 0z",
    "triangle-up": "M8 2l6 11H2z",
    diamond: "M8 1.5L13 8l-5 6.5L3 8z",
    square: "M3 3h10v10H3z",
    "triangle-down": "M8 14L2 3h12z",
    cross: "M6 2h4v4h4v4h-4v4H6v-4H2V6h4z",
  };
  const HOLLOW = ["CLIENT_LIMITED", "CONTAMINATED", "FAILED"];
  const SVG = "http://www.w3.org/2000/svg";

  function drawKey() {
    for (const node of document.querySelectorAll(".shape")) {
      const svg = document.createElementNS(SVG, "svg");
      svg.setAttribute("viewBox", "0 0 16 16");
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("d", shapes[node.dataset.shape]);
      path.setAttribute("fill", HOLLOW.includes(node.dataset.verdict) ? "none" : "currentColor");
      path.setAttribute("stroke", "currentColor");
      path.setAttribute("stroke-width", "1.6");
      svg.append(path);
      node.replaceChildren(svg);
    }
  }

  function paintSwatches() {
    const several = document.querySelector('[data-column="profile"]') !== null;
    const dashes = ["solid", "dashed", "dotted"];
    for (const button of document.querySelectorAll("[data-column]")) {
      const place = Number(button.dataset.place);
      const swatch = button.querySelector(".swatch");
      const colours = themes[theme()].range.category;
      const coloured = !several || button.dataset.column === "profile";
      swatch.style.borderTopColor = coloured ? colours[place % colours.length] : "currentColor";
      swatch.style.borderTopStyle = button.dataset.column === "line" && several ? dashes[place % 3] : "solid";
    }
  }

  function toggle(button) {
    const pressed = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(pressed));
    return pressed;
  }

  for (const button of document.querySelectorAll("[data-column]")) {
    const chosen = hidden[button.dataset.column];
    if (button.getAttribute("aria-pressed") === "false") chosen.add(button.dataset.value);
    button.addEventListener("click", () => {
      if (toggle(button)) chosen.delete(button.dataset.value);
      else chosen.add(button.dataset.value);
      refill();
    });
  }

  const log = document.getElementById("log");
  if (log) {
    logarithmic = Object.values(figures).some(({ spec }) => {
      const y = spec.encoding && spec.encoding.y;
      return y && y.scale && y.scale.type === "log";
    });
    log.setAttribute("aria-pressed", String(logarithmic));
    log.addEventListener("click", () => {
      logarithmic = toggle(log);
      drawSeen(true);
    });
  }

  const themeButton = document.getElementById("theme");
  function themed() {
    themeButton.setAttribute("aria-pressed", String(theme() === "dark"));
    paintSwatches();
    drawSeen(true);
  }
  themeButton.addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    themed();
  });
  prefersDark.addEventListener("change", () => {
    if (!root.dataset.theme && !printing) themed();
  });

  // The numbers of a figure that has no table of its own: its data, a table each.
  function tabulate(details) {
    const add = (parent, tag, text, scope) => {
      const made = parent.appendChild(document.createElement(tag));
      if (text !== undefined) made.textContent = text;
      if (scope) made.scope = scope;
      return made;
    };
    const shown = (value) => {
      if (value === null) return "–";
      return typeof value === "number" ? String(Number(value.toPrecision(4))) : String(value);
    };
    for (const [name, columns] of Object.entries(figures[details.dataset.numbers].data)) {
      const frame = add(details, "div");
      frame.className = "frame";
      frame.tabIndex = 0;
      frame.setAttribute("role", "region");
      frame.setAttribute("aria-label", name);
      const table = add(frame, "table");
      add(table, "caption", name);
      const head = add(add(table, "thead"), "tr");
      for (const column of Object.keys(columns)) add(head, "th", column, "col");
      const body = add(table, "tbody");
      for (const row of rows(columns)) {
        const line = add(body, "tr");
        for (const value of Object.values(row)) add(line, "td", shown(value));
      }
    }
  }

  for (const details of document.querySelectorAll("details")) {
    details.addEventListener("toggle", () => {
      if (!details.open || printing) return; // on paper only what has been asked for
      if (details.dataset.numbers && details.children.length === 1) tabulate(details);
      drawSeen(false);
    });
  }

  // On paper everything is open, drawn, and light.
  let closed = [];
  let before;
  function unfold() {
    if (printing) return Promise.resolve();
    printing = true;
    before = root.dataset.theme;
    root.dataset.theme = "light";
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const details of closed) details.open = true;
    paintSwatches();
    return Promise.all(plots().filter((node) => node.dataset.drawn !== "light").map(draw));
  }
  function fold() {
    if (!printing) return;
    printing = false;
    if (before === undefined) delete root.dataset.theme;
    else root.dataset.theme = before;
    for (const details of closed) details.open = false;
    themed();
  }
  addEventListener("beforeprint", unfold);
  addEventListener("afterprint", fold);
  document.getElementById("print").addEventListener("click", async () => {
    await unfold();
    print();
  });

  drawKey();
  themeButton.setAttribute("aria-pressed", String(theme() === "dark"));
  paintSwatches();
  drawSeen(false);
})();
