// The runs as the page needs them, and where in them the reader is. Steps count from 1; 0 is before the first.
const start = data.prompt.length; // first generated position of the canvas

// Of a canvas that does not just fill, what every position holds after each step (a word, masked, or not there yet), and
// the step since which it holds that. Step 0 is before the first forward.
const MASKED = -1;
const ABSENT = -2;

function replay(run) {
  if (!run.words) return {};
  const canvases = [Int32Array.from({ length: run.gen }, (_, position) => (position < run.first ? MASKED : ABSENT))];
  const since = [new Int32Array(run.gen)];
  run.steps.forEach(({ put, there }, index) => {
    const canvas = canvases[index].map((word, position) => (word === ABSENT && position < there ? MASKED : word));
    const when = since[index].slice();
    for (let at = 0; at < put.length; at += 2) {
      canvas[put[at]] = put[at + 1];
      when[put[at]] = index + 1;
    }
    canvases.push(canvas);
    since.push(when);
  });
  const sets = (name) => [new Set(), ...run.steps.map((step) => new Set(step[name]))];
  return { canvases, since, news: sets("new"), gone: sets("gone") };
}

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
    ...replay(run),
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
const isNew = (run, step, position) => step > 0 && (run.canvases ? run.news[step].has(position) : run.committed[position] === step);
const holds = (run, step, position) =>
  (run.canvases ? run.canvases[step][position] >= 0 : run.committed[position] > 0 && run.committed[position] <= step);
const exists = (run, step, position) => !run.canvases || run.canvases[step][position] !== ABSENT;
const isGone = (run, step, position) => Boolean(run.canvases) && run.gone[step].has(position);

// The step since which a position holds its token, as far as that is up to this step; 0: it holds none.
function heldSince(run, step, position) {
  if (!run.canvases) return run.committed[position];
  return holds(run, step, position) ? run.since[step][position] : 0;
}

// The masks that are left after a step, and the positions that there are.
const masksLeft = (run, step) =>
  (run.canvases ? run.canvases[step].filter((word) => word === MASKED).length : run.committed.filter((when) => when === 0 || when > step).length);
const positions = (run, step) => (run.canvases ? run.canvases[step].filter((word) => word !== ABSENT).length : run.gen);

// The token of a generated position as it is written, the text of a character that several tokens share in the first.
function written(run, position, step = run.steps.length) {
  if (run.canvases) {
    const word = run.canvases[step][position];
    if (word < 0) return "";
    return run.words[word][1] ? "▪" : run.words[word][0] ?? "\ufffd";
  }
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
