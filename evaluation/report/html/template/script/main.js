// Start, and reactions to changes.
document.documentElement.classList.add("scripted");

// Reset boxes that a browser kept from an earlier visit.
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
