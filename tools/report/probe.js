// What the probe saw: attention logits and entropy, and the ranks of latents, keys, values and the residual stream.

const logitMetrics = {
  max_logit: ['largest logit', 'the largest of the heads of a layer'],
  rms_logit: ['RMS logit', 'root mean square over heads'],
  entropy: ['attention entropy (nats)', 'mean over queries and heads'],
  entropy_ratio:
      ['attention entropy over ln(keys)', 'mean over queries and heads; 1: uniform attention, 0: one key'],
  least_entropy_ratio:
      ['least attention entropy over ln(keys)', 'of the head where it is smallest; near 0: entropy collapse'],
  content_share:
      ['content’s share of the logit variance', 'heads with a content and a rotary part; mean over heads'],
  rope_share: [
    'the rotary part’s share of the logit variance', 'heads with a content and a rotary part; mean over heads'
  ],
  covariance_share: ['share of twice their covariance', 'with the two shares it adds up to 1'],
};
const latentMetrics = {
  entropy_rank: ['entropy rank', 'exp of the entropy of the eigenvalues of the covariance'],
  participation_ratio: ['participation ratio', '(Σλ)² / Σλ²'],
  rank_90: ['directions with 90 % of the variance', 'the fewest that hold it'],
  rank_99: ['directions with 99 % of the variance', 'the fewest that hold it'],
};
const tensorNames = {
  c_kv: 'latent c_KV',
  c_k: 'latent c_K',
  c_v: 'latent c_V',
  keys: 'keys',
  values: 'values',
  residual: 'residual stream'
};
const probeGrid = (run, tensor) => run.probes.find((grid) => grid.matrix === tensor);
const tensors =
    ranked(allProbes.map((g) => g.matrix).filter((name) => name !== 'logits'), Object.keys(tensorNames));

// One panel for each of `parts` [{title, tensor, group?}]: a curve of each group, mean over layers; or of each layer of
// one group, dark to light with depth.
function probePanel(host, output, title, label, bands, log) {
  const values = bands.flatMap(({band}) => band.seeds.flatMap((seed) => seed.points.map((p) => p[1])));
  const [low, high] = extent(values), pad = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
  const steps = sorted(bands.flatMap(({band}) => band.mean.map((p) => p[0])));
  const logY = log && low > 0 && high / low > 4;
  const plot = new Plot(host, {
    height: 220,
    title,
    label: `${title}: ${label} against the step`,
    x: {
      kind: state.probeAxis,
      domain: [0, last(steps) || 1],
      unit: steps.find((step) => step > 0) || 1,
      label: 'step'
    },
    y: {
      kind: logY ? 'log' : 'linear',
      label,
      domain: logY ? [low / 1.1, high * 1.1] : [Math.max(low - pad, low >= 0 ? 0 : -Infinity), high + pad]
    }
  });
  for (const {group, band} of bands) drawBand(plot, group, band);
  plot.cursor(
      steps,
      (step) => `${title}, step ${step}: ${
          bands.map(({group, band}) => `${group.label} ${format((valueAt(band.mean, step) || [])[1], 3)}`)
              .join(' · ')}`,
      output, (step) => update({step: nearest(measuredSteps, step)}));
}
// The curve of a run: the mean of a metric over its layers.
const layerMean = (grid, metric) =>
    (grid ? grid.steps
                .map(
                    (step) =>
                        [step, meanOf(grid.layers.map((layer) => grid.get(metric, step, layer, -1)), false)])
                .filter((p) => Number.isFinite(p[1])) :
            []);
const layerCurve = (grid, metric, layer) =>
    (grid ? grid.steps.map((step) => [step, grid.get(metric, step, layer, -1)])
                .filter((p) => Number.isFinite(p[1])) :
            []);
const bandsOf = (pointsOf) => shownGroups()
                                  .map((group) => ({group, band: bandOf(group, pointsOf)}))
                                  .filter(({band}) => band.seeds.length);

function probeRows(tensor, metric) {
  return shownGroups().flatMap(shownRuns).flatMap((run) => {
    const grid = probeGrid(run, tensor);
    return grid ? grid.steps.flatMap(
                      (step) => grid.layers.map(
                          (layer) =>
                              [run.name, run.variant, run.group.arm, run.seed, tensor, layer, step,
                               grid.get(metric, step, layer, -1)])) :
                  [];
  });
}
const probeHeader = (metric) => ['run', 'variant', 'arm', 'seed', 'tensor', 'layer', 'step', metric];

