// The eigenvalues of one matrix at one step: a histogram with the null's density, and a scree plot.

// Returns a run's spectrum at the chosen place, {values, step, noise, unit} with descending values, or null
// if the run has none.
function chosenSpectrum(run) {
  const spectra = spectraOf(run, state.matrix, state.head);
  if (!spectra || !spectra.layers.includes(state.layer)) return null;
  const step = nearest(spectra.steps, state.step);
  const values = spectra.get(step, state.layer, state.head);
  if (!values || !(values[0] > 0)) return null;
  const grid = nearestGridOf(run, state.matrix, state.null, isHead(state.head));
  const record = grid ? nearest(grid.steps, step) : undefined;
  const noise = record === undefined ? null : nullOf(grid, record, state.layer, state.head);
  const edge = noise && noise.edge > 0 ? noise.edge : NaN;
  const unit = state.spectrumUnit === 'edge' && noise && noise.bulk > 0 ? noise.bulk : 1;
  return {
    run,
    step,
    values,
    noise,
    edge,
    unit,
    outliers: values.filter((v) => v > edge),
    first: firstSpectrum(spectra, grid)
  };
}
// Returns the first measurement of this matrix, {step, values}, in units of its own edge.
function firstSpectrum(spectra, grid) {
  const step = spectra.steps[0], values = spectra.get(step, state.layer, state.head) || [];
  const noise = state.spectrumUnit === 'edge' ? nullOf(grid, step, state.layer, state.head) : null;
  const unit = noise && noise.bulk > 0 ? noise.bulk : 1;
  return {step, values: values.map((v) => v / unit)};
}
const spectrumLabel = () =>
    (state.spectrumUnit === 'edge' ? 'eigenvalue of M Mᵀ over the null’s edge' : 'eigenvalue λ of M Mᵀ');

// Returns bars of equal width on the axis, [{from, to, density}], per unit of λ (of ln λ on a log axis).
function histogram(values, [low, high], log) {
  const count = Math.max(14, Math.min(64, Math.round(4 * Math.cbrt(values.length) * 1.5)));
  const place = log ? Math.log : (v) => v, back = log ? Math.exp : (v) => v;
  const a = place(low), width = (place(high) - a) / count;
  const bins = new Array(count).fill(0);
  for (const v of values) {
    if (v < low || v > high) continue;  // a zero with rounding errors, or beyond a linear axis
    bins[Math.min(count - 1, Math.floor((place(v) - a) / width))] += 1;
  }
  return bins.map((n, i) => ({
                    from: back(a + i * width),
                    to: back(a + (i + 1) * width),
                    count: n,
                    density: n / values.length / width
                  }));
}
// Returns the null's density on this axis.
function nullCurve(chosen, log) {
  const {noise, unit} = chosen;
  if (!noise || !noise.law || !(noise.unit > 0)) return [];
  const scale = noise.unit / unit;
  return noise.law.points.map((p) => [p.x * scale, log ? p.x * p.density : p.density / scale]);
}

function spectrumDomain(chosen, log) {
  const finite = chosen.filter(Boolean);
  const highs =
      finite.flatMap((c) => [c.values[0] / c.unit, c.noise && c.noise.band ? c.noise.band[1] / c.unit : NaN]);
  const high = extent(highs)[1] * (log ? 1.25 : 1.04);
  // A linear axis ends at four times the edge, because a large outlier would compress the bulk.
  if (!log)
    return [
      0,
      Math.min(
          high, 4 * (extent(finite.map((c) => (c.noise ? c.noise.bulk / c.unit : NaN)), [high, high])[1]))
    ];
  // Eigenvalues ten decades below the largest are rounding errors of the solver.
  const lows = finite.map(
      (c) =>
          Math.max(last(c.values), c.values[Math.floor(c.values.length * 0.99)] / 30, c.values[0] * 1e-10) /
          c.unit);
  const nullLow = finite.map(
      (c) =>
          (c.noise && c.noise.law && c.noise.law.lower > 0 ? (c.noise.law.lower * c.noise.unit) / c.unit :
                                                             NaN));
  return [extent([...lows, ...nullLow])[0] * 0.8, high];
}

