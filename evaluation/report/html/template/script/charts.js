// Shared by all charts: points of runs, scales, style, and drawing.
const SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross"];
const SYMBOLS = ["●", "■", "▲", "◆", "▼", "✚"];
const DASHES = [[1, 0], [6, 3], [2, 3]];
const plotted = (row) => row.score[0] !== null;
const decodings = [...new Set(data.rows.filter(plotted).map((row) => row.decoding ?? ""))].sort();
const shapeOf = (row) => decodings.indexOf(row.decoding ?? "") % SHAPES.length;

// A run as a point of a chart: x is speed, y is score, each with its interval.
function point(number, measure) {
  const row = data.rows[number];
  const [x, xLow, xHigh] = row.measures[measure.key];
  const [y, yLow, yHigh] = row.score;
  return {
    x, xLow, xHigh, y, yLow, yHigh, number,
    name: row.cache,
    machine: row.hardware,
    decoding: row.decoding,
    ranked: row.ranked,
    colour: colour(`--c${row.colour}`),
    shape: SHAPES[shapeOf(row)],
    opacity: state.cache === null || state.cache === row.cache ? 1 : 0.18,
    ...tooltipFields(row.tip),
  };
}

// Texts of a tooltip as fields of a point, and the encoding that shows them.
const tooltipFields = (texts) => Object.fromEntries(texts.map((text, index) => [`tip${index}`, text]));
const tooltip = (titles) => titles.map((title, index) => ({ field: `tip${index}`, title, type: "nominal" }));

const spread = (numbers) => {
  const known = numbers.filter((value) => value !== null && value !== undefined);
  return [Math.min(...known), Math.max(...known)];
};

// Logarithmic for a wide range; room at both ends.
function speedScale(points, measure) {
  const [low, high] = spread([...points.flatMap((p) => [p.x, p.xLow, p.xHigh]), measure.even]);
  const reverse = measure.better === "less";
  if (low > 0 && high / low > 6) return { type: "log", domain: [low / 1.15, high * 1.2], nice: false, reverse };
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  return { type: "linear", domain: [low >= 0 ? Math.max(0, low - room) : low - room, high + room], nice: false, reverse };
}

function scoreScale(points) {
  const [low, high] = spread(points.flatMap((p) => [p.y, p.yLow, p.yHigh]));
  const room = Math.max((high - low) * 0.08, 0.01);
  return { domain: [Math.max(0, low - room), high + room], nice: false, zero: false };
}

const speedAxis = (measure, scale) => ({
  title: measure.title, format: measure.form, tickCount: scale.type === "log" ? 6 : 5, labelOverlap: "greedy", labelFlush: false,
});

// Ticks at round shares, none above 1.
function scoreAxis({ domain: [low, high] }) {
  const step = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2].find((size) => (high - low) / size <= 7) ?? 0.25;
  const [first, last] = [Math.ceil(low / step), Math.floor(Math.min(high, 1) / step + 1e-9)];
  const values = Array.from({ length: Math.max(last - first + 1, 0) }, (_, index) => (first + index) * step);
  return { title: "score", format: ".3~p", values };
}

// Intervals along `axis`, whose values are in `field`.
const bars = (axis, field) => ({
  transform: [{ filter: `isValid(datum.${field}Low) && isValid(datum.${field}High)` }],
  mark: { type: "rule", strokeWidth: 1.4, aria: false },
  encoding: {
    [axis]: { field: `${field}Low`, type: "quantitative" },
    [`${axis}2`]: { field: `${field}High` },
    stroke: { field: "colour", type: "nominal", scale: null },
    opacity: { field: "opacity", type: "quantitative", scale: null },
  },
});

const dots = {
  mark: { type: "point", size: 75, strokeWidth: 1.8, cursor: "pointer" },
  encoding: {
    stroke: { field: "colour", type: "nominal", scale: null },
    fill: { field: "colour", type: "nominal", scale: null },
    fillOpacity: { condition: { test: "datum.ranked", value: 0.85 }, value: 0 },
    opacity: { field: "opacity", type: "quantitative", scale: null },
    shape: { field: "shape", type: "nominal", scale: null },
    tooltip: tooltip(data.tips),
    description: { field: "tip0", type: "nominal" },
  },
};

function looks() {
  const [ink, soft, line, grid] = ["--ink", "--soft", "--line", "--grid"].map(colour);
  return {
    background: "transparent",
    font: "system-ui, sans-serif",
    view: { stroke: null },
    axis: {
      labelColor: soft, titleColor: soft, gridColor: grid, domainColor: line, tickColor: line,
      labelFontSize: 11, titleFontSize: 11, titleFontWeight: "normal", titlePadding: 6,
    },
    text: { color: ink, fontSize: 11 },
  };
}

// Draw `spec` in `element`; a click on a point goes to its row.
function draw(element, spec, description) {
  const whole = {
    width: "container", height: 270, autosize: { type: "fit", contains: "padding" }, config: looks(), description, ...spec,
  };
  return vegaEmbed(element, whole, { mode: "vega-lite", renderer: "svg", actions: false, ast: true }).then(({ view }) => {
    view.addEventListener("click", (event, item) => {
      if (item?.datum?.number !== undefined) showRow(item.datum.number);
    });
    return view;
  });
}

// Charts of one section. A new drawing cancels an unfinished one.
class Gallery {
  constructor(element) {
    this.element = element;
    this.views = [];
    this.turn = 0;
  }

  // `panels`: {title, note, plots: [{spec, description}], below: Element?}
  async show(panels) {
    const turn = ++this.turn;
    this.views.splice(0).forEach((view) => view.finalize());
    this.element.dataset.drawn = "no";
    const places = panels.map((panel) => {
      const plots = panel.plots.map(() => make("div", { className: "plot" }));
      const caption = make("figcaption", {}, panel.title, " ", make("small", {}, panel.note ?? ""));
      const holder = make("div", { className: "pair" }, ...plots);
      return [make("figure", { className: "panel" }, caption, holder, ...(panel.below ? [panel.below] : [])), plots];
    });
    this.element.replaceChildren(...places.map(([figure]) => figure));
    if (!panels.length) this.element.append(make("p", { className: "note" }, "Nothing to draw: no run shown has these figures."));
    for (const [index, panel] of panels.entries()) {
      for (const [number, plot] of panel.plots.entries()) {
        const view = await draw(places[index][1][number], plot.spec, plot.description);
        if (turn !== this.turn) return view.finalize();
        this.views.push(view);
      }
    }
    this.element.dataset.drawn = "yes";
  }
}
