// Colours of the map and the text, from the style sheet, and what they mean.
let palette = {};

const channels = (name) => colour(name).match(/[\d.]+/g).slice(0, 3).map(Number);
const mixed = (from, to, share) => from.map((value, index) => Math.round(value + (to[index] - value) * share));
const pixel = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0; // as ImageData has it
const css = (rgb) => `rgb(${rgb.join(" ")})`;

// Confidences that are probabilities or a lead over the second run from 0 to 1; others over what there was.
const extreme = (pick, sofar) => runs.reduce((all, run) => run.steps.reduce((found, { sure }) =>
  sure.slice(1).reduce((best, value) => (value === null ? best : pick(best, value)), found), all), sofar) / data.scale;
const lowest = extreme(Math.min, 0);
const highest = extreme(Math.max, lowest < 0 ? lowest * data.scale : data.scale);

function readPalette() {
  const names = ["held", "held-reused", "masked", "masked-reused", "committed", "unsure", "half", "sure", "gone", "page"];
  palette = Object.fromEntries(names.map((name) => [name, channels(`--${name}`)]));
}

// A position that ran in few layers can still be told from one that ran in none.
const worked = (kind, share) => (share === 0 ? palette[`${kind}-reused`] : mixed(palette[`${kind}-reused`], palette[kind], 0.15 + 0.85 * share));

function certain(value) {
  const at = highest > lowest ? (value - lowest) / (highest - lowest) : 1;
  return at < 0.5 ? mixed(palette.unsure, palette.half, 2 * at) : mixed(palette.half, palette.sure, 2 * at - 1);
}

// Background and ink of a token in the colours of confidence.
function tint(value) {
  if (value === null) return ["", ""];
  const back = certain(value);
  return [css(back), 0.3 * back[0] + 0.59 * back[1] + 0.11 * back[2] > 140 ? "#111" : "#fff"];
}

function drawLegend() {
  const entry = (rgb, text) => {
    const mark = make("i");
    mark.style.background = css(rgb);
    return make("span", {}, mark, text);
  };
  const ramp = (colours, text) => {
    const mark = make("i", { className: "ramp" });
    mark.style.background = `linear-gradient(to right, ${colours.map(css).join(", ")})`;
    return make("span", {}, mark, text);
  };
  const layered = runs.some((run) => run.patterns.some((pattern) => pattern.some((value, index) => index % 2 && value > 0 && value < run.layers)));
  const full = layered ? ": darker in more layers" : "";
  const entries = state.hue === "work" ? [
    entry(palette.committed, "committed in this step"),
    (layered ? ramp([worked("masked", 0.01), palette.masked], `masked, recomputed${full}`) : entry(palette.masked, "masked, recomputed")),
    entry(palette["masked-reused"], "masked, not run"),
    (layered ? ramp([worked("held", 0.01), palette.held], `text, recomputed${full}`) : entry(palette.held, "text, recomputed")),
    entry(palette["held-reused"], "text, reused"),
  ] : [
    ramp([0, 0.25, 0.5, 0.75, 1].map((at) => certain(lowest + at * (highest - lowest))), `confidence ${+lowest.toFixed(2)} to ${+highest.toFixed(2)}`),
    entry(palette["masked-reused"], "masked, none computed"),
    entry(palette["held-reused"], "text"),
  ];
  if (runs.some((run) => run.canvases && run.steps.some((step) => step.gone.length))) entries.push(entry(palette.gone, "taken back in this step"));
  if (data.differs.length) entries.push(make("span", {}, make("b", { className: "differs", textContent: "text" }), "differs between the two"));
  find("#legend").replaceChildren(...entries);
}
