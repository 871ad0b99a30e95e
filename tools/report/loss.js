// The loss of every group over steps or tokens: seeds as thin lines and a band, their mean as a line.
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

function lossPlot(host, output, height, {axis, scale, x = {}, choose}) {
  const used = shownGroups(), members = used.flatMap(shownRuns);
  const curves =
      members.flatMap((run) => [...lossPoints(run, 'train', axis), ...lossPoints(run, 'val', axis)]);
  const [low, high] = extent(curves.map((p) => p[1]));
  const pad = scale === 'linear' ? (high - low) * 0.05 : 0;
  const plot = new Plot(host, {
    height,
    label: `Training and validation loss against ${axis}`,
    x: {label: axis, domain: [0, extent(curves.map((p) => p[0]))[1]], ...x},
    y: {kind: scale, label: 'loss (nats / token)', domain: [low - pad, high + pad]}
  });
  const bands = used.map((group) => ({
                           group,
                           train: bandOf(group, (run) => lossPoints(run, 'train', axis)),
                           val: bandOf(group, (run) => lossPoints(run, 'val', axis))
                         }));
  for (const {group, train} of bands) drawBand(plot, group, train);
  for (const {group, val} of bands)
    for (const [px, py] of val.mean)
      plot.marker(group.marker, px, py, 3.6, {class: `fill halo ${group.series}`});
  const xs = sorted(curves.map((p) => p[0]).filter(Number.isFinite));
  plot.cursor(
      xs,
      (x) => `${axis} ${axis === 'tokens' ? formatCount(x) : x}: ` +
          bands
              .map(({group, train, val}) => {
                const own = valueAt(train.mean, x), valid = valueAt(val.mean, x);
                return `${group.label} ${own ? format(own[1], 5) : '–'}${
                    valid ? ` (val ${format(valid[1], 5)})` : ''}`;
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
    const used = shownGroups().flatMap(shownRuns);
    if (used.length === 0) {
      body.append(hint('Every run is hidden.'));
      return null;
    }
    lossPlot(body, output, 320, {axis: state.lossAxis, scale: state.lossScale});
    return {
      header: ['run', 'variant', 'arm', 'seed', 'split', 'step', 'tokens', 'loss'],
      rows: used.flatMap(
          (run) => ['train', 'val'].flatMap(
              (which) => run[which].step.map(
                  (step, i) =>
                      [run.name, run.variant, run.group.arm, run.seed, which, step,
                       which === 'train' ? run.train.tokens[i] : step * tokensPerStep(run),
                       run[which].loss[i]]))),
      caption:
          'Thick lines: training loss, mean over seeds; thin lines and bands: the seeds. Markers: validation loss, mean over seeds.'
    };
  });
  figure.controls.append(
      picker('Horizontal', 'lossAxis', [['step', 'steps'], ['tokens', 'tokens']]),
      picker('Loss scale', 'lossScale', [['linear', 'linear'], ['log', 'logarithmic']]));
  redrawOn(figure, 'lossAxis', 'lossScale');
}
