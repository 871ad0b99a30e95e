// The loss of every run over steps or tokens.
const lossAxes = {
  step: 'step',
  tokens: 'tokens'
};

function tokensPerStep(run) {
  const steps = last(run.train.step), tokens = last(run.train.tokens);
  return steps > 0 && tokens > 0 ? tokens / steps : NaN;
}
// Returns the [x, loss] pairs of the training or validation curve.
function lossPoints(run, which, axis) {
  const table = run[which];
  return table.step.map(
      (step, i) =>
          [axis === 'step'       ? step :
               which === 'train' ? table.tokens[i] :
                                   step * tokensPerStep(run),
           table.loss[i] === null ? NaN : table.loss[i]]);
}
function valueAt(points, x) {
  let best;
  for (const point of points)
    if (best === undefined || Math.abs(point[0] - x) < Math.abs(best[0] - x)) best = point;
  return best;
}
const eventTitle = (run, event) => `${run.name}: ${event.event} at step ${event.step}, ${
    placeLabel(event.layer, event.head ?? -1)}, ${matrixLabel(event.matrix)}`;

function drawLossMarks(plot, axis, events) {
  for (const run of runs) {
    const train = lossPoints(run, 'train', axis), val = lossPoints(run, 'val', axis);
    plot.line(
        train, {class: `line stroke ${run.series}`, style: 'stroke-width:1.3', 'stroke-dasharray': run.dash});
    for (const [x, y] of val) plot.dot(x, y, {class: `fill ${run.series}`, style: 'stroke:var(--paper)'}, 4);
    if (!events || train.length === 0) continue;
    for (const event of run.events) {
      const x = axis === 'step' ? event.step : event.step * tokensPerStep(run);
      plot.triangle(
          x, valueAt(train, x)[1], event.event === 'spike', {class: `event ${run.series}`},
          eventTitle(run, event));
    }
  }
}

function lossPlot(body, output, height, options) {
  const {axis, scale, events, x = {}, choose} = options;
  const curves = runs.flatMap((run) => [...lossPoints(run, 'train', axis), ...lossPoints(run, 'val', axis)]);
  const [low, high] = extent(curves.map((p) => p[1]));
  const pad = scale === 'linear' ? (high - low) * 0.05 : 0;
  const plot = new Plot(body, {
    height,
    label: `Training and validation loss against ${axis}`,
    x: {label: lossAxes[axis], domain: [0, extent(curves.map((p) => p[0]))[1]], ...x},
    y: {kind: scale, label: 'loss (nats / token)', domain: [low - pad, high + pad]}
  });
  drawLossMarks(plot, axis, events);
  const xs = sorted(curves.map((p) => p[0]).filter(Number.isFinite));
  plot.cursor(
      xs,
      (x) => `${axis} ${axis === 'tokens' ? formatCount(x) : x}: ` +
          runs.map((run) => {
                const train = valueAt(lossPoints(run, 'train', axis), x),
                      val = valueAt(lossPoints(run, 'val', axis), x);
                return `${run.name} ${train ? format(train[1], 5) : '–'}` +
                    (val ? ` (val ${format(val[1], 5)})` : '');
              })
              .join(' · '),
      output, choose);
  return plot;
}

function addLoss(section) {
  if (!runs.some((run) => run.train.step.length || run.val.step.length)) {
    section.append(element('p', {class: 'notice'}, 'No step has been logged yet.'));
    return;
  }
  const figure = new Figure(section, 'loss', 'Training and validation loss', (body, output) => {
    lossPlot(body, output, 340, {axis: state.lossAxis, scale: state.lossScale, events: state.lossEvents});
    body.append(legend());
    const rows = runs.flatMap(
        (run) => ['train', 'val'].flatMap(
            (which) => run[which].step.map(
                (step, i) =>
                    [run.name, which, step,
                     which === 'train' ? run.train.tokens[i] : step * tokensPerStep(run),
                     run[which].loss[i]])));
    return {
      header: ['run', 'split', 'step', 'tokens', 'loss'],
      rows,
      caption: 'Lines: training loss of the logged steps. Dots: validation loss. ' +
          '▲ spike and ▼ collapse events of the spectra.'
    };
  });
  figure.controls.append(
      picker('Horizontal', 'lossAxis', [['step', 'steps'], ['tokens', 'tokens']]),
      picker('Loss scale', 'lossScale', [['linear', 'linear'], ['log', 'logarithmic']]),
      checkbox('Mark events', 'lossEvents'));
  redrawOn(figure, 'lossAxis', 'lossScale', 'lossEvents');
}
