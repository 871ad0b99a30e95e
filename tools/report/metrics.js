// The metrics of a spectrum, their values at a place, and their excess over noise.

// value(get, first) computes a metric from a record's fields and those of the measurement at step 0;
// noise(spectrum, edge) from a descending spectrum of noise. `share`: drawn as a percentage. `any`: no null affects it.
const above = (values, edge) => values.filter((v) => v > edge);
const metrics = {
  kept_step0: {
    name: 'capacity kept of step 0',
    log: true,
    share: true,
    any: true,
    help: 'stable rank over its value at step 0',
    value: (get, first) => get('stable_rank') / first('stable_rank')
  },
  kept_null: {
    name: 'capacity kept of the product null',
    log: true,
    share: true,
    help: 'stable rank over the one that a product of random factors of these sizes has',
    value: (get) => get('kept_null')
  },
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
    any: true,
    name: 'stable rank',
    log: true,
    help: 'Σλ / λmax',
    value: (get) => get('stable_rank'),
    noise: (s) => sum(s) / s[0]
  },
  participation_ratio: {
    any: true,
    name: 'participation ratio',
    log: true,
    help: '(Σλ)² / Σλ²: how many directions share the energy',
    value: (get) => get('participation_ratio'),
    noise: (s) => sum(s) ** 2 / sum(s.map((v) => v * v))
  },
  entropy_rank: {
    any: true,
    name: 'entropy rank',
    log: true,
    help: 'exp of the entropy of λ / Σλ',
    value: (get) => get('entropy_rank'),
    noise: (s) => {
      const all = sum(s);
      return Math.exp(-sum(s.map((v) => (v > 0 ? (v / all) * Math.log(v / all) : 0))));
    }
  },
  mp_soft_rank: {
    name: 'soft rank λ₊ / λmax',
    log: true,
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
    any: true,
    name: 'tail exponent α',
    help: 'power law fitted to the tail of the spectrum; small: heavy tail',
    value: (get) => get('alpha')
  },
  overlap_before: {
    any: true,
    name: 'overlap with the measurement before',
    help: 'mean squared cosine between the 8 leading directions of a layer now and at the measurement before',
    value: (get) => get('overlap_before')
  },
  overlap_next: {
    any: true,
    name: 'overlap with the next layer',
    help: 'mean squared cosine between the 8 leading directions of a layer and of the next one',
    value: (get) => get('overlap_next')
  },
  lambda_max: {
    any: true,
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
function rawValue(grid, metric, step, layer, head) {
  if (!grid) return NaN;
  const first = (name) => (grid.steps[0] === 0 ? grid.get(name, 0, layer, head) : NaN);
  return metrics[metric].value((name) => grid.get(name, step, layer, head), first);
}
const availableMetrics = Object.keys(metrics).filter(
    (id) => allGrids.some(
        (g) => Number.isFinite(rawValue(g, id, last(g.steps), g.layers[0], g.heads[0])) ||
            Number.isFinite(rawValue(g, id, g.steps[0], last(g.layers), last(g.heads)))));

// The grid of a run that holds a metric: against the chosen null, or any where no null affects the metric. The product
// null alone knows what its stable rank would be.
function metricGrid(run, metric, matrix, perHead, nul = state.null) {
  if (metric === 'kept_null') return gridOf(run, matrix, 'product', perHead);
  return metrics[metric].any ? anyGridOf(run, matrix, perHead, nul) : gridOf(run, matrix, nul, perHead);
}

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
  const law = noise.law, key = `${metric} ${n} ${edge.toPrecision(4)}`;
  if (!(key in law)) law[key] = definition.noise(noiseSpectrum(law, n), edge, 1);
  return definition.noise.length === 3 ? law[key] * noise.unit : law[key];
}

// The three ways to look at a metric. Each has one definition for all variants; a variant to which it does not apply has
// no values and says why.
const views = {
  raw: {name: 'as measured', help: ''},
  change: {name: 'change since step 0', help: 'Change: the metric minus its value at step 0.'},
  excess: {
    name: 'excess over noise',
    help:
        'Excess: the metric minus its value on noise of the same sizes and variances, from the product law. ' +
        'A sum of products has no such law of its own, so it has no excess.'
  },
};
function metricValue(run, grid, metric, view, step, layer, head) {
  const raw = rawValue(grid, metric, step, layer, head);
  if (view === 'raw') return raw;
  if (view === 'change') return grid.steps[0] === 0 ? raw - rawValue(grid, metric, 0, layer, head) : NaN;
  return raw - noiseValue(run, grid, metric, step, layer, head);
}
// Why a run has no values of the metric in this view.
function whyNoValue(run, metric, view, matrix, perHead) {
  const name = matrixLabel(matrix);
  if (!anyGridOf(run, matrix, perHead)) return `no ${name} ${perHead ? 'by head' : 'of layers'} here`;
  if (!metricGrid(run, metric, matrix, perHead)) return `not measured against ${state.null}`;
  if (view === 'excess') return metrics[metric].noise ? 'no law of its noise' : 'noise has no such value';
  return view === 'change' ? 'not measured at step 0' : 'not measured';
}

function metricLabel(metric, view = 'raw') {
  const {name, unit} = metrics[metric];
  const how = {raw: '', change: ', change', excess: ', excess'}[view];
  return name + how + (unit ? ` (${unit})` : '');
}
const valueText = (metric, view, value) =>
    (metrics[metric].share ? (view === 'raw' ? percent(value) : `${format(100 * value, 3)} points`) :
                                               format(value));
