// The eigenvalues of one matrix at one step against all nulls at once: a histogram with densities and edges, and a scree
// plot. One seed of each group.

// The nulls' lines: one dash and one weight each, beside their names in the legend of the figure.
const nullDash = {
  product: null,
  profile: '8 3',
  permuted: '2 3',
  mp: '9 3 2 3'
};

// Returns the spectrum of a run at the chosen place, {values, step, nulls: [{name, noise}], unit, first} with descending
// values, or null if the run has none.
function chosenSpectrum(run) {
  const spectra = spectraOf(run, state.matrix, state.head);
  if (!spectra || !spectra.layers.includes(state.layer)) return null;
  const step = nearest(spectra.steps, state.step);
  const values = spectra.get(step, state.layer, state.head);
  if (!values || !(values[0] > 0)) return null;
  const at = (name, when) => {
    const grid = gridOf(run, state.matrix, name, isHead(state.head));
    return grid ? nullOf(grid, nearest(grid.steps, when), state.layer, state.head) : null;
  };
  const own =
      nulls.map((name) => ({name, noise: at(name, step)})).filter(({noise}) => noise && noise.edge > 0);
  const main = (own.find(({name}) => name === state.null) || own[0] || {}).noise;
  const unitOf = (noise) => (state.spectrumUnit === 'edge' && noise && noise.edge > 0 ? noise.edge : 1);
  const first = spectra.steps[0], before = spectra.get(first, state.layer, state.head) || [];
  const unitThen = unitOf(at((own.find(({name}) => name === state.null) || own[0] || {}).name, first));
  return {
    run,
    step,
    values,
    nulls: own,
    main,
    unit: unitOf(main),
    first: {step: first, values: before.map((v) => v / unitThen)},
    outliers: main ? values.filter((v) => v > main.edge) : []
  };
}
// The run of a group that the reader chose by its seed, among those with eigenvalues of this form if there are any.
const chosenRun = (group) => {
  const all = shownRuns(group), measured = all.filter((run) => spectraOf(run, state.matrix, state.head));
  const members = measured.length ? measured : all;
  return members[Math.min(state.seed, members.length - 1)];
};
const spectrumUnit = () => (state.spectrumUnit === 'edge' ? `the edge of ${state.null}` : '');

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

// The share of a law's eigenvalues in every bar of a histogram, per unit of the axis: comparable with the bars, and finite
// where the density of the law is not.
function expectedBars(bars, noise, unit, log) {
  if (!noise.law || !(noise.unit > 0)) return [];
  return bars.map(({from, to}) => {
    const share =
        cumulative(noise.law, (to * unit) / noise.unit) - cumulative(noise.law, (from * unit) / noise.unit);
    return share / (log ? Math.log(to / from) : to - from);
  });
}

function spectrumDomain(shown, log) {
  const edges = shown.flatMap((c) => c.nulls.map(({noise}) => noise.edge / c.unit));
  const high = extent([...shown.map((c) => c.values[0] / c.unit), ...edges])[1] * (log ? 1.3 : 1.04);
  // A linear axis ends at four times the largest edge, because a large outlier would compress the bulk.
  if (!log) return [0, Math.min(high, 4 * extent(edges, [high, high])[1])];
  // Eigenvalues ten decades below the largest are rounding errors of the solver.
  const lows = shown.map(
      (c) =>
          Math.max(last(c.values), c.values[Math.floor(c.values.length * 0.99)] / 30, c.values[0] * 1e-10) /
          c.unit);
  return [extent(lows)[0] * 0.8, high];
}