function drawLogits(body, output) {
  const metric = state.logit, [name, help] = logitMetrics[metric];
  const layersHere = sorted(allProbes.filter((g) => g.matrix === 'logits').flatMap((g) => g.layers));
  const pick = layersHere.length > 3 ?
      [0, 0.33, 0.67, 1].map((p) => layersHere[Math.round(p * (layersHere.length - 1))]) :
      layersHere;
  const parts =
      [
        ['mean over layers', (run) => layerMean(probeGrid(run, 'logits'), metric)],
        ...distinctLayers(pick).map(
            (layer) => [`layer ${layer}`, (run) => layerCurve(probeGrid(run, 'logits'), metric, layer)])
      ].map(([title, points]) => [title, bandsOf(points)])
          .filter(([, bands]) => bands.length);
  if (parts.length === 0) {
    body.append(hint('No shown run has measured it.'));
    return null;
  }
  const hosts = makePanels(body, parts.length, 'small');
  parts.forEach(
      ([title, bands], i) => probePanel(hosts[i], output, title, name, bands, metric.endsWith('logit')));
  return {
    header: probeHeader(metric),
    rows: probeRows('logits', metric),
    caption: `${sentence(name)}: ${
        help}. Measured on a fixed probe, the first sequences of the validation data. Thick: mean over seeds.`
  };
}
const distinctLayers = (list) => [...new Set(list)];

function drawLatents(body, output) {
  const metric = state.latent, [name, help] = latentMetrics[metric];
  const parts = tensors.map((tensor) => [tensor, bandsOf((run) => layerMean(probeGrid(run, tensor), metric))])
                    .filter(([, bands]) => bands.length);
  if (parts.length === 0) {
    body.append(hint('No shown run has measured it.'));
    return null;
  }
  const hosts = makePanels(body, parts.length, 'small');
  parts.forEach(([tensor, bands], i) => {
    const widths = bands.map(({group}) => {
      const grid = shownRuns(group).map((run) => probeGrid(run, tensor)).find(Boolean);
      return grid.get('width', grid.steps[0], grid.layers[0], -1);
    });
    probePanel(
        hosts[i], output, `${tensorNames[tensor] || tensor} (width ${between(widths, (w) => format(w, 4))})`,
        name, bands, true);
  });
  return {
    header: probeHeader(metric),
    rows: tensors.flatMap((tensor) => probeRows(tensor, metric)),
    caption:
        `${sentence(name)}: ${
            help}. Of each tensor’s centred covariance over the tokens of the probe, mean over layers. ` +
        'A variant without a latent has keys, values and residual stream only.'
  };
}

function addProbes(section) {
  const hasLogits = allProbes.some((g) => g.matrix === 'logits');
  if (!hasLogits && tensors.length === 0) {
    section.append(element(
        'p', {},
        hasRecords ?
            'Records of runs keep no logits and no latents; the folders of the runs have what was measured.' :
            'No logits and no latents were measured. To measure them, add "logits" and "latents" to diagnostics.scopes.'));
    return;
  }
  const axis = () => picker('Step axis', 'probeAxis', [['log1p', 'logarithmic'], ['linear', 'linear']]);
  if (hasLogits) {
    const figure = new Figure(section, 'logits', 'Attention logits and entropy', drawLogits, {height: 270});
    const available =
        Object.keys(logitMetrics).filter((id) => allProbes.some((g) => g.matrix === 'logits' && g.has(id)));
    figure.controls.append(
        picker('Quantity', 'logit', available.map((id) => [id, logitMetrics[id][0]])), axis());
    redrawOn(figure, 'logit', 'probeAxis');
  }
  if (tensors.length) {
    const figure = new Figure(
        section, 'latents', 'Ranks of latents, keys, values and residual stream', drawLatents, {height: 270});
    figure.controls.append(
        picker('Quantity', 'latent', Object.entries(latentMetrics).map(([id, [name]]) => [id, name])),
        axis());
    redrawOn(figure, 'latent', 'probeAxis');
  }
}
