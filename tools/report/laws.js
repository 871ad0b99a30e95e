// The nulls as functions. Chain N0 x ... x NL of independent Gaussian factors, Nb the smallest size, cj = Nb
// / Nj for the others: with u = rho e^(-i phi), arg(1 + u) + sum arg(1 + cj u) = -phi fixes rho for every phi
// in (0, pi); then x = |1 + u| prod |1 + cj u| / rho falls from x_+ to x_-, its density is rho sin(phi) / (pi
// x) and 1 - F = (phi + sum(Im u - (1 - cj) / cj arg(1 + cj u))) / pi. An eigenvalue is (prod variances)(prod
// Nj, j != b) x.

// Quantiles of the Tracy-Widom law of real matrices: 1 %, 50 %, 99 %.
const TW = {
  low: -3.8954,
  median: -1.2686,
  high: 2.0234
};

const lawCache = new Map();
function productLaw(dims) {
  const key = dims.join('.');
  if (!lawCache.has(key)) lawCache.set(key, makeProductLaw(dims));
  return lawCache.get(key);
}

function makeProductLaw(dims) {
  const count = Math.min(...dims), b = dims.indexOf(count);
  const others = dims.filter((_, i) => i !== b);
  const c = others.map((n) => count / n);
  const upper = upperEdge(c);
  // phi grows from the upper edge (x falls); points crowd at both ends, where the density has its roots and
  // poles.
  const points = [];
  const kPoints = 600;
  for (let i = 1; i < kPoints; ++i) {
    const phi = Math.PI * (1 - Math.cos((Math.PI * i) / kPoints)) / 2;
    points.push(pointAt(phi, c));
  }
  points.reverse();  // x ascending
  const twWidth = Math.pow(count * upper.a, -2 / 3);
  return {
    count,
    dims,
    scale: others.reduce((product, n) => product * n, 1),
    upper: upper.x,
    lower: points[0].x < 1e-3 ? 0 : points[0].x,
    points,
    tw: {low: upper.x + twWidth * TW.low, high: upper.x + twWidth * TW.high},
    spikeThreshold: 1 + 1 / upper.u,
  };
}

// Bisects 1/(1+u) - 1/u + sum cj/(1 + cj u) = 0; a = sqrt(2 / x'') / x_+ sets the scatter of the largest
// eigenvalue.
function upperEdge(c) {
  const slope = (u) => 1 / (1 + u) - 1 / u + c.reduce((sum, cj) => sum + cj / (1 + cj * u), 0);
  let low = 1e-9, high = 1e9;
  for (let i = 0; i < 200; ++i) {
    const middle = Math.sqrt(low * high);
    if (slope(middle) < 0)
      low = middle;
    else
      high = middle;
  }
  const u = low;
  const x = c.reduce((product, cj) => product * (1 + cj * u), (1 + u) / u);
  // At the edge x' = 0, so that x'' = x (ln x)''.
  const curvature = 1 / (u * u) - 1 / (1 + u) ** 2 - c.reduce((sum, cj) => sum + (cj / (1 + cj * u)) ** 2, 0);
  return {u, x, a: Math.sqrt(2 / (x * curvature)) / x};
}

function pointAt(phi, c) {
  const cos = Math.cos(phi), sin = Math.sin(phi);
  const arg = (k, rho) => Math.atan2(-k * rho * sin, 1 + k * rho * cos);  // of 1 + k u
  let low = 1e-14, high = 1e14;
  for (let i = 0; i < 100; ++i) {
    const rho = Math.sqrt(low * high);
    const total = c.reduce((sum, cj) => sum + arg(cj, rho), arg(1, rho));
    if (total > -phi)
      low = rho;
    else
      high = rho;
  }
  const rho = Math.sqrt(low * high);
  const size = (k) => Math.hypot(1 + k * rho * cos, k * rho * sin);
  const x = c.reduce((product, cj) => product * size(cj), size(1)) / rho;
  const tail = c.reduce((sum, cj) => sum - rho * sin - ((1 - cj) / cj) * arg(cj, rho), phi) / Math.PI;
  return {x, density: (rho * sin) / (Math.PI * x), cdf: Math.min(1, Math.max(0, 1 - tail))};
}

// Marchenko-Pastur of ratio beta <= 1 in units where the entries' variance is 1 and the mean of x is 1.
function marchenkoPastur(beta) {
  const key = `mp ${beta}`;
  if (lawCache.has(key)) return lawCache.get(key);
  const lower = (1 - Math.sqrt(beta)) ** 2, upper = (1 + Math.sqrt(beta)) ** 2;
  const points = [];
  const kPoints = 1200, dt = Math.PI / kPoints, half = (upper - lower) / 2;
  // x = middle - half cos t takes the square roots of both edges out of the sum for the CDF.
  const at = (t) => {
    const x = Math.max((lower + upper) / 2 - half * Math.cos(t), 1e-9);
    return {x, density: Math.sqrt(Math.max(0, (upper - x) * (x - lower))) / (2 * Math.PI * beta * x)};
  };
  let cdf = 0;
  for (let i = 0; i <= kPoints; ++i) {
    if (i > 0) cdf += at((i - 0.5) * dt).density * half * Math.sin((i - 0.5) * dt) * dt;
    points.push({...at(i * dt), cdf: Math.min(1, cdf)});
  }
  const law = {lower, upper, points};
  lawCache.set(key, law);
  return law;
}

// The law's p-quantile.
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

// What the null of a record looks like in eigenvalue units: {points: [{x, density, cdf}], edge, band, unit},
// or null where the record has no law (the permuted null). `grid` holds the record at step, layer, head.
function nullOf(grid, step, layer, head) {
  if (!grid) return null;
  const edge = grid.get('lambda_plus', step, layer, head);
  const law = grid.null === 'permuted' ? {} : grid.law;
  if (Array.isArray(law.terms)) return sumNullOf(grid, step, layer, head, edge);
  if (Array.isArray(law.dims) && law.dims.length > 1 && grid.has('variance_product')) {
    const product = productLaw(law.dims);
    const unit = product.scale * grid.get('variance_product', step, layer, head);
    return {
      law: product,
      unit,
      edge,
      bulk: product.upper * unit,
      band: [product.tw.low * unit, product.tw.high * unit]
    };
  }
  if (law.rows > 0 && law.cols > 0) {
    const beta = Math.min(law.rows, law.cols) / Math.max(law.rows, law.cols);
    const mp = marchenkoPastur(beta);
    const bulk = grid.has('bulk_edge') ? grid.get('bulk_edge', step, layer, head) : edge;
    const n = Math.min(law.rows, law.cols), p = Math.max(law.rows, law.cols);
    // Johnstone: the scatter of the largest eigenvalue of a real Wishart matrix.
    const root = Math.sqrt(p) + Math.sqrt(n);
    const spread = (root * Math.cbrt(1 / Math.sqrt(p) + 1 / Math.sqrt(n))) / (root * root);
    return {
      law: mp,
      unit: bulk / mp.upper,
      edge,
      bulk,
      band: [bulk * (1 + spread * TW.low), bulk * (1 + spread * TW.high)]
    };
  }
  return {law: null, unit: NaN, edge, bulk: edge, band: null};
}

// The spectrum that n eigenvalues of pure noise have on average: the law's quantiles, falling, in units of
// the law.
function noiseSpectrum(law, n) {
  const key = `noise ${n}`;
  if (!law[key]) law[key] = Array.from({length: n}, (_, i) => quantile(law, (n - i - 0.5) / n));
  return law[key];
}
