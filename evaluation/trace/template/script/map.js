// The map, a pixel high per step: what happened at every position. Bars of each step beside it, on the same lines.
const slowest = Math.max(...runs.map((run) => Math.max(...run.steps.map((step) => step.ms))));
const bars = { // says: what they show, and from where to where
  run: { says: "rows run\n0–100 %", most: 1, of: (run, step) => run.steps[step - 1].run / (start + positions(run, step - 1)) },
  ms: { says: `time\n0–${+slowest.toPrecision(2)} ms`, most: slowest, of: (run, step) => run.steps[step - 1].ms },
};

const lineHeight = () => Math.max(1, Math.min(22, Math.floor(400 / most)));

// The prompt has its share of the width, but never more than three tenths.
const edge = (run, width) => width * Math.min(0.3, start / run.length);
const leftOf = (run, width, position) =>
  position < start ? (edge(run, width) * position) / start : edge(run, width) + ((width - edge(run, width)) * (position - start)) / run.gen;
const positionAt = (run, width, x) => {
  const from = edge(run, width);
  const position = x < from ? Math.floor((x / from) * start) : start + Math.floor(((x - from) / (width - from)) * run.gen);
  return Math.max(0, Math.min(run.length - 1, position));
};

// What a position shows in a step, and how much it stands out among those that share its column.
function cell(run, step, layers, position) {
  const generated = position - start;
  const share = layers[position] / run.layers;
  if (generated >= 0 && !exists(run, step - 1, generated)) return [palette.page, -1];
  const masked = generated >= 0 && !holds(run, step - 1, generated);
  if (state.hue === "confidence") {
    const sure = generated >= 0 ? confidence(run, step, generated) : null;
    return sure === null ? [palette[masked ? "masked-reused" : "held-reused"], 0] : [certain(sure), 1];
  }
  if (generated >= 0 && isNew(run, step, generated)) return [palette.committed, 2];
  if (generated >= 0 && isGone(run, step, generated)) return [palette.gone, 3];
  return [worked(masked ? "masked" : "held", share), share];
}

function drawMap(run) {
  const canvas = find(".map canvas", run.panel);
  const width = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
  const height = run.steps.length;
  canvas.width = width;
  canvas.height = height;
  canvas.style.height = `${height * lineHeight()}px`;
  const columns = Array.from({ length: width }, (_, x) => {
    const first = positionAt(run, width, x);
    return [first, Math.max(first + 1, positionAt(run, width, x + 1))];
  });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let step = 1; step <= height; step += 1) {
    const layers = layersOf(run, step);
    columns.forEach(([first, last], x) => {
      let [best, weight] = cell(run, step, layers, first);
      for (let position = first + 1; position < last; position += 1) {
        const [other, heavier] = cell(run, step, layers, position);
        if (heavier > weight) [best, weight] = [other, heavier];
      }
      pixels[(step - 1) * width + x] = pixel(best);
    });
  }
  context.putImageData(image, 0, 0);
  findAll("canvas.bars", run.panel).forEach((bar) => drawBars(run, bar, bars[bar.dataset.bar]));
  drawAxis(run, canvas.clientWidth);
  drawRow(run);
}

function drawBars(run, canvas, bar) {
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
  canvas.height = run.steps.length;
  canvas.style.height = `${run.steps.length * lineHeight()}px`;
  const context = canvas.getContext("2d");
  context.fillStyle = colour("--soft");
  run.steps.forEach((_, index) => {
    context.fillRect(0, index, Math.max(1, (canvas.width * bar.of(run, index + 1)) / bar.most), 1);
  });
  find(`.head[data-bar="${canvas.dataset.bar}"]`, run.panel).textContent = bar.says;
}

// Lines between blocks, numbers of positions, and marks where the two runs differ.
function drawAxis(run, width) {
  const blocks = run.gen / run.block;
  const lines = [make("i", { className: "start" })];
  lines[0].style.left = `${leftOf(run, width, start)}px`;
  for (let block = 1; block < blocks && blocks <= 64; block += 1) {
    const line = make("i");
    line.style.left = `${leftOf(run, width, start + block * run.block)}px`;
    lines.push(line);
  }
  find(".lines", run.panel).replaceChildren(...lines);
  const label = (text, left, side = "") => {
    const made = make("span", { textContent: text, className: side });
    made.style.left = `${left}px`;
    return made;
  };
  const every = Math.ceil(blocks / Math.max(1, Math.floor((width - edge(run, width)) / 60))) * run.block;
  const labels = [];
  for (let position = 0; position < run.gen; position += every) labels.push(label(position, leftOf(run, width, start + position)));
  if (edge(run, width) > 60) labels.unshift(label(`prompt, ${start}`, 0, "left"));
  const marks = data.differs.filter((position) => position < run.gen).map((position) => {
    const mark = make("i");
    mark.style.left = `${leftOf(run, width, start + position)}px`;
    mark.style.width = `${leftOf(run, width, start + position + 1) - leftOf(run, width, start + position)}px`;
    return mark;
  });
  find(".axis", run.panel).replaceChildren(...labels, ...marks);
}

// The line of the step that is shown.
function drawRow(run) {
  const step = stepOf(run);
  const row = find(".row", run.panel);
  row.hidden = step === 0;
  row.style.top = `${(step - 1) * lineHeight()}px`;
  row.style.height = `${lineHeight()}px`;
}
