// The text as it emerges: one element per token, as wide while it is masked as it will be.
function startText(run) {
  const box = find(".text", run.panel);
  run.tokens = run.pieces.map((_, place) => {
    const text = written(run, place);
    const token = make("span", { className: "token" });
    token.dataset.place = place;
    token.dataset.final = text.includes("\n") ? `↵${text}` : text;
    return token;
  });
  box.replaceChildren(...run.tokens);
}

function spelled(run, step, place) {
  const [first, last] = shared(run, place);
  if (first === last) return written(run, place);
  for (let other = first; other <= last; other += 1) if (!holds(run, step, other)) return "\ufffd";
  return written(run, place);
}

function look(run, step, place) {
  const next = run.steps[Math.min(step, run.steps.length - 1)].block;
  const there = holds(run, step, place);
  return {
    masked: !there,
    here: !there && step < run.steps.length && Math.floor(place / run.block) === next,
    line: written(run, place).includes("\n"),
    special: run.specials.has(place),
    behind: there && place >= run.answer,
    new: isNew(run, step, place),
    differs: there && differs.has(place),
  };
}

function drawText(run) {
  const step = stepOf(run);
  run.tokens.forEach((token, place) => {
    const found = look(run, step, place);
    const text = found.masked ? "" : spelled(run, step, place);
    if (token.textContent !== text) token.textContent = text;
    for (const [name, on] of Object.entries(found)) token.classList.toggle(name, on);
    const tinted = state.hue === "confidence" && !found.masked;
    const [back, ink] = tinted ? tint(confidence(run, run.decided[place], place)) : ["", ""];
    token.style.background = back;
    token.style.color = ink;
  });
  find(".status", run.panel).textContent = told(run, step);
  if (step > 0) follow(run.tokens[run.steps[step - 1].new[0]]);
}

// A long text scrolls in its box, never the page, to what was just decided.
function follow(token) {
  const box = token.parentElement;
  const top = token.offsetTop - box.scrollTop;
  if (top < 0 || top + token.offsetHeight > box.clientHeight) box.scrollTop = token.offsetTop - box.clientHeight / 2;
}

// A step in a sentence.
function told(run, step) {
  if (step === 0) return `before the first forward: ${start} tokens of prompt, ${run.gen} masked`;
  const made = run.steps[step - 1];
  const share = Math.round((100 * made.run) / run.length);
  const left = run.decided.filter((when) => when === 0 || when > step).length;
  return [
    `step ${step} of ${run.steps.length}`,
    `block ${made.block + 1} of ${run.gen / run.block}`,
    `${+made.run.toFixed(1)} of ${run.length} rows run (${share} %)`,
    `${made.ms.toFixed(1)} ms`,
    `${made.new.length} decided, ${left} masked`,
  ].join(" · ");
}
