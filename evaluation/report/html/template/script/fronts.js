// Accuracy against speed: a panel per model and dataset.
const frontGallery = new Gallery(find("#front-panels"));

function theirPoints(title, measure) {
  if (!state.theirs) return [];
  return data.published
    .filter((figure) => `${title} · `.startsWith(`${figure.model} · ${figure.task} · `) && figure.score !== null && (figure[measure.key] ?? null) !== null)
    .map((figure) => ({
      x: figure[measure.key], y: figure.score, text: figure.method,
      ...tooltipFields([`${figure.method} (theirs, not measured here)`, `${figure.paper} ${figure.table}`, figure.hardware]),
    }));
}

function frontSpec(points, theirs, measure) {
  const lines = fronts(points, measure);
  const x = speedScale([...points, ...theirs], measure);
  const y = scoreScale([...points, ...theirs]);
  const middle = x.type === "log" ? Math.sqrt(x.domain[0] * x.domain[1]) : (x.domain[0] + x.domain[1]) / 2;
  const flip = (value) => (value > middle) !== (measure.better === "less");
  const onLines = lines.flatMap((line, index) => line.map((p) => ({ x: p.x, y: p.y, line: index })));
  const seen = new Set();
  const labels = lines.flat().filter((p) => !seen.has(p.name) && seen.add(p.name))
    .map((p) => ({ x: p.x, y: p.y, name: p.name, colour: p.colour, opacity: p.opacity, left: flip(p.x) }));
  // Drawn twice: an outline in the card's colour keeps the letters readable over bars and points.
  const label = (left, around) => ({
    data: { values: labels.filter((p) => p.left === left) },
    mark: {
      type: "text", aria: false, align: left ? "right" : "left", dx: left ? -6 : 6, dy: -9, fontWeight: 600,
      ...(around ? { stroke: colour("--card"), strokeWidth: 4, strokeJoin: "round" } : {}),
    },
    encoding: {
      text: { field: "name", type: "nominal" },
      ...(around ? {} : { color: { field: "colour", type: "nominal", scale: null } }),
      opacity: { field: "opacity", type: "quantitative", scale: null },
    },
  });
  return {
    encoding: {
      x: { field: "x", type: "quantitative", scale: x, axis: speedAxis(measure, x) },
      y: { field: "y", type: "quantitative", scale: y, axis: scoreAxis(y) },
    },
    layer: [
      ...(measure.even === null ? [] : [{
        data: { values: [{ even: measure.even }] },
        mark: { type: "rule", aria: false, strokeDash: [3, 3], color: colour("--soft"), opacity: 0.6 },
        encoding: { x: { field: "even", type: "quantitative" }, y: { value: 0 }, y2: { value: "height" } },
      }]),
      {
        data: { values: onLines },
        mark: { type: "line", aria: false, interpolate: "step-before", strokeWidth: 1.6, color: colour("--soft") },
        encoding: { detail: { field: "line", type: "nominal" }, order: { field: "x", type: "quantitative", sort: x.reverse ? "descending" : "ascending" } },
      },
      { data: { values: points }, layer: [bars("y", "y"), bars("x", "x"), dots] },
      ...[true, false].flatMap((around) => [label(false, around), label(true, around)]),
      ...(theirs.length ? [{
        data: { values: theirs },
        mark: { type: "text", text: "×", aria: false, fontSize: 18, color: colour("--soft") },
        encoding: { tooltip: tooltip(["figure", "source", "hardware"]) },
      }] : []),
    ],
  };
}

function drawFronts() {
  const measure = state.measure;
  const panels = new Map();
  let unmeasured = 0;
  for (const number of filtered()) {
    const one = point(number, measure);
    if (one.x === null || one.y === null) { unmeasured += 1; continue; }
    const title = data.rows[number].panel;
    if (!panels.has(title)) panels.set(title, []);
    panels.get(title).push(one);
  }
  const onFront = new Set();
  const shown = [...panels].map(([title, points]) => {
    fronts(points, measure).flat().forEach((p) => onFront.add(p.number));
    const ranked = points.filter((p) => p.ranked).length;
    const description = `${title}: score against ${measure.title}, ${points.length} runs`;
    return {
      title, note: ranked < points.length ? `${points.length - ranked} not ranked` : "",
      plots: [{ spec: frontSpec(points, theirPoints(title, measure), measure), description }],
    };
  });
  markFront(onFront);
  const machines = new Set([...panels.values()].flat().map((p) => p.machine)).size;
  find("#timed").textContent = [
    measure.relative ? `The ${measure.label} is relative to the same decoding, so each decoding has a front of its own.` : "",
    measure.timed && machines > 1 ? `Timed on ${machines} machines: compare within one only; each has a front of its own.` : "",
    unmeasured ? `${unmeasured} of the runs shown have no score or no ${measure.label} and appear in the table only.` : "",
  ].join(" ").trim();
  return frontGallery.show(shown);
}

// Colours are caches and shapes are decodings everywhere on the page.
function drawLegend() {
  const rows = filtered().map((number) => data.rows[number]).filter(plotted);
  const caches = new Map(rows.map((row) => [row.cache, row.colour]));
  const shapes = [...new Set(rows.map((row) => row.decoding ?? ""))].sort();
  const swatch = (number) => {
    const mark = make("i", { className: "swatch" });
    mark.style.setProperty("--colour", `var(--c${number})`);
    return mark;
  };
  find("#legend").replaceChildren(
    ...[...caches].sort((a, b) => a[1] - b[1]).map(([name, number]) => make("span", {}, swatch(number), name)),
    make("span", { className: "gap" }),
    ...shapes.map((name) =>
      make("span", {}, make("i", { className: "symbol" }, SYMBOLS[shapeOf({ decoding: name })]), name || "(none)")),
  );
}
