"use strict";
(async () => {
  const island = (id) => document.getElementById(id).textContent;
  function unpacked(id) {
    const signs = atob(island(id));
    const bytes = new Uint8Array(signs.length);
    for (let k = 0; k < signs.length; k += 1) bytes[k] = signs.charCodeAt(k);
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate")));
  }
  const figures = {}; // by place: specification and data
  function learn({ specs, figures: found }) {
    for (const [place, [spec, data]] of Object.entries(found)) figures[place] = { spec: specs[spec], data };
  }
  const themes = JSON.parse(island("themes"));
  const [atOnce, library] = await Promise.all([unpacked("figures").json(), unpacked("library").text()]);
  learn(atOnce);
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const MANY = 3000; // rows from which an SVG would be slow
  const HEIGHT = 280;
  const views = new Map(); // by place, of those that are drawn
  const hidden = { profile: new Set(), line: new Set() };
  let printing = false;
  let look = 0; // grows with every change of how figures look
  let folded = null; // HTML of folded parts, once it is unpacked
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

  // Latencies have both kinds of axes; where the logarithm has no place for 0, both are linear.
  function scaled(spec) {
    if (!spec.usermeta) return;
    const axis = spec.usermeta[logarithmic ? "logarithmic" : "linear"];
    for (const part of [spec, ...(spec.layer || [])]) {
      if (part.encoding && part.encoding.y) Object.assign(part.encoding.y, axis);
    }
  }

  // columns: as many as a legend may have at most, where there is a limit.
  function specOf(place, columns) {
    const { spec, data } = figures[place];
    const made = structuredClone(spec);
    if (isOverview(place)) {
      without(made, data.points.line.some((line) => line === "p50"));
      scaled(made);
    }
    const composed = ["facet", "repeat", "concat", "hconcat", "vconcat"].some((key) => key in made);
    if (columns) {
      JSON.stringify(made, (key, value) => { // every legend, wherever it is
        if (key === "legend" && value && value.columns) value.columns = Math.min(value.columns, columns);
        return value;
      });
    }
    if (!composed && made.width === undefined) made.width = "container";
    if (!composed && made.height === undefined) made.height = HEIGHT;
    return made;
  }

  // [px, names that stand beside each other in the legend of a figure that is narrower than that]
  const COLUMNS = [[480, 1], [640, 3]];

  function configOf(node) {
    const config = structuredClone(themes[theme()]);
    const narrow = COLUMNS.find(([width]) => node.clientWidth < width);
    if (narrow) config.legend.columns = narrow[1];
    return config;
  }

  // Points have the same specifications: each is compiled once a look, and then only given each figure's data.
  const compiled = new Map();

  async function draw(node) {
    const place = node.dataset.figure;
    const { spec, data } = figures[place];
    const config = configOf(node);
    const datasets = Object.fromEntries(Object.entries(data).map(([name, columns]) => [name, rows(columns)]));
    const key = [theme(), logarithmic, config.legend.columns].join();
    if (!compiled.has(spec)) compiled.set(spec, new Map());
    const known = compiled.get(spec).get(key);
    const made = known
      ? { ...known, data: known.data.map((of) => (of.name in datasets ? { ...of, values: datasets[of.name] } : of)) }
      : { ...specOf(place, config.legend.columns), datasets };
    const many = Object.values(datasets).some((of) => of.length > MANY);
    const old = views.get(place);
    if (old) old.finalize();
    const result = await vegaEmbed(node, made, {
      mode: known ? "vega" : "vega-lite",
      actions: false,
      logLevel: 1, // errors: what there is no data for is no news
      config: known ? {} : config, // it is compiled into the specification
      renderer: many ? "canvas" : "svg",
      tooltip: { theme: theme() === "dark" ? "dark" : "light" },
    });
    if (!known) compiled.get(spec).set(key, result.vgSpec);
    views.set(place, result);
    node.dataset.drawn = theme();
  }

  async function attempt(node) {
    node.dataset.look = look;
    try {
      await draw(node);
    } catch (error) {
      node.textContent = `This figure could not be drawn: ${error.message}`;
      node.dataset.drawn = "failed";
      console.error(error);
    }
  }

  const plots = () => [...document.querySelectorAll(".plot")];
  const isStale = (node) => node.dataset.figure in figures && node.dataset.look !== String(look);
  const isSeen = (node) => {
    for (let at = node.closest("details"); at; at = at.parentElement.closest("details")) if (!at.open) return false;
    return true;
  };

  // First what is in view or close to it; then, as long as nobody wants anything else, the rest that is not folded.
  const near = new Set();
  function next() {
    const stale = plots().filter(isStale);
    return stale.find((node) => near.has(node)) || stale.find(isSeen);
  }

  const pause = () => new Promise((resolve) => setTimeout(resolve)); // Vega itself never lets go of the page
  let wake = () => {}; // whoever waits for an idle moment, once there is something to be seen
  const idle = () => new Promise((resolve) => {
    wake = resolve;
    if (window.requestIdleCallback) requestIdleCallback(resolve, { timeout: 500 });
    else setTimeout(resolve);
  });

  async function learnFolded() {
    const later = await unpacked("folded").json();
    learn(later);
    folded = later.html;
    document.querySelectorAll("details[open]").forEach(fill); // asked for already
  }

  let working = false;
  async function work() {
    wake();
    if (working) return;
    working = true;
    document.body.dataset.ready = "false";
    for (let node = next(); node || !folded; node = next()) {
      if (near.has(node)) await pause();
      else if (folded) await idle();
      else await learnFolded();
      const now = next(); // another one may be in view by now
      if (now) await attempt(now);
    }
    document.body.dataset.ready = "true";
    working = false;
  }

  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) near[isIntersecting ? "add" : "delete"](target);
    work();
  }, { rootMargin: "50% 0px" });
  const watch = (within) => within.querySelectorAll(".plot").forEach((node) => watcher.observe(node));

  function redraw() {
    look += 1;
    work();
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
    logarithmic = Object.values(figures).some(({ spec }) => spec.usermeta && spec.encoding.y.scale.type === "log");
    log.setAttribute("aria-pressed", String(logarithmic));
    log.addEventListener("click", () => {
      logarithmic = toggle(log);
      redraw();
    });
  }

  const themeButton = document.getElementById("theme");
  function themed() {
    themeButton.setAttribute("aria-pressed", String(theme() === "dark"));
    paintSwatches();
    redraw();
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

  // What is folded is put into the page when it is asked for; nothing that it has is lost to those who see no figure.
  function fill(details) {
    const { packed, numbers } = details.dataset;
    if (packed && folded) {
      details.insertAdjacentHTML("beforeend", folded[packed]);
      delete details.dataset.packed;
      watch(details);
    }
    if (numbers in figures && details.children.length === 1) tabulate(details);
  }
  document.addEventListener("toggle", ({ target }) => {
    if (!target.open || printing) return; // on paper only what has been asked for
    fill(target);
    work();
  }, true);

  // On paper everything is open, drawn, and light.
  let closed = [];
  let before;
  function unfold() {
    if (printing) return Promise.resolve();
    printing = true;
    before = root.dataset.theme;
    root.dataset.theme = "light";
    closed = [];
    for (let some = shut(); some.length; some = shut()) { // folds have folds in them
      for (const details of some) {
        if (details.dataset.packed) fill(details);
        details.open = true;
      }
      closed.push(...some);
    }
    look += 1;
    paintSwatches();
    return Promise.all(plots().filter((node) => node.dataset.figure in figures && node.dataset.drawn !== "light").map(attempt));
  }
  const shut = () => [...document.querySelectorAll("details:not([open])")];
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
  const printButton = document.getElementById("print");
  printButton.addEventListener("click", async () => {
    printButton.textContent = "Drawing …"; // of many points it takes a while
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    await unfold();
    printButton.textContent = "Print";
    print();
  });

  drawKey();
  themeButton.setAttribute("aria-pressed", String(theme() === "dark"));
  paintSwatches();
  const script = document.createElement("script");
  script.textContent = library; // the policy knows its sum
  document.head.append(script);
  watch(document);
  if (!plots().length) work();
})();
