// Start, and what follows from a change.
document.documentElement.classList.add("scripted");

// Boxes that a browser may have kept from an earlier visit are as the page was written again.
function startMeasure() {
  findAll("#measure input, #groups input, #together input, #theirs").forEach((input) => { input.checked = input.defaultChecked; });
  findAll("#measure input").forEach((input) => input.addEventListener("change", () => {
    state.measure = data.measures.find((measure) => measure.key === input.value);
    changed("measure");
  }));
  find("#theirs")?.addEventListener("change", (event) => {
    state.theirs = event.target.checked;
    changed("published");
  });
}

onChange.push(showRows, drawLegend, drawFronts, drawCurves);
startTheme();
startFilters();
startMeasure();
startColumns();
startTogether();
findAll(".scroll table").forEach(startTable);
find("#bar").reset();
openPage();
addEventListener("hashchange", openPage);