function drawOneSpectrum(host, chosen, domain, top, output) {
  const log = state.spectrumAxis === 'log', {run, values, noise, unit} = chosen;
  const plot = new Plot(host, {
    height: 270,
    label: `${run.name}: spectrum of ${placeLabel(state.layer, state.head)} at step ${chosen.step}`,
    margin: {left: 50},
    x: {kind: log ? 'log' : 'linear', domain, label: spectrumLabel()},
    y: {domain: [0, top], label: log ? 'density per unit of ln λ' : 'density'}
  });
  if (noise && noise.band) plot.band(noise.band[0] / unit, noise.band[1] / unit, {class: 'band'});
  const bars = histogram(values.map((v) => v / unit), domain, log);
  for (const bar of bars) plot.bar(bar.from, bar.to, bar.density, {class: `bar ${run.series}`});
  plot.line(nullCurve(chosen, log), {class: 'null-line'});
  const bulk = noise ? noise.bulk / unit : NaN;
  plot.vertical(bulk, {class: 'edge-line'});
  const foot = top * 0.022;
  for (const v of chosen.outliers.slice(0, 200))
    plot.dot(
        v / unit, foot, {class: `fill ${run.series}`, style: 'stroke:var(--paper);stroke-width:.8'}, 3.6);
  const beyond = values.filter((v) => v / unit > domain[1]);
  if (beyond.length)
    plot.note(plot.width - 20, 28, `${beyond.length} further right, to ${format(beyond[0] / unit, 3)} ▸`);
  plot.cursor(bars.map((b) => (log ? Math.sqrt(b.from * b.to) : (b.from + b.to) / 2)), (x) => {
    const bar = bars.find((b) => b.from <= x && x <= b.to);
    return `${run.name}: ${bar.count} eigenvalues in [${format(bar.from, 3)}, ${format(bar.to, 3)}]`;
  }, output);
  return bars;
}

function missingSpectrum(run) {
  const any = run.spectra.some((s) => s.matrix === state.matrix);
  return element(
      'p', {class: 'hint'},
      any ? `No eigenvalues of ${placeLabel(state.layer, state.head)} on this page.` :
            `No eigenvalues of ${matrixLabel(state.matrix)} in this run.`);
}

function drawSpectra(body, output) {
  const log = state.spectrumAxis === 'log';
  const chosen = runs.map(chosenSpectrum), shown = chosen.filter(Boolean);
  const rows = [];
  if (shown.length > 0) {
    const domain = spectrumDomain(shown, log);
    const bars = shown.map(
        (c) => Math.max(...histogram(c.values.map((v) => v / c.unit), domain, log).map((b) => b.density)));
    const tallest = Math.max(...bars);
    // The axis ignores the null's pole at zero, which would compress the bars.
    const curves = shown.map(
        (c) => extent(
            nullCurve(c, log).filter(([x]) => x >= domain[0] && x <= domain[1]).map((p) => p[1]), [0, 0])[1]);
    const top = 1.08 * Math.max(tallest, Math.min(Math.max(...curves), 1.8 * tallest));
    makeRunPanels(body, isHead(state.head)).forEach((host, i) => {
      const run = runs[i], c = chosen[i];
      if (c)
        host.append(element(
            'div', {class: 'caption'},
            `step ${c.step}${
                Number.isFinite(c.edge) ? `: ${c.outliers.length} of ${c.values.length} beyond λ₊` : ''}`));
      if (!c) {
        host.append(missingSpectrum(run));
        return;
      }
      drawOneSpectrum(host, c, domain, top, output);
      c.values.forEach(
          (v, rank) => rows.push(
              [run.name, c.step, state.layer, state.head, rank + 1, v, c.edge, c.noise ? c.noise.bulk : '']));
    });
  } else
    body.append(element('p', {class: 'hint'}, 'No run has eigenvalues of this matrix, layer and head.'));
  const law = shown.some((c) => c.noise && c.noise.law);
  return {
    header: ['run', 'step', 'layer', 'head', 'rank', 'eigenvalue', 'lambda_plus', 'bulk_edge'],
    rows,
    caption: `${sentence(matrixLabel(state.matrix))}, ${
                 placeLabel(state.layer, state.head)}. Bars: its eigenvalues. ` +
        (law ? `Line: density of the ${state.null} null. Dashed: its edge. ` +
                 'Shaded: Tracy-Widom band, 1 % to 99 % of the largest eigenvalue of noise. Dots: outliers.' :
               `The ${state.null} null has no closed law; dashed: its edge.`)
  };
}

