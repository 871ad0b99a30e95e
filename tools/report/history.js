// A metric of the chosen matrix over the steps, with onsets, below the loss on the same axis.

// The points of a run: the chosen layer or head, or the mean, least or largest over layers.
function historyPoints(run, grid) {
  const {metric, view, layer, head, historyForms} = state;
  const at = (step, l) => metricValue(run, grid, metric, view, step, l, head);
  if (historyForms === 'chosen') return grid.steps.map((step) => [step, at(step, layer)]);
  const reduce = {
    layers: (v) => meanOf(v, metrics[metric].log && view === 'raw'),
    least: reductions.min,
    most: reductions.max
  }[historyForms];
  return grid.steps.map((step) => {
    const all = grid.layers.map((l) => at(step, l)).filter(Number.isFinite);
    return [step, all.length ? reduce(all) : NaN];
  });
}

// The steps at which the forms of a figure first spiked and collapsed: the first of them over the layers that it shows.
function onsetMarks(run) {
  const layersShown = state.historyForms === 'chosen' ? [state.layer] : layers;
  const of = (kind, nul) => {
    const grid = onsetGrid(run, kind, state.matrix, nul, chosenThreshold(kind));
    const steps = grid ? layersShown.map((layer) => grid.get(layer, state.head)).filter(Number.isFinite) : [];
    return steps.length ? Math.min(...steps) : NaN;
  };
  return {spike: of('spike', state.null), collapse: of('collapse', '')};
}

function drawHistory(body, output) {
  const {metric, view, matrix} = state, definition = metrics[metric], perHead = isHead(state.head);
  const log = view === 'raw' && definition.log;
  const shown =
      shownGroups()
          .map((group) => ({
                 group,
                 band: bandOf(
                     group,
                     (run) => {
                       const grid = metricGrid(run, metric, matrix, perHead);
                       return grid ? historyPoints(run, grid).filter((p) => Number.isFinite(p[1])) : [];
                     },
                     log)
               }))
          .filter(({band}) => band.seeds.length > 0);
  const missing = shownGroups().filter((group) => !shown.some((s) => s.group === group));
  if (shown.length === 0) {
    body.append(hint(
        missing.length ? `${missing.map((g) => g.label).join(', ')}: ${
                             whyNoValue(shownRuns(missing[0])[0], metric, view, matrix, perHead)}.` :
                         'Every run is hidden.'));
    return null;
  }
  const end = Math.max(...measuredSteps, ...runs.map((run) => last(run.train.step) || 0));
  // The logarithm begins at the first measurement after step 0.
  const x = {kind: state.historyAxis, domain: [0, end], unit: measuredSteps.find((step) => step > 0) || 1};
  const choose = (step) => update({step: nearest(measuredSteps, step)});
  const values = shown.flatMap(({band}) => band.seeds.flatMap((seed) => seed.points.map((p) => p[1])));
  const [low, high] = extent(values), ratio = metric === 'mp_gap_ratio' && view === 'raw';
  const logY = log && low > 0, pad = (high - low) * 0.06 || 1;
  const plot = new Plot(body, {
    height: 300,
    label: `${definition.name} against the step`,
    x: {...x, label: 'step'},
    y: {
      kind: logY ? 'log' : 'linear',
      label: metricLabel(metric, view),
      text: definition.share && view === 'raw' ? percent : null,
      domain: logY ? [Math.min(low, ratio ? 0.9 : low) / 1.05, high * 1.1] : [low - pad, high + pad]
    }
  });
  if (ratio || (view !== 'raw' && low < 0 && high > 0))
    plot.horizontal(ratio ? 1 : 0, {class: 'edge-line', 'stroke-dasharray': '6 3'});
  plot.vertical(state.step, {class: 'cursor'});
  for (const {group, band} of shown) drawBand(plot, group, band);
  for (const {group, band} of shown)
    for (const seed of band.seeds)
      for (const [kind, step] of Object.entries(onsetMarks(seed.run))) {
        const point = Number.isFinite(step) ? valueAt(seed.points, step) : null;
        if (point)
          plot.triangle(
              step, point[1], kind === 'spike', {class: `event ${group.series}`},
              `${seedLabel(seed.run)}: first ${kind} at step ${step} (${
                  thresholdText(kind, chosenThreshold(kind))})`);
      }
  plot.cursor(
      measuredSteps,
      (step) => `step ${step}: ` +
          shown
              .map(({group, band}) => {
                const point = valueAt(band.mean, step);
                return `${group.label} ${point ? valueText(metric, view, point[1]) : '–'}`;
              })
              .join(' · '),
      output, choose);
  if (runs.some((run) => run.train.step.length || run.val.step.length)) {
    const loss = lossPlot(body, output, 180, {axis: 'step', scale: 'linear', x, choose});
    loss.vertical(state.step, {class: 'cursor'});
  }
  const where = {
    layers: `mean over ${perHead ? `head ${state.head} of all` : 'all'} layers`,
    least: 'least of the layers',
    most: 'largest of the layers',
    chosen: placeLabel(state.layer, state.head)
  }[state.historyForms];
  return {
    header: ['run', 'variant', 'arm', 'seed', 'step', 'where', view === 'raw' ? metric : `${metric}_${view}`],
    rows: shown.flatMap(
        ({band}) => band.seeds.flatMap(
            ({run, points}) => points.map(
                ([step, value]) => [run.name, run.variant, run.group.arm, run.seed, step, where, value]))),
    caption: `${sentence(matrixLabel(matrix))}, ${where}${
        definition.any || metric === 'kept_null' ?
            '' :
            `, null ${state.null}`}. ${views[view].help} Thick: mean over seeds; thin and band: seeds.${
        ratio ? ' Dashed: the null’s edge.' : ''} ▲ first spike (${
        thresholdText('spike', chosenThreshold('spike'))}, null ${state.null}), ▼ first collapse (${
        thresholdText('collapse', chosenThreshold('collapse'))}) of the shown forms.${
        hasSpectra ? ' Choose a step to see its spectrum.' : ''}${
        missing.length ?
            ` Not shown: ${
                missing
                    .map((g) => `${g.label} (${whyNoValue(shownRuns(g)[0], metric, view, matrix, perHead)})`)
                    .join(', ')}.` :
            ''}`
  };
}

function addHistory(section) {
  const figure =
      new Figure(section, 'history', 'A metric over training, with the loss', drawHistory, {height: 500});
  figure.controls.append(
      picker('Metric', 'metric', availableMetrics.map((id) => [id, metrics[id].name])),
      picker('View', 'view', Object.entries(views).map(([id, view]) => [id, view.name])),
      picker(
          'Forms', 'historyForms',
          [
            ['layers', 'mean over layers'], ['least', 'least of the layers'],
            ['most', 'largest of the layers'], ['chosen', 'the chosen layer']
          ]),
      picker('Step axis', 'historyAxis', [['log1p', 'logarithmic'], ['linear', 'linear']]));
  redrawOn(
      figure, 'historyAxis', 'historyForms', 'metric', 'view', 'matrix', 'null', 'layer', 'head', 'step',
      'spikeAt', 'collapseAt');
}