function drawOneSpectrum(host, c, {bars, expected}, domain, top, output) {
  const log = state.spectrumAxis === 'log', {group} = c.run;
  const plot = new Plot(host, {
    height: 270,
    title: `${seedLabel(c.run)}, step ${c.step}`,
    label: `${c.run.name}: spectrum of ${placeLabel(state.layer, state.head)} at step ${c.step}`,
    margin: {left: 50},
    x: {
      kind: log ? 'log' : 'linear',
      domain,
      label: `λ of M Mᵀ${spectrumUnit() ? ` over ${spectrumUnit()}` : ''}`
    },
    y: {domain: [0, top], label: log ? 'share per unit of ln λ' : 'share per unit'}
  });
  for (const bar of bars) plot.bar(bar.from, bar.to, bar.density, {class: `bar ${group.series}`});
  c.nulls.forEach(({name, noise}) => {
    plot.vertical(noise.edge / c.unit, {class: 'edge-line', 'stroke-dasharray': nullDash[name] || null});
    const heights = expected.get(name);
    if (heights && heights.length)
      plot.line(
          bars.flatMap((bar, i) => [[bar.from, heights[i]], [bar.to, heights[i]]]),
          {class: 'null-line', 'stroke-dasharray': nullDash[name]});
  });
  for (const v of c.outliers.slice(0, 200))
    plot.dot(v / c.unit, top * 0.022, {class: `fill halo ${group.series}`}, 3.4);
  const beyond = c.values.filter((v) => v / c.unit > domain[1]);
  if (beyond.length)
    plot.note(
        plot.width - 20, plot.box.top + 31,
        `${beyond.length} further right, to ${format(beyond[0] / c.unit, 3)} ▸`);
  plot.note(plot.width - 20, plot.box.top + 15, `${c.outliers.length} of ${c.values.length} beyond the edge`);
  plot.cursor(bars.map((b) => (log ? Math.sqrt(b.from * b.to) : (b.from + b.to) / 2)), (x) => {
    const i = bars.findIndex((b) => b.from <= x && x <= b.to), bar = bars[Math.max(0, i)];
    const other = [...expected]
                      .filter(([, h]) => h.length)
                      .map(
                          ([name, h]) => `${name} expects ${
                              format(
                                  h[Math.max(0, i)] * c.values.length *
                                      (log ? Math.log(bar.to / bar.from) : bar.to - bar.from),
                                  3)}`);
    return `${c.run.name}: ${bar.count} eigenvalues in [${format(bar.from, 3)}, ${format(bar.to, 3)}]${
        other.length ? `; ${other.join(', ')}` : ''}`;
  }, output);
}

function nullLegend(shown) {
  const names = nulls.filter((name) => shown.some((c) => c.nulls.some((n) => n.name === name)));
  return element(
      'ul', {class: 'legend', 'aria-label': 'Nulls'},
      ...names.map(
          (name) => element(
              'li', {},
              element(
                  'svg', {width: 40, height: 12, 'aria-hidden': 'true'},
                  element(
                      'line',
                      {class: 'null-line', x1: 1, x2: 18, y1: 6, y2: 6, 'stroke-dasharray': nullDash[name]}),
                  element('line', {
                    class: 'edge-line',
                    x1: 22,
                    x2: 39,
                    y1: 6,
                    y2: 6,
                    'stroke-dasharray': nullDash[name] || null
                  })),
              name)));
}

function drawSpectra(body, output) {
  const log = state.spectrumAxis === 'log', members = shownGroups().map(chosenRun);
  const shown = members.map(chosenSpectrum).filter(Boolean), rows = [];
  if (shown.length === 0) {
    body.append(hint('No shown run has eigenvalues of this matrix, layer and head on this page.'));
    return null;
  }
  const domain = spectrumDomain(shown, log);
  const parts = shown.map((c) => {
    const bars = histogram(c.values.map((v) => v / c.unit), domain, log);
    return {
      bars,
      expected: new Map(c.nulls.map(({name, noise}) => [name, expectedBars(bars, noise, c.unit, log)]))
    };
  });
  const tallest = parts.flatMap((p) => [...p.bars.map((b) => b.density), ...[...p.expected.values()].flat()]);
  const top = 1.06 * extent(tallest)[1];
  const hosts = makePanels(body, shown.length);
  shown.forEach((c, i) => {
    drawOneSpectrum(hosts[i], c, parts[i], domain, top, output);
    const edge = Object.fromEntries(c.nulls.map(({name, noise}) => [name, noise.edge]));
    c.values.forEach((v, rank) => rows.push([
      c.run.name, c.step, state.layer, state.head, state.matrix, rank + 1, v,
      ...nulls.map((name) => edge[name])
    ]));
  });
  body.append(nullLegend(shown));
  const without = members.filter((run) => !shown.some((c) => c.run === run));
  return {
    header: [
      'run', 'step', 'layer', 'head', 'matrix', 'rank', 'eigenvalue', ...nulls.map((name) => `edge_${name}`)
    ],
    rows,
    caption: `${sentence(matrixLabel(state.matrix))}, ${
                 placeLabel(state.layer, state.head)}. Bars: its eigenvalues. ` +
        'Stepped lines: what the laws of product and mp expect in each bar; profile and permuted are sampled and have an edge only. ' +
        'Vertical lines: the edges, the 99 % quantile of the largest eigenvalue of noise. Dots: outliers.' +
        (without.length ? ` No eigenvalues of this form: ${without.map(seedLabel).join(', ')}.` : '')
  };
}

