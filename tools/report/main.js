// Builds the page.
function addAllSpectra(section) {
  if (!hasMetrics && !hasSpectra) {
    section.append(element(
        'p', {class: 'notice'},
        'No spectra were measured in these runs. To measure them, set diagnostics.every in the recipe.'));
    return;
  }
  section.append(sharedControls());
  if (hasMetrics) addHeatmaps(section);
  if (hasSpectra) addSpectra(section);
  if (hasMetrics) addHistory(section);
  const flagged = allGrids.flatMap((grid) => grid.flagged);
  if (flagged.length)
    section.append(element(
        'p', {class: 'notice'},
        `${flagged.length} records carry flags. ${
                [...new Set(flagged.flatMap((f) => f.flags))]
                    .map((flag) => `${flag}: ${payload.flags[flag] || 'not known to this version'}.`)
                    .join(' ')}`));
}

// Opens the page at the layer or head with the largest ratio of eigenvalue to edge.
function chooseStart() {
  if (!availableMetrics.includes(state.metric)) state.metric = availableMetrics[0];
  const best = runs.map(mostProminent).filter(Boolean).sort((a, b) => b.ratio - a.ratio)[0];
  if (best) Object.assign(state, {layer: best.layer, head: best.head});
}

document.title = `Pastur report: ${runs.map((run) => run.name).join(', ')}`;
const wholeSteps = runs.map((run) => last(run.train.step)).filter(Number.isFinite);
byId('subtitle').textContent = `${runs.length === 1 ? 'One run' : `${runs.length} runs`}: ${
                                       [...new Set(runs.map(variantOf))].join(', ')}` +
    (wholeSteps.length ? `, ${Math.max(...wholeSteps)} steps` : '') +
    (measuredSteps.length ? `, spectra at ${measuredSteps.length} of them` : '');
chooseStart();
addRuns(byId('runs'));
addLoss(byId('loss'));
addAllSpectra(byId('spectra'));
addEvents(byId('events'));
addSpeed(byId('speed'));
addRecipes(byId('recipes'));
for (const {name, help} of Object.values(metrics))
  byId('glossary').append(element('dt', {}, name), element('dd', {}, help));
byId('footer').textContent = `Written by pastur ${payload.version}. ` +
    'Eigenvalues on this page are rounded to a relative 2e-4, metrics to float32; the run folders hold all ' +
    'digits. This page loads nothing from the network.';
drawAll();
const testing = location.hash === '#selftest';
readAddress();
if (testing) selfTest();
