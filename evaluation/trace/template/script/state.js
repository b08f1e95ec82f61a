// The runs as the page needs them, and where in them the reader is. Steps count from 1; 0 is before the first.
const start = data.prompt.length; // first generated position of the canvas

function unpack(run, number) {
  const committed = new Array(run.gen).fill(0); // by generated position, the step that committed it; 0: none did
  run.steps.forEach((step, index) => step.new.forEach((position) => { committed[position] = index + 1; }));
  let passed = 0;
  return {
    ...run,
    number,
    panel: find(`.panel[data-run="${number}"]`),
    length: start + run.gen,
    committed,
    ends: run.steps.map((step) => (passed += step.ms)), // milliseconds from the beginning
    specials: new Set(run.special),
    unrolled: new Map(),
  };
}

const runs = data.runs.map(unpack);
const differs = new Set(data.differs);
const most = Math.max(...runs.map((run) => run.steps.length));
const ends = [...new Set(runs.flatMap((run) => run.ends))].sort((one, other) => one - other);
const state = { by: "step", at: most, hue: "work" };

// How many moments the slider has behind the beginning, and how many of its steps a run has made at one.
const moments = () => (state.by === "step" ? most : ends.length);
const stepOf = (run) =>
  state.by === "step" ? Math.min(state.at, run.steps.length) : run.ends.filter((end) => state.at > 0 && end <= ends[state.at - 1]).length;
const momentOf = (run, step) => (state.by === "step" || step === 0 ? step : ends.indexOf(run.ends[step - 1]) + 1);

// By position of the canvas, the number of layers in which it ran in a step.
function layersOf(run, step) {
  const { rows } = run.steps[step - 1];
  if (!run.unrolled.has(rows)) {
    const layers = new Uint16Array(run.length);
    let position = 0;
    for (let index = 0; index < run.patterns[rows].length; index += 2) {
      layers.fill(run.patterns[rows][index + 1], position, position + run.patterns[rows][index]);
      position += run.patterns[rows][index];
    }
    run.unrolled.set(rows, layers);
  }
  return run.unrolled.get(rows);
}

// Confidence at a generated position in a step; null where there is none.
function confidence(run, step, position) {
  const [first, ...sure] = run.steps[step - 1].sure;
  return (sure[position - first] ?? null) === null ? null : sure[position - first] / data.scale;
}

// What a generated position holds in a step: before its forward, and after it.
const isNew = (run, step, position) => step > 0 && run.committed[position] === step;
const holds = (run, step, position) => run.committed[position] > 0 && run.committed[position] <= step;

// The token of a generated position as it is written, the text of a character that several tokens share in the first.
function written(run, position) {
  if (run.specials.has(position)) return "▪";
  return run.texts[position] ?? "";
}

// First and last position of the tokens that share a character with this one.
function shared(run, position) {
  let [first, last] = [position, position];
  while (run.texts[first] === null && first > 0) first -= 1;
  while (last + 1 < run.gen && run.texts[last + 1] === null) last += 1;
  return [first, last];
}
