// Runs by variant and arm: one colour, dash and marker for each, and its seeds as thin lines of it.
const kColours = 7;  // as in style.css: colours that readers with any colour vision tell apart
const kDashes = ['', '8 3', '2 3', '9 3 2 3', '4 2', '1 4', '12 4 2 4 2 4'];
const kMarkers = ['circle', 'square', 'triangle', 'diamond', 'cross', 'down', 'plus'];

// The settings in which the runs of a variant differ beside the seed, as text for each run.
function armsOf(members) {
  const aside = /^(run\.|train\.seed$|hw\.|checkpoint\.|attention\.variant$)/;
  const keys =
      [...new Set(members.flatMap((run) => [...run.recipe.keys()]))].filter((key) => !aside.test(key));
  const differing = keys.filter((key) => new Set(members.map((run) => run.recipe.get(key))).size > 1);
  return members.map(
      (run) => differing.map((key) => `${key.split('.').pop()} ${run.setting(key) || '–'}`).join(', '));
}

function makeGroups() {
  const named = new Map();  // run name -> arm, where the analysis knows it
  for (const group of analysis.groups || [])
    for (const name of group.runs || []) named.set(name, group.arm || '');
  const arms = new Map();
  for (const variant of new Set(runs.map((run) => run.variant))) {
    const members = runs.filter((run) => run.variant === variant);
    armsOf(members).forEach((arm, i) => arms.set(members[i], named.get(members[i].name) ?? arm));
  }
  const groups = [], first = ['mha', 'mla-prerope', 'mla-decoupled'];  // the paper's, in its order
  const rank = (run) => (first.includes(run.variant) ? first.indexOf(run.variant) : first.length);
  for (const run of [...runs].sort((a, b) => rank(a) - rank(b))) {
    const arm = arms.get(run);
    let group = groups.find((g) => g.variant === run.variant && g.arm === arm);
    if (!group) {
      const index = groups.length, lap = Math.floor(index / kColours);
      group = {
        index,
        variant: run.variant,
        arm,
        label: arm ? `${run.variant}, ${arm}` : run.variant,
        runs: [],
        series: `s${index % kColours}`,
        dash: kDashes[lap % kDashes.length],
        marker: kMarkers[(index + lap) % kMarkers.length],
      };
      groups.push(group);
    }
    group.runs.push(run);
    run.group = group;
    run.series = group.series;
    run.dash = group.dash;
  }
  return groups;
}
const groups = makeGroups();
const arms = [...new Set(groups.map((group) => group.arm))];

// Which groups and runs the reader wants to see: those not hidden in the legend, whose names hold the filter's words.
function isShown(run) {
  const words = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const text = `${run.group.label} ${run.name} seed ${run.seed}`.toLowerCase();
  return !state.hidden.includes(run.group.index) && words.every((word) => text.includes(word));
}
const shownRuns = (group) => group.runs.filter(isShown);
const shownGroups = () => groups.filter((group) => shownRuns(group).length > 0);
const seedLabel = (run) =>
    (run.group.runs.length > 1 ? `${run.group.label}, seed ${run.seed || '?'}` : run.group.label);

// Whether the first screen shows a group: that of the chosen arm, or the first of a variant that lacks this arm.
function isInArm(group) {
  const own = groups.filter((other) => other.variant === group.variant);
  return group === (own.find((other) => other.arm === state.arm) || own[0]);
}

// The mean of values, geometric where they are drawn on a logarithmic axis; NaN if none is finite.
function meanOf(values, log) {
  const finite = values.filter((v) => Number.isFinite(v) && (!log || v > 0));
  if (finite.length === 0) return NaN;
  return log ? Math.exp(sum(finite.map(Math.log)) / finite.length) : sum(finite) / finite.length;
}

// The curves of a group's runs: {seeds: [{run, points}], mean, low, high}, where the latter are over seeds at the
// steps that any of them has. pointsOf(run) returns [x, y] pairs.
function bandOf(group, pointsOf, log) {
  const seeds =
      shownRuns(group).map((run) => ({run, points: pointsOf(run)})).filter((seed) => seed.points.length);
  const maps = seeds.map((seed) => new Map(seed.points));
  const xs = sorted(seeds.flatMap((seed) => seed.points.map((p) => p[0])));
  const at = (x) => maps.map((map) => map.get(x)).filter((y) => Number.isFinite(y));
  const complete = xs.filter((x) => at(x).length === seeds.length);
  const shown = complete.length > 1 ? complete : xs;
  return {
    seeds,
    mean: shown.map((x) => [x, meanOf(at(x), log)]),
    low: shown.map((x) => [x, extent(at(x), [NaN, NaN])[0]]),
    high: shown.map((x) => [x, extent(at(x), [NaN, NaN])[1]]),
  };
}

// Draws bandOf() curves: the band and thin lines of the seeds, and their mean.
function drawBand(plot, group, band, cls = '') {
  if (band.seeds.length > 1) {
    plot.area(band.low, band.high, {class: `area ${group.series} ${cls}`});
    for (const seed of band.seeds)
      plot.line(
          seed.points, {class: `line thin stroke ${group.series} ${cls}`, 'stroke-dasharray': group.dash});
  }
  plot.line(band.mean, {class: `line stroke ${group.series} ${cls}`, 'stroke-dasharray': group.dash});
}
