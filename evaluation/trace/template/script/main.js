// Start, and what follows from a change.
function drawAll(what) {
  if (what === "theme" || what === undefined) readPalette();
  if (what !== "step") drawLegend();
  for (const run of runs) {
    drawText(run);
    if (what === "step") drawRow(run);
    else drawMap(run);
  }
  drawPlayer();
}

runs.forEach(startText);
findAll(".picture").forEach((picture) => { picture.hidden = false; });
runs.forEach(startTips);
startPlayer();
startTheme();
onChange.push(drawAll);
changed();
new ResizeObserver(() => runs.forEach(drawMap)).observe(find("#runs"));
