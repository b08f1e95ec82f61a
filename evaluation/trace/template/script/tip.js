// What is pointed at, on the map or in the text, in words.
const tip = make("div", { id: "tip", hidden: true });
document.body.append(tip);

const quoted = (text) => (text.trim() ? text : text.replaceAll("\n", "↵").replaceAll(" ", "␣"));

function named(run, position, step) {
  if (position < start) return data.prompt[position] ?? "(part of a character)";
  if (run.canvases) return written(run, position - start, step) || "(masked)";
  return run.texts[position - start] ?? "(part of a character)";
}

// Lines about a position of the canvas in a step: where it is, what was done with it, and when it was committed.
function about(run, step, position) {
  const generated = position - start;
  if (generated < 0) return [`position ${position}, in the prompt`, ...doings(run, step, position, false)];
  if (!exists(run, step, generated)) return [`token ${generated} of ${run.gen} in the end: not there yet`];
  const when = heldSince(run, step, generated);
  const held = run.canvases ? "here since" : "committed in";
  const nothing = run.canvases ? "masked now" : "left masked";
  const committed = when === 0 ? nothing : `${held} step ${when}, confidence ${sureness(confidence(run, when, generated))}`;
  return [
    `position ${position}: token ${generated} of ${run.gen} generated, block ${Math.floor(generated / run.block) + 1}`,
    ...doings(run, step, position, !holds(run, step - 1, generated)),
    ...(isGone(run, step, generated) ? ["taken back in this step"] : []),
    ...(when === step && step > 0 ? [] : [committed]),
  ];
}

const sureness = (value) => (value === null ? "unknown" : value.toFixed(3));

function doings(run, step, position, masked) {
  if (step === 0) return [];
  const ran = layersOf(run, step)[position];
  const done = ran === 0 ? (masked ? "not run" : "reused") : ran === run.layers ? "recomputed" : `recomputed in ${ran} of ${run.layers} layers`;
  const sure = masked ? confidence(run, step, position - start) : null;
  const said = sure === null ? "" : `${isNew(run, step, position - start) ? ", committed with confidence" : ", confidence"} ${sureness(sure)}`;
  return [`step ${step}: ${masked ? "masked" : "text"}, ${done}${said}`];
}

function showTip(run, step, position, x, y) {
  const told = about(run, step, position).map((line) => make("div", { textContent: line }));
  tip.replaceChildren(make("b", { textContent: quoted(named(run, position, step)) }), ...told);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 4))}px`;
  tip.style.top = `${y + 18 + box.height > innerHeight ? Math.max(4, y - box.height - 12) : y + 18}px`;
  point(run, position);
}

// The column and the token of a position, in all runs.
function point(_, position) {
  for (const run of runs) {
    const column = find(".column", run.panel);
    const width = find(".map canvas", run.panel).clientWidth;
    column.hidden = position >= run.length;
    column.style.left = `${leftOf(run, width, position)}px`;
    column.style.width = `${Math.max(1, leftOf(run, width, position + 1) - leftOf(run, width, position))}px`;
    run.tokens.forEach((token, index) => token.classList.toggle("pointed", index === position - start));
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
    return [step, positionAt(run, box.width, event.clientX - box.left)];
  };
  canvas.addEventListener("pointermove", (event) => showTip(run, ...at(event), event.clientX, event.clientY));
  canvas.addEventListener("pointerleave", hideTip);
  canvas.addEventListener("click", (event) => go(momentOf(run, at(event)[0])));
  const text = find(".text", run.panel);
  text.addEventListener("pointerover", (event) => {
    const position = event.target.dataset.position;
    if (position !== undefined) showTip(run, stepOf(run), start + Number(position), event.clientX, event.clientY);
  });
  text.addEventListener("pointerleave", hideTip);
  startKeys(run, canvas);
}

// With the map in focus, arrows go from step to step and from position to position.
function startKeys(run, canvas) {
  let position = start;
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-10, 0], PageDown: [10, 0] };
  const show = () => {
    const box = canvas.getBoundingClientRect();
    const step = stepOf(run);
    showTip(run, step, position, box.left + leftOf(run, box.width, position), box.top + step * lineHeight());
  };
  canvas.addEventListener("keydown", (event) => {
    if (!(event.key in moves)) return;
    event.preventDefault();
    const [down, right] = moves[event.key];
    position = Math.max(0, Math.min(run.length - 1, position + right));
    if (down) go(momentOf(run, Math.max(0, Math.min(run.steps.length, stepOf(run) + down))));
    show();
  });
  canvas.addEventListener("blur", hideTip);
}
