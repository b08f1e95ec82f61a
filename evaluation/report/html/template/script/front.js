// The Pareto front of points {x, y}: no other point is better in one and at least as good in the other.
function pareto(points, better) {
  const gain = (point) => (better === "more" ? point.x : -point.x);
  return points
    .filter((a) => !points.some((b) =>
      gain(b) >= gain(a) && b.y >= a.y && (gain(b) > gain(a) || b.y > a.y)))
    .sort((a, b) => gain(a) - gain(b) || a.y - b.y);
}

// One front per group of comparable ranked points: timed figures within a machine, relative figures within a decoding.
// A single point is no front.
function fronts(points, measure) {
  const groups = new Map();
  for (const one of points.filter((each) => each.ranked)) {
    const key = JSON.stringify([measure.timed && one.machine, measure.relative && one.decoding]);
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  return [...groups.values()].filter((group) => group.length > 1).map((group) => pareto(group, measure.better));
}
