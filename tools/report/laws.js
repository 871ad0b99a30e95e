// The laws of the nulls: curves that `pastur report` computed, in units of the upper edge of their bulk.
// `band` holds the 1 % and 99 % quantiles of the largest eigenvalue.
const laws = payload.laws.map(({count, lower, band, points}) => {
  const values = floats(points), n = values.length / 3;
  return {
    count,
    lower,
    band,
    points:
        Array.from({length: n}, (_, i) => ({x: values[i], density: values[n + i], cdf: values[2 * n + i]}))
  };
});

// The law of a record's null; undefined where there is none.
function lawOf(grid, step, layer, head) {
  const byRecord = grid.lawByRecord;
  return laws[byRecord === undefined ? grid.law : Math.round(grid.at(numbers(byRecord, grid.size), step, layer, head))];
}

// The law's p-quantile, linear between the points of its curve.
function quantile(law, p) {
  const points = law.points;
  let low = 0, high = points.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle].cdf < p)
      low = middle;
    else
      high = middle;
  }
  const a = points[low], b = points[high];
  const t = b.cdf > a.cdf ? Math.min(1, Math.max(0, (p - a.cdf) / (b.cdf - a.cdf))) : 0;
  return a.x + t * (b.x - a.x);
}

// The law's distribution function, linear between the points of its curve.
function cumulative(law, x) {
  const points = law.points;
  if (x <= points[0].x) return x < law.lower ? 0 : points[0].cdf * Math.min(1, x / points[0].x);
  if (x >= 1) return 1;
  let low = 0, high = points.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle].x < x)
      low = middle;
    else
      high = middle;
  }
  const a = points[low], b = points[high];
  return b.x > a.x ? a.cdf + ((b.cdf - a.cdf) * (x - a.x)) / (b.x - a.x) : b.cdf;
}

// The null of a record in units of eigenvalues: {law, unit, edge, bulk, band}, where `unit` scales the law's
// curve. `law` is null where the null has no law, as permuted and profile; null without a grid.
function nullOf(grid, step, layer, head) {
  if (!grid) return null;
  const edge = grid.get('lambda_plus', step, layer, head);
  const bulk = grid.get('bulk_edge', step, layer, head);
  const law = lawOf(grid, step, layer, head);
  if (!law || !(bulk > 0)) return {law: null, unit: NaN, edge, bulk: edge, band: null};
  return {law, unit: bulk, edge, bulk, band: law.band.map((x) => x * bulk)};
}

// The spectrum that n eigenvalues of pure noise have on average: the law's quantiles, descending, in units of
// the law.
function noiseSpectrum(law, n) {
  const key = `noise ${n}`;
  if (!law[key]) law[key] = Array.from({length: n}, (_, i) => quantile(law, (n - i - 0.5) / n));
  return law[key];
}