function drawScree(body, output) {
  const shown = shownGroups().map(chosenRun).map(chosenSpectrum).filter(Boolean);
  if (shown.length === 0) {
    body.append(hint('No shown run has eigenvalues of this matrix, layer and head on this page.'));
    return null;
  }
  const rows = [], hosts = makePanels(body, shown.length);
  const noiseOf = (c, noise) =>
      (noise.law && noise.unit > 0 ?
           noiseSpectrum(noise.law, c.values.length).map((x) => (x * noise.unit) / c.unit) :
           []);
  const most = Math.max(...shown.map((c) => c.values.length));
  const lows = shown.map((c) => Math.max(last(c.values), c.values[0] * 1e-8) / c.unit);
  const highs = shown.flatMap(
      (c) =>
          [c.values[0] / c.unit, ...c.nulls.map(({noise}) => noiseOf(c, noise)[0] ?? noise.edge / c.unit)]);
  shown.forEach((c, i) => {
    const {series} = c.run.group;
    const plot = new Plot(hosts[i], {
      height: 270,
      title: `${seedLabel(c.run)}, step ${c.step}`,
      label: `${c.run.name}: eigenvalues by rank`,
      margin: {left: 58},
      x: {kind: state.screeAxis, domain: [state.screeAxis === 'log' ? 1 : 0, most], label: 'rank i'},
      y: {
        kind: 'log',
        label: state.spectrumUnit === 'edge' ? 'λᵢ / edge' : 'λᵢ',
        domain: [extent(lows)[0] * 0.8, extent(highs)[1] * 1.3]
      }
    });
    const noise = new Map(c.nulls.map(({name, noise}) => [name, noiseOf(c, noise)]));
    for (const {name, noise: own} of c.nulls) {
      plot.horizontal(
          own.edge / c.unit, {class: 'edge-line faint', 'stroke-dasharray': nullDash[name] || null});
      plot.line(
          noise.get(name).map((v, rank) => [rank + 1, v]),
          {class: 'null-line', 'stroke-dasharray': nullDash[name]});
    }
    if (c.first.step !== c.step)
      plot.line(c.first.values.map((v, rank) => [rank + 1, v]), {class: `line thin stroke ${series}`});
    plot.line(c.values.map((v, rank) => [rank + 1, v / c.unit]), {class: `line stroke ${series}`});
    if (c.values.length <= 80)
      c.values.forEach((v, rank) => plot.dot(rank + 1, v / c.unit, {class: `fill ${series}`}, 2.4));
    plot.cursor(
        c.values.map((_, rank) => rank + 1),
        (rank) => `${c.run.name}, rank ${rank}: ${format(c.values[rank - 1] / c.unit)}${
                [...noise]
                    .filter(([, v]) => v.length)
                    .map(([name, v]) => `, ${name} ${format(v[rank - 1])}`)
                    .join('')}`,
        output);
    c.values.forEach((v, rank) => rows.push([
      c.run.name, c.step, state.layer, state.head, state.matrix, rank + 1, v,
      ...nulls.map((name) => ((noise.get(name) || [])[rank] ?? NaN) * c.unit)
    ]));
  });
  body.append(nullLegend(shown));
  return {
    header: [
      'run', 'step', 'layer', 'head', 'matrix', 'rank', 'eigenvalue', ...nulls.map((name) => `noise_${name}`)
    ],
    rows,
    caption:
        'Coloured: eigenvalues by rank; faint: at the first measurement. Black lines: what the laws of product and mp ' +
        'expect at each rank. Horizontal: the edges of all nulls.'
  };
}

function addSpectra(section) {
  const figure = new Figure(
      section, 'spectrum', 'Spectrum of the chosen form against all nulls', drawSpectra, {height: 300});
  const seeds = Math.max(...groups.map((group) => group.runs.length));
  figure.controls.append(
      picker('Eigenvalue axis', 'spectrumAxis', [['log', 'logarithmic'], ['linear', 'linear']]),
      picker(
          'In units of', 'spectrumUnit',
          [['edge', 'the edge of the chosen null'], ['raw', 'nothing (raw λ)']]),
      seeds > 1 ?
          picker(
              'Seed', 'seed',
              Array.from(
                  {length: seeds},
                  (_, i) => [i, `${['first', 'second', 'third'][i] || `${i + 1}th`} of each group`])) :
          '');
  redrawOn(figure, 'spectrumAxis', 'spectrumUnit', 'seed', 'matrix', 'null', 'layer', 'head', 'step');
  const scree = new Figure(section, 'scree', 'Scree plot of the chosen form', drawScree, {height: 300});
  scree.controls.append(picker('Rank axis', 'screeAxis', [['log', 'logarithmic'], ['linear', 'linear']]));
  redrawOn(scree, 'screeAxis', 'spectrumUnit', 'seed', 'matrix', 'null', 'layer', 'head', 'step');
}
