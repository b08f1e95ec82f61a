// The text as it emerges: one element per token, as wide while it is masked as it will be.
function startText(run) {
  const box = find(".text", run.panel);
  run.tokens = run.texts.map((_, position) => {
    const text = written(run, position);
    const token = make("span", { className: "token" });
    token.dataset.position = position;
    token.dataset.final = text.includes("\n") ? `↵${text}` : text;
    return token;
  });
  box.replaceChildren(...run.tokens);
}

function spelled(run, step, position) {
  const [first, last] = run.canvases ? [position, position] : shared(run, position);
  if (first === last) return written(run, position, step);
  for (let other = first; other <= last; other += 1) if (!holds(run, step, other)) return "\ufffd";
  return written(run, position);
}

function look(run, step, position) {
  const [from, to] = run.steps[Math.min(step, run.steps.length - 1)].region;
  const there = holds(run, step, position);
  return {
    masked: !there,
    absent: !exists(run, step, position),
    gone: isGone(run, step, position),
    here: !there && step < run.steps.length && from <= position && position < to,
    line: written(run, position, step).includes("\n"),
    special: run.canvases ? written(run, position, step) === "▪" : run.specials.has(position),
    behind: there && position >= run.answer,
    new: isNew(run, step, position),
    differs: there && differs.has(position),
  };
}

function drawText(run) {
  const step = stepOf(run);
  run.tokens.forEach((token, position) => {
    const found = look(run, step, position);
    const text = found.masked ? "" : spelled(run, step, position);
    if (token.textContent !== text) token.textContent = text;
    for (const [name, on] of Object.entries(found)) token.classList.toggle(name, on);
    const tinted = state.hue === "confidence" && !found.masked;
    const [back, ink] = tinted ? tint(confidence(run, heldSince(run, step, position), position)) : ["", ""];
    token.style.background = back;
    token.style.color = ink;
  });
  find(".status", run.panel).textContent = told(run, step);
  const [first] = step > 0 ? [...run.steps[step - 1].new, ...(run.steps[step - 1].gone ?? [])] : [];
  if (first !== undefined) follow(run.tokens[first]);
}

// A long text scrolls in its box, never the page, to what was just committed.
function follow(token) {
  const box = token.parentElement;
  const top = token.offsetTop - box.scrollTop;
  if (top < 0 || top + token.offsetHeight > box.clientHeight) box.scrollTop = token.offsetTop - box.clientHeight / 2;
}

// The block that a step decodes, or the positions where a strategy has no blocks.
function place(run, [from, to]) {
  const whole = from % run.block === 0 && to - from === run.block;
  return whole ? `block ${from / run.block + 1} of ${Math.ceil(run.gen / run.block)}` : `positions ${from} to ${to - 1}`;
}

// A step in a sentence.
function told(run, step) {
  if (step === 0) return `before the first forward: ${start} tokens of prompt, ${positions(run, 0)} masked`;
  const made = run.steps[step - 1];
  const length = start + positions(run, step - 1);
  const share = Math.round((100 * made.run) / length);
  const grown = positions(run, step) - positions(run, step - 1);
  return [
    `step ${step} of ${run.steps.length}`,
    place(run, made.region),
    `${+made.run.toFixed(1)} of ${length} rows run (${share} %)`,
    `${made.ms.toFixed(1)} ms`,
    `${made.new.length} committed${made.gone?.length ? `, ${made.gone.length} taken back` : ""}, ${masksLeft(run, step)} masked`,
    ...(grown > 0 ? [`${grown} longer`] : []),
  ].join(" · ");
}
