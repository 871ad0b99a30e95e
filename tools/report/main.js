// Builds the page: the first screen at once, the figures below it one after the other.
function addAllSpectra(section) {
  if (!hasMetrics && !hasSpectra) {
    section.append(element('p', {}, 'No spectra were measured in these runs.'));
    return;
  }
  if (hasMetrics) addExplorer(section);
  if (hasMetrics) addHistory(byId('training'));
  if (hasSpectra) addSpectra(section);
  if (!hasSpectra && hasRecords)
    section.append(
        element('p', {}, 'Records of runs keep no eigenvalues; the folders of the runs have them.'));
}

// Opens the page at the layer with the least capacity left, in the matrix that most runs have.
function chooseStart() {
  if (!availableMetrics.includes(state.metric)) state.metric = availableMetrics[0];
  let least = Infinity;
  for (const run of runs) {
    const grid = anyGridOf(run, matrices[0], false) || anyGridOf(run, matrices[0], true);
    for (const layer of grid && availableMetrics.length ? grid.layers : []) {
      const kept = rawValue(grid, 'stable_rank', last(grid.steps), layer, grid.heads[0]);
      if (!(kept < least)) continue;
      least = kept;
      Object.assign(state, {layer, head: grid.heads[0]});
    }
  }
}

chooseStart();
addFirst(byId('first'));
const bar = byId('bar');
bar.append(legendControls());
if (hasMetrics || hasSpectra) bar.append(sharedControls());
addFindings(byId('findings'));
addRuns(byId('runs'));
addLoss(byId('training'));
addAllSpectra(byId('spectra'));
addOnsets(byId('onset'));
addProbes(byId('probe'));
addSpeed(byId('speed'));
addRecipes(byId('recipes'));
addProvenance(byId('provenance'));
for (const {name, help} of Object.values(metrics))
  byId('glossary').append(element('dt', {}, name), element('dd', {}, `${sentence(help)}.`));
byId('footer').textContent =
    `Written by pastur ${payload.version}${payload.date ? ` on ${payload.date}` : ''}. ` +
    'Numbers on this page are rounded to a relative 2e-4 or better; the run folders hold all digits. This page loads ' +
    'nothing from the network.';
for (const figure of figures)
  if (figure.node.closest('#first')) {
    figure.draw();
    if (figure.id === 'verdicts') fitSentences();
  }
// Headings that a link jumps to stay below the bar.
if (typeof ResizeObserver === 'function')
  new ResizeObserver(() => {
    const sticky = getComputedStyle(bar).position === 'sticky';
    document.documentElement.style.scrollPaddingTop = `${sticky ? bar.offsetHeight + 8 : 8}px`;
  }).observe(bar);
const firstPaint = performance.now();  // since the page was opened
const testing = location.hash === '#selftest';
readAddress();
if (reloadEvery) document.body.append(liveLine());
drawRest(() => {
  document.documentElement.dataset.drawn = 'all';
  if (testing)
    selfTest();
  else
    followRuns();
}, Boolean(keptPlace));
