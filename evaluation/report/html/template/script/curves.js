// Score and speed along one parameter: a panel per model and dataset, a line per cache and fixed settings.
const curveGallery = new Gallery(find("#curve-panels"));
let parameter = null;

// The curves that pass the filters, with their remaining runs.
function curvesLeft() {
  const left = new Set(filtered());
  return data.curves
    .filter((curve) => state.cache === null || state.cache === curve.cache)
    .map((curve) => {
      const kept = curve.runs.map((run, index) => [run, curve.values[index]]).filter(([run]) => left.has(run));
      return { ...curve, runs: kept.map(([run]) => run), values: kept.map(([, value]) => value) };
    })
    .filter((curve) => new Set(curve.values).size > 1);
}

function chooseParameter(curves) {
  const names = [...new Set(curves.map((curve) => curve.parameter))];
  if (!names.includes(parameter)) parameter = names[0] ?? null;
  const labels = names.map((name) => {
    const input = make("input", { type: "radio", name: "parameter", value: name, checked: name === parameter });
    input.addEventListener("change", () => { parameter = name; drawCurves(); });
    return make("label", {}, input, make("span", {}, name));
  });
  const legend = find("#parameter legend");
  const focused = find("#parameter").contains(document.activeElement);
  find("#parameter").replaceChildren(legend, ...labels);
  if (focused) find("#parameter input:checked").focus();
  find("#curves").hidden = !names.length;
}

// With null among the values, null comes first and the numbers are evenly spaced.
function parameterAxis(name, values) {
  const known = [...new Set(values)].sort((a, b) => (a ?? -Infinity) - (b ?? -Infinity));
  const axis = { title: name, labelAngle: 0, labelOverlap: "greedy" };
  if (known[0] === null) {
    return { field: "at", type: "ordinal", scale: { domain: known.map(String), padding: 0.5 }, axis };
  }
  const [low, high] = [known[0], known[known.length - 1]];
  const log = low > 0 && high / low >= 8;
  const room = (high - low) * 0.06;
  const scale = log ? { type: "log", domain: [low / 1.2, high * 1.2], nice: false } : { domain: [low - room, high + room], nice: false, zero: false };
  return { field: "value", type: "quantitative", scale, axis: { ...axis, values: known, format: "~g" } };
}

const curveSpec = (points, x, y) => ({
  height: 230,
  data: { values: points },
  encoding: { x, y },
  layer: [
    {
      transform: [{ filter: "datum.value !== null" }],
      mark: { type: "line", aria: false, strokeWidth: 2 },
      encoding: {
        detail: { field: "line", type: "nominal" },
        order: { field: "order", type: "quantitative" },
        stroke: { field: "colour", type: "nominal", scale: null },
        strokeDash: { field: "dash", type: "nominal", scale: { domain: [0, 1, 2], range: DASHES }, legend: null },
      },
    },
    bars("y", y.field),
    dots,
  ],
});

function curvePanel(title, curves, measure) {
  const perCache = Object.create(null); // a cache may be called __proto__
  const lines = curves.map((curve) => ({ ...curve, turn: (perCache[curve.cache] = (perCache[curve.cache] ?? -1) + 1) }));
  const points = lines.flatMap((curve, line) => curve.runs.map((run, order) => ({
    ...point(run, measure), line, order, value: curve.values[order], at: String(curve.values[order]),
    dash: curve.turn % DASHES.length, shape: SHAPES[curve.turn % SHAPES.length], opacity: 1,
  })));
  const scored = points.filter((p) => p.y !== null);
  const timed = points.filter((p) => p.x !== null);
  const x = parameterAxis(parameter, points.map((p) => p.value));
  const score = scoreScale(scored);
  const speed = speedScale(timed.length ? timed : [{ x: 1 }], measure);
  const plots = [
    [scored, { field: "y", type: "quantitative", scale: score, axis: scoreAxis(score) }, "score"],
    [timed, { field: "x", type: "quantitative", scale: { ...speed, reverse: false }, axis: { ...speedAxis(measure, speed), title: measure.label } }, measure.label],
  ];
  const legend = make("div", { className: "legend" }, ...lines.map((curve) => {
    const symbol = make("i", { className: "symbol" }, SYMBOLS[curve.turn % SYMBOLS.length]);
    symbol.style.setProperty("--colour", `var(--c${data.rows[curve.runs[0]].colour})`);
    return make("span", {}, symbol, [curve.cache, curve.fixed].filter(Boolean).join(" "));
  }));
  return {
    title, below: legend,
    plots: plots.filter(([some]) => some.length).map(([some, y, what]) => ({
      spec: curveSpec(some, x, y), description: `${title}: ${what} against ${parameter}`,
    })),
  };
}

function drawCurves() {
  const curves = curvesLeft();
  chooseParameter(curves);
  const panels = new Map();
  for (const curve of curves.filter((one) => one.parameter === parameter)) {
    if (!panels.has(curve.panel)) panels.set(curve.panel, []);
    panels.get(curve.panel).push(curve);
  }
  return curveGallery.show([...panels].map(([title, some]) => curvePanel(title, some, state.measure)));
}
