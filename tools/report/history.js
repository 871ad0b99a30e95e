// A metric of the chosen matrix over the steps, below the loss on the same axis.
function historyEvents(run) {
  return run.events.filter(
      (e) => e.matrix === state.matrix && e.null === state.null && e.layer === state.layer &&
          (e.head ?? -1) === state.head);
}

function drawHistory(body, output) {
  const metric = state.metric, definition = metrics[metric];
  const lines = [];
  for (const run of runs) {
    const grid = nearestGridOf(run, state.matrix, state.null, isHead(state.head));
    if (!grid) continue;
    for (const layer of grid.layers) {
      const chosen = layer === state.layer;
      if (!chosen && !state.historyLayers) continue;
      lines.push({
        run,
        layer,
        chosen,
        points: grid.steps.map(
            (step) => [step, metricValue(run, grid, metric, state.view, step, layer, state.head)])
      });
    }
  }
  if (lines.length === 0) {
    body.append(element('p', {class: 'hint'}, 'No run has measured this matrix.'));
    return null;
  }
  const end = Math.max(...measuredSteps, ...runs.map((run) => last(run.train.step) || 0));
  // The logarithm begins at the first measurement after step 0.
  const x = {kind: state.historyAxis, domain: [0, end], unit: measuredSteps.find((step) => step > 0) || 1};
  const choose = (step) => update({step: nearest(measuredSteps, step)});
  if (runs.some((run) => run.train.step.length || run.val.step.length)) {
    const loss = lossPlot(body, output, 190, {axis: 'step', scale: 'linear', events: false, x, choose});
    loss.vertical(state.step, {class: 'cursor'});
  }
  const finite = lines.flatMap((line) => line.points.map((p) => p[1])).filter(Number.isFinite);
  const [low, high] = extent(finite);
  const ratio = metric === 'mp_gap_ratio' && state.view === 'raw';
  const log = state.view === 'raw' && definition.log && low > 0;
  const pad = (high - low) * 0.06;
  const plot = new Plot(body, {
    height: 300,
    label: `${definition.name} against the step`,
    x: {...x, label: 'step'},
    y: {
      kind: log ? 'log' : 'linear',
      label: metricLabel(metric, state.view),
      domain: log ? [Math.min(low, ratio ? 0.9 : low) / 1.05, high * 1.1] : [low - pad, high + pad]
    }
  });
  if (ratio || (state.view !== 'raw' && low < 0 && high > 0))
    plot.horizontal(ratio ? 1 : 0, {class: 'edge-line'});
  plot.vertical(state.step, {class: 'cursor'});
  for (const line of [...lines.filter((l) => !l.chosen), ...lines.filter((l) => l.chosen)]) {
    plot.line(line.points, {
      class: `line stroke ${line.run.series} ${line.chosen ? '' : 'thin'}`,
      'stroke-dasharray': line.run.dash
    });
    if (line.chosen && line.points.length <= 60)
      for (const [px, py] of line.points) plot.dot(px, py, {class: `fill ${line.run.series}`}, 2.6);
  }
  const chosenLines = lines.filter((line) => line.chosen);
  for (const {run, points} of chosenLines)
    for (const event of historyEvents(run))
      plot.triangle(
          event.step, valueAt(points, event.step)[1], event.event === 'spike', {class: `event ${run.series}`},
          eventTitle(run, event));
  plot.cursor(
      measuredSteps,
      (step) => `step ${step}, ${placeLabel(state.layer, state.head)}: ` +
          chosenLines
              .map((line) => {
                const point = valueAt(line.points, step);
                return `${line.run.name} ${point ? format(point[1]) : '–'}`;
              })
              .join(' · '),
      output, choose);
  body.append(legend());
  const others = state.historyLayers ? '; faint: the other layers' : '';
  const othersNull =
      runs.map((run) => [run, nearestGridOf(run, state.matrix, state.null, isHead(state.head))])
          .filter(([, grid]) => insteadOfChosen(grid))
          .map(([run, grid]) => `; ${run.name} against ${grid.null}`)
          .join('');
  const edge = ratio ? ' Dashed: the null’s edge.' : '';
  return {
    header: ['run', 'step', 'layer', 'head', `${metric}${state.view === 'raw' ? '' : '_excess'}`],
    rows: lines.flatMap(
        (line) => line.points.map(([step, value]) => [line.run.name, step, line.layer, state.head, value])),
    caption:
        `Bold: ${placeLabel(state.layer, state.head)}${others}. ${sentence(matrixLabel(state.matrix))}, ` +
        `null ${state.null}${othersNull}.${edge} ▲ spike, ▼ collapse. Choose a step to see its spectrum.`
  };
}

function addHistory(section) {
  const figure = new Figure(section, 'history', 'Over training, with the loss', drawHistory);
  figure.controls.append(
      picker('Metric', 'metric', availableMetrics.map((id) => [id, metrics[id].name])),
      picker('View', 'view', [['raw', 'as measured'], ['excess', 'excess over the null']]),
      picker('Step axis', 'historyAxis', [['log1p', 'logarithmic'], ['linear', 'linear']]),
      checkbox('Other layers', 'historyLayers'));
  redrawOn(
      figure, 'historyAxis', 'historyLayers', 'metric', 'view', 'matrix', 'null', 'layer', 'head', 'step');
}
