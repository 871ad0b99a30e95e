// The metrics of a spectrum, their values at a place, and their excess over noise.

// value(get) computes a metric from a record's fields, noise(spectrum, edge) from a descending spectrum of
// noise.
const sum = (values) => values.reduce((total, v) => total + v, 0);
const above = (values, edge) => values.filter((v) => v > edge);
const metrics = {
  mp_gap_ratio: {
    name: 'λmax / λ₊',
    log: true,
    help: 'largest eigenvalue over the null’s edge; an outlier above 1',
    value: (get) => get('lambda_max') / get('lambda_plus'),
    noise: (s, edge) => s[0] / edge
  },
  mp_gap: {
    name: 'λmax − λ₊',
    help: 'gap between the largest eigenvalue and the edge',
    value: (get) => get('lambda_max') - get('lambda_plus'),
    noise: (s, edge, unit) => (s[0] - edge) * unit
  },
  outlier_count: {
    name: 'outliers',
    unit: 'eigenvalues',
    help: 'eigenvalues above the null’s edge',
    value: (get) => get('outlier_count'),
    noise: (s, edge) => above(s, edge).length
  },
  outliers_below: {
    name: 'outliers below',
    unit: 'eigenvalues',
    help: 'eigenvalues below the null’s lower edge, where that is above 0',
    value: (get) => get('outliers_below')
  },
  outlier_fraction: {
    name: 'outlier fraction',
    help: 'outliers over all eigenvalues',
    value: (get) => get('outlier_count') / get('n'),
    noise: (s, edge) => above(s, edge).length / s.length
  },
  outlier_energy: {
    name: 'outlier energy',
    unit: 'share of the trace',
    help: 'sum of the outliers over the sum of all eigenvalues',
    value: (get) => get('outlier_energy'),
    noise: (s, edge) => sum(above(s, edge)) / sum(s)
  },
  stable_rank: {
    name: 'stable rank',
    help: 'Σλ / λmax',
    value: (get) => get('stable_rank'),
    noise: (s) => sum(s) / s[0]
  },
  participation_ratio: {
    name: 'participation ratio',
    help: '(Σλ)² / Σλ²: how many directions share the energy',
    value: (get) => get('participation_ratio'),
    noise: (s) => sum(s) ** 2 / sum(s.map((v) => v * v))
  },
  entropy_rank: {
    name: 'entropy rank',
    help: 'exp of the entropy of λ / Σλ',
    value: (get) => get('entropy_rank'),
    noise: (s) => {
      const all = sum(s);
      return Math.exp(-sum(s.map((v) => (v > 0 ? (v / all) * Math.log(v / all) : 0))));
    }
  },
  mp_soft_rank: {
    name: 'soft rank λ₊ / λmax',
    help: 'edge over largest eigenvalue; 1 for noise, towards 0 with a dominating direction',
    value: (get) => get('lambda_plus') / get('lambda_max'),
    noise: (s, edge) => edge / s[0]
  },
  ks: {
    name: 'distance to the null (KS)',
    help: 'Kolmogorov-Smirnov distance between the eigenvalues and the null’s law',
    value: (get) => get('ks')
  },
  alpha: {
    name: 'tail exponent α',
    help: 'power law fitted to the tail of the spectrum; small: heavy tail',
    value: (get) => get('alpha')
  },
  alpha_xmin: {
    name: 'tail begins at',
    log: true,
    help: 'λ from which the power law is fitted',
    value: (get) => get('alpha_xmin')
  },
  overlap_before: {
    name: 'overlap with the measurement before',
    help: 'mean squared cosine between the 8 leading directions of a layer now and at the measurement before',
    value: (get) => get('overlap_before')
  },
  overlap_next: {
    name: 'overlap with the next layer',
    help: 'mean squared cosine between the 8 leading directions of a layer and of the next one',
    value: (get) => get('overlap_next')
  },
  lambda_max: {
    name: 'λmax',
    log: true,
    help: 'largest eigenvalue of M Mᵀ',
    value: (get) => get('lambda_max'),
    noise: (s, edge, unit) => s[0] * unit
  },
  lambda_plus: {name: 'λ₊', log: true, help: 'upper edge of the null', value: (get) => get('lambda_plus')},
  lambda_minus: {name: 'λ₋', help: 'lower edge of the null', value: (get) => get('lambda_minus')},
  sigma2: {
    name: 'σ² of the null',
    log: true,
    help: 'variance that the null takes for the matrix',
    value: (get) => get('sigma2')
  },
};
const rawValue = (grid, metric, step, layer, head) =>
    (grid ? metrics[metric].value((name) => grid.get(name, step, layer, head)) : NaN);
const availableMetrics = Object.keys(metrics).filter(
    (id) => allGrids.some(
        (g) => Number.isFinite(rawValue(g, id, last(g.steps), g.layers[0], g.heads[0])) ||
            Number.isFinite(rawValue(g, id, g.steps[0], last(g.layers), last(g.heads)))));

// Returns the grid of the same matrix whose null is the law of its noise: `product`, or `mp` for a single
// weight, which is not a product. A sum of products has none: its laws here are rounded to the ratio of its
// terms, close enough for a curve but not for an excess.
function noiseRecord(run, matrix, perHead) {
  const product = gridOf(run, matrix, 'product', perHead);
  if (product && product.law !== undefined) return product;
  return matrix.startsWith('qk') ? null : gridOf(run, matrix, 'mp', perHead) || null;
}

// Returns the metric on noise of the same sizes and variances; NaN where no law is known or the metric has no
// such value.
function noiseValue(run, grid, metric, step, layer, head) {
  const definition = metrics[metric];
  const source = definition.noise && noiseRecord(run, grid.matrix, grid.perHead);
  const noise = source && nullOf(source, step, layer, head);
  if (!noise || !noise.law || !(noise.unit > 0)) return NaN;
  const n = Math.round(source.get('n', step, layer, head));
  if (!(n > 0)) return NaN;
  const edge = grid.get('lambda_plus', step, layer, head) / noise.unit;
  // Most metrics sum over the spectrum, so they are kept by law: the edge in units of the law rarely changes.
  const law = noise.law, key = `${metric} ${n} ${edge.toPrecision(5)}`;
  if (!(key in law)) law[key] = definition.noise(noiseSpectrum(law, n), edge, 1);
  return definition.noise.length === 3 ? law[key] * noise.unit : law[key];
}

function excessValue(run, grid, metric, step, layer, head) {
  const raw = rawValue(grid, metric, step, layer, head);
  const noise = noiseValue(run, grid, metric, step, layer, head);
  return raw - (Number.isFinite(noise) ? noise : rawValue(grid, metric, grid.steps[0], layer, head));
}
function metricValue(run, grid, metric, view, step, layer, head) {
  return view === 'raw' ? rawValue(grid, metric, step, layer, head) :
                          excessValue(run, grid, metric, step, layer, head);
}

// Says what the excess is measured from.
function excessMeaning(metric, matrix) {
  const lawful = metrics[metric].noise &&
      runs.some((run) => noiseRecord(run, matrix, false) || noiseRecord(run, matrix, true));
  return lawful ? 'Excess: the metric minus its value on noise of the same sizes and variances.' :
                  'Excess: the metric minus its first measurement, because no law of its noise is known.';
}

function metricLabel(metric, view = 'raw') {
  const {name, unit} = metrics[metric];
  return (view === 'raw' ? name : `${name}, excess`) + (unit ? ` (${unit})` : '');
}
