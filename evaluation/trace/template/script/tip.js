// What is pointed at, on the map or in the text, in words.
const tip = make("div", { id: "tip", hidden: true });
document.body.append(tip);

const quoted = (text) => (text.trim() ? text : text.replaceAll("\n", "↵").replaceAll(" ", "␣"));

function named(run, place) {
  if (place < start) return data.prompt[place] ?? "(part of a character)";
  return run.pieces[place - start] ?? "(part of a character)";
}

// Lines about a position of the canvas in a step: where it is, what was done with it, and when it was decided.
function about(run, step, place) {
  const generated = place - start;
  if (generated < 0) return [`position ${place}, in the prompt`, ...doings(run, step, place, false)];
  const when = run.decided[generated];
  const decided = when === 0 ? "left masked" : `decided in step ${when}, confidence ${sureness(confidence(run, when, generated))}`;
  return [
    `position ${place}: token ${generated} of ${run.gen} generated, block ${Math.floor(generated / run.block) + 1}`,
    ...doings(run, step, place, !holds(run, step - 1, generated)),
    ...(when === step && step > 0 ? [] : [decided]),
  ];
}

const sureness = (value) => (value === null ? "unknown" : value.toFixed(3));

function doings(run, step, place, masked) {
  if (step === 0) return [];
  const ran = layersOf(run, step)[place];
  const done = ran === 0 ? (masked ? "not run" : "reused") : ran === run.layers ? "recomputed" : `recomputed in ${ran} of ${run.layers} layers`;
  const sure = masked ? confidence(run, step, place - start) : null;
  const said = sure === null ? "" : `${isNew(run, step, place - start) ? ", decided with confidence" : ", confidence"} ${sureness(sure)}`;
  return [`step ${step}: ${masked ? "masked" : "text"}, ${done}${said}`];
}

function showTip(run, step, place, x, y) {
  const told = about(run, step, place).map((line) => make("div", { textContent: line }));
  tip.replaceChildren(make("b", { textContent: quoted(named(run, place)) }), ...told);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 4))}px`;
  tip.style.top = `${y + 18 + box.height > innerHeight ? Math.max(4, y - box.height - 12) : y + 18}px`;
  point(run, place);
}

// The column and the token of a position, in all runs.
function point(_, place) {
  for (const run of runs) {
    const column = find(".column", run.panel);
    const width = find(".map canvas", run.panel).clientWidth;
    column.hidden = place >= run.length;
    column.style.left = `${leftOf(run, width, place)}px`;
    column.style.width = `${Math.max(1, leftOf(run, width, place + 1) - leftOf(run, width, place))}px`;
    run.tokens.forEach((token, index) => token.classList.toggle("pointed", index === place - start));
  }
}

function hideTip() {
  tip.hidden = true;
  for (const run of runs) {
    find(".column", run.panel).hidden = true;
    run.tokens.forEach((token) => token.classList.remove("pointed"));
  }
}

function startTips(run) {
  const canvas = find(".map canvas", run.panel);
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const step = 1 + Math.max(0, Math.min(run.steps.length - 1, Math.floor((event.clientY - box.top) / lineHeight())));
    return [step, placeAt(run, box.width, event.clientX - box.left)];
  };
  canvas.addEventListener("pointermove", (event) => showTip(run, ...at(event), event.clientX, event.clientY));
  canvas.addEventListener("pointerleave", hideTip);
  canvas.addEventListener("click", (event) => go(momentOf(run, at(event)[0])));
  const text = find(".text", run.panel);
  text.addEventListener("pointerover", (event) => {
    const place = event.target.dataset.place;
    if (place !== undefined) showTip(run, stepOf(run), start + Number(place), event.clientX, event.clientY);
  });
  text.addEventListener("pointerleave", hideTip);
  startKeys(run, canvas);
}

// With the map in focus, arrows go from step to step and from position to position.
function startKeys(run, canvas) {
  let place = start;
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-10, 0], PageDown: [10, 0] };
  const show = () => {
    const box = canvas.getBoundingClientRect();
    const step = stepOf(run);
    showTip(run, step, place, box.left + leftOf(run, box.width, place), box.top + step * lineHeight());
  };
  canvas.addEventListener("keydown", (event) => {
    if (!(event.key in moves)) return;
    event.preventDefault();
    const [down, right] = moves[event.key];
    place = Math.max(0, Math.min(run.length - 1, place + right));
    if (down) go(momentOf(run, Math.max(0, Math.min(run.steps.length, stepOf(run) + down))));
    show();
  });
  canvas.addEventListener("blur", hideTip);
}