function drawScree(body, output) {
  const shown = runs.map(chosenSpectrum).filter(Boolean);
  if (shown.length === 0) {
    body.append(element('p', {class: 'hint'}, 'No run has eigenvalues of this matrix, layer and head.'));
    return null;
  }
  const deepest = (c) => Math.max(last(c.values), c.values[0] * 1e-8) / c.unit;
  const noiseOf = (c) =>
      (c.noise && c.noise.law && c.noise.unit > 0 ?
           noiseSpectrum(c.noise.law, c.values.length).map((x) => (x * c.noise.unit) / c.unit) :
           []);
  const most = Math.max(...shown.map((c) => c.values.length));
  const plot = new Plot(body, {
    height: 300,
    label: 'Eigenvalues by rank',
    x: {kind: state.screeAxis, domain: [state.screeAxis === 'log' ? 1 : 0, most], label: 'rank i'},
    y: {
      kind: 'log',
      label: state.spectrumUnit === 'edge' ? 'λᵢ / edge' : 'λᵢ',
      domain: [
        extent(shown.map(deepest))[0] * 0.8,
        extent(shown.flatMap((c) => [c.values[0] / c.unit, noiseOf(c)[0] || NaN]))[1] * 1.3
      ]
    }
  });
  if (state.spectrumUnit === 'edge') plot.horizontal(1, {class: 'edge-line'});
  const rows = [];
  for (const c of shown) {
    const noise = noiseOf(c);
    plot.line(noise.map((v, i) => [i + 1, v]), {
      class: `line stroke ${c.run.series}`,
      style: 'stroke-width:1.2;opacity:.75',
      'stroke-dasharray': '2 3'
    });
    if (c.first.step !== c.step)
      plot.line(c.first.values.map((v, i) => [i + 1, v]), {class: `line thin stroke ${c.run.series}`});
    plot.line(c.values.map((v, i) => [i + 1, v / c.unit]), {class: `line stroke ${c.run.series}`});
    if (c.values.length <= 80)
      c.values.forEach((v, i) => plot.dot(i + 1, v / c.unit, {class: `fill ${c.run.series}`}, 2.4));
    c.values.forEach(
        (v, i) => rows.push(
            [c.run.name, c.step, state.layer, state.head, i + 1, v, noise.length ? noise[i] * c.unit : '']));
  }
  plot.cursor(
      Array.from({length: most}, (_, i) => i + 1),
      (rank) => `rank ${rank}: ` +
          shown.map((c) => `${c.run.name} ${format(c.values[rank - 1] / c.unit)}`).join(' · '),
      output);
  body.append(legend(shown.map((c) => c.run), false));
  return {
    header: ['run', 'step', 'layer', 'head', 'rank', 'eigenvalue', 'noise_eigenvalue'],
    rows,
    caption: `Solid: step ${
        sorted(shown.map((c) => c.step)).join(', ')}. Faint: first measurement. Dotted: what the ${
        state.null} null expects.`
  };
}

function addSpectra(section) {
  const figure = new Figure(section, 'spectrum', 'Spectrum against the null', drawSpectra);
  figure.controls.append(
      picker('Eigenvalue axis', 'spectrumAxis', [['log', 'logarithmic'], ['linear', 'linear']]),
      picker('In units of', 'spectrumUnit', [['edge', 'the null’s edge'], ['raw', 'nothing (raw λ)']]));
  redrawOn(figure, 'spectrumAxis', 'spectrumUnit', 'matrix', 'null', 'layer', 'head', 'step');
  const scree = new Figure(section, 'scree', 'Scree plot', drawScree);
  scree.controls.append(picker('Rank axis', 'screeAxis', [['log', 'logarithmic'], ['linear', 'linear']]));
  redrawOn(scree, 'screeAxis', 'spectrumUnit', 'matrix', 'null', 'layer', 'head', 'step');
}
