// The slider, the button that moves it, and what it moves by.
const slider = find("#at");
let timer = null;

const seconds = (moment) => (moment === 0 ? 0 : ends[moment - 1] / 1000);
const words = () => (state.by === "step" ? `step ${state.at} of ${most}` : `${seconds(state.at).toFixed(3)} s of ${seconds(ends.length).toFixed(3)} s`);

function go(moment) {
  state.at = Math.max(0, Math.min(moments(), moment));
  changed("step");
}

function drawPlayer() {
  slider.max = moments();
  slider.value = state.at;
  slider.setAttribute("aria-valuetext", words());
  find("#where").textContent = words();
}

function stop() {
  clearTimeout(timer);
  timer = null;
  find("#play").textContent = "Play";
  find("#play").setAttribute("aria-pressed", "false");
}

// By step all steps are shown as long; by time as long as they took, as far as the browser keeps up.
function play() {
  if (timer !== null) {
    stop();
    return;
  }
  if (state.at >= moments()) go(0);
  find("#play").textContent = "Stop";
  find("#play").setAttribute("aria-pressed", "true");
  const began = performance.now() - 1000 * seconds(state.at);
  const advance = () => {
    if (state.at >= moments()) {
      stop();
      return;
    }
    let next = state.at + 1;
    let pause = Math.max(30, Math.min(250, 9000 / most));
    if (state.by === "time") {
      const now = performance.now() - began;
      while (next < moments() && 1000 * seconds(next + 1) <= now) next += 1;
      pause = Math.max(0, 1000 * seconds(next) - now);
    }
    timer = setTimeout(() => {
      go(next);
      advance();
    }, pause);
  };
  advance();
}

function startPlayer() {
  find("#player").hidden = false;
  find("#player").addEventListener("submit", (event) => event.preventDefault());
  find("#player").reset();
  slider.addEventListener("input", () => { stop(); go(Number(slider.value)); });
  find("#play").addEventListener("click", play);
  findAll("#by input").forEach((input) => input.addEventListener("change", () => {
    stop();
    const step = Math.max(...runs.map(stepOf));
    const there = runs.find((run) => stepOf(run) === step);
    state.by = input.value;
    go(momentOf(there, step));
  }));
  findAll("#hue input").forEach((input) => input.addEventListener("change", () => {
    state.hue = input.value;
    changed("hue");
  }));
  findAll(".to").forEach((button) => {
    button.disabled = false;
    button.addEventListener("click", () => { stop(); go(momentOf(runs[button.dataset.run ?? 0], Number(button.dataset.step))); });
  });
}
