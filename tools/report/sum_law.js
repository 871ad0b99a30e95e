// The law of a sum of products of Gaussian matrices, d x d each: the whole query-key form of mla-decoupled.
// With g = G(z) of the singular values mirrored at 0, h = g^2 and U = z g - 1, a product has U_i = h K_i
// prod(1 + a_j U_i), K_i = variance N1 ... NL, a_j = d / Nj for the sizes within, and the sum U = sum U_i. At
// an eigenvalue z^2, g is followed from z + i infinity, where it is 1 / z, straight down to z; the density is
// -Im U / (pi z^2) per eigenvalue of d.

const complex = (re, im = 0) => ({re, im});
const plus = (a, b) => complex(a.re + b.re, a.im + b.im);
const minus = (a, b) => complex(a.re - b.re, a.im - b.im);
const times = (a, b) => complex(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re);
const sizeOf = (a) => Math.hypot(a.re, a.im);
function over(a, b) {
  const squared = b.re * b.re + b.im * b.im;
  return complex((a.re * b.re + a.im * b.im) / squared, (a.im * b.re - a.re * b.im) / squared);
}

// Newton's method towards the solution {g, u} at z; null when it does not get there.
function solveSum(terms, start, z) {
  let {g, u} = start;
  for (let step = 0; step < 12; ++step) {
    const h = times(g, g);
    let slope = z, residual = u.reduce(minus, minus(times(z, g), complex(1)));
    let size = sizeOf(residual);
    const moves = terms.map(({strength, ratios}, i) => {
      let product = complex(strength), logSlope = complex(0);
      for (const a of ratios) {
        const factor = plus(complex(1), times(complex(a), u[i]));
        product = times(product, factor);
        logSlope = plus(logSlope, over(complex(a), factor));
      }
      const wrong = minus(u[i], times(h, product)),
            own = minus(complex(1), times(times(h, product), logSlope));
      const byG = over(times(complex(2), times(g, product)), own),
            offset = over(minus(complex(0), wrong), own);
      slope = minus(slope, byG);
      residual = minus(residual, offset);
      size += sizeOf(wrong);
      return {offset, byG};
    });
    const move = over(minus(complex(0), residual), slope);
    g = plus(g, move);
    u = u.map((value, i) => plus(value, plus(moves[i].offset, times(moves[i].byG, move))));
    if (!Number.isFinite(sizeOf(g))) return null;
    if (size < 1e-8 && sizeOf(move) < 1e-8 * sizeOf(g)) return {g, u};
  }
  return null;
}

// -Im U at z inside the spectrum; `far` is well above all of it.
function sumAt(terms, z, far) {
  let height = far, ratio = 0.5;
  const g = over(complex(1), complex(z, far)), h = times(g, g);
  let point = solveSum(terms, {g, u: terms.map((term) => times(h, complex(term.strength)))}, complex(z, far));
  while (point && height > 0) {
    const next = height < 1e-9 * z ? 0 : height * ratio;
    const moved = solveSum(terms, point, complex(z, next));
    if (moved && moved.g.im <= 1e-9 * sizeOf(moved.g) &&
        sizeOf(minus(moved.g, point.g)) < 0.7 * sizeOf(point.g)) {
      point = moved;
      height = next;
      ratio = Math.max(0.5, ratio * ratio);
    } else if (ratio > 0.999) {
      return NaN;
    } else {
      ratio = Math.sqrt(ratio);  // a shorter step
    }
  }
  return point ? Math.max(0, -point.u.reduce(plus).im) : NaN;
}

// chains: [{dims, variance}]; the edges as the record has them. In units of the upper one.
function sumLaw(chains, lower, upper) {
  const key = JSON.stringify(chains);
  if (lawCache.has(key)) return lawCache.get(key);
  const d = chains[0].dims[0];
  const count = Math.min(d, chains.reduce((sum, {dims}) => sum + Math.min(...dims), 0));
  const terms = chains.map(({dims, variance}) => ({
                             strength: dims.slice(1).reduce((product, n) => product * n, variance) / upper,
                             ratios: dims.slice(1, -1).map((n) => d / n)
                           }));
  const points = [], kPoints = 240, low = Math.sqrt(lower / upper);
  let cdf = 0;
  for (let i = 0; i <= kPoints; ++i) {
    const z = low + (1 - low) * (1 - Math.cos((Math.PI * i) / kPoints)) / 2, x = z * z;
    const inside = i > 0 && i < kPoints;
    const density = inside ? (sumAt(terms, z, 100) / (Math.PI * x)) * (d / count) : 0;
    const last = points[i - 1];
    // At a lower edge of 0 the density has a pole: the first piece is as long as the second one.
    if (last) cdf += ((density + (i > 1 ? last.density : density)) / 2) * (x - last.x);
    points.push({x, density, cdf});
  }
  points.forEach((point) => {
    point.cdf /= cdf;
  });
  points[0].density = points[1].density;
  // The density ends as (a / pi) sqrt(1 - x), which sets the scatter of the largest eigenvalue.
  const near = points[kPoints - 8];
  const scatter = Math.pow((count * Math.PI * near.density) / Math.sqrt(1 - near.x), -2 / 3);
  const law = {
    count,
    upper: 1,
    lower: lower / upper,
    points,
    tw: {low: 1 + scatter * TW.low, high: 1 + scatter * TW.high}
  };
  lawCache.set(key, law);
  return law;
}

// The null of a record whose law adds up the laws of other matrices of the run, at the same place.
function sumNullOf(grid, step, layer, head, edge) {
  const chains = grid.law.terms.map((term) => {
    const part = grid.siblings.find(
        (g) => g.matrix === term.matrix && g.null === 'product' && g.perHead === grid.perHead);
    return {dims: term.dims, variance: part ? part.get('variance_product', step, layer, head) : NaN};
  });
  const bulk = grid.get('bulk_edge', step, layer, head);
  if (!(bulk > 0) || chains.some((chain) => !(chain.variance >= 0)))
    return {law: null, unit: NaN, edge, bulk: edge, band: null};
  const law = sumLaw(chains, Math.max(0, grid.get('lambda_minus', step, layer, head)), bulk);
  return {law, unit: bulk, edge, bulk, band: [law.tw.low * bulk, law.tw.high * bulk]};
}
