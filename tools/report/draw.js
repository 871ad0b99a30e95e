// Drawing without a library: elements, number formats, scales with ticks.
const kSvg = document.getElementById('svg-names').namespaceURI;
const svgTags = new Set([
  'svg', 'g', 'path', 'line', 'rect', 'circle', 'text', 'title', 'desc', 'defs', 'clipPath', 'linearGradient',
  'stop', 'tspan'
]);

// Makes an HTML element: element('p', {class: 'x', onclick: f}, 'text', child...).
function element(tag, attributes = {}, ...children) {
  const node = svgTags.has(tag) ? document.createElementNS(kSvg, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on'))
      node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false)
      node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
const byId = (id) => document.getElementById(id);

// Formats four significant digits, as a power of ten where that is shorter.
function format(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3)
    return value.toExponential(Math.min(2, digits - 1)).replace(/\.?0+e/, 'e').replace('e+', 'e');
  return String(Number(value.toPrecision(digits)));
}
// Formats 131072 as "131k", for axes and tables of counts.
function formatCount(value) {
  if (!Number.isFinite(value)) return '–';
  for (const [size, unit] of [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']])
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3))}${unit}`;
  return String(Number(value.toPrecision(3)));
}

// Returns {to(value) -> pixel, ticks: [{value, text}]}. Kinds are linear, log and log1p, which is ln(1 + v /
// unit), for axes that begin at step 0.
function makeScale(kind, [low, high], [from, to], wantedTicks, unit = 1, textOf = null) {
  const forward = {linear: (v) => v, log: (v) => Math.log(v), log1p: (v) => Math.log1p(v / unit)}[kind];
  if (!(high > low)) {
    const pad = Math.abs(low) * 0.05 || 1;
    low = kind === 'linear' ? low - pad : low / 1.05;
    high += pad;
  }
  const a = forward(low), b = forward(high);
  const position = (value) => from + ((forward(value) - a) / (b - a)) * (to - from);
  const values =
      kind === 'linear' ? linearTicks(low, high, wantedTicks) : logTicks(low, high, wantedTicks, kind, unit);
  const step = values.length > 1 ? Math.abs(values[1] - values[0]) : 1;
  const text = (v) =>
      (Math.abs(v) >= 1e4 ? formatCount(v) :
           kind === 'linear' && step < 1 && Math.abs(v) >= 1e-3 ?
                            v.toFixed(Math.max(0, Math.min(6, Math.ceil(-Math.log10(step) - 1e-9)))) :
                            format(v, 3));
  return {
    to: position,
    domain: [low, high],
    kind,
    ticks: values.map((value) => ({value, text: (textOf || text)(value)}))
  };
}
function linearTicks(low, high, wanted) {
  const raw = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999) || 10 * power;
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) ticks.push(i * step);
  return ticks;
}
// Decades where the axis spans more than two of them, else 1 and 3, or 1, 2 and 5 in each.
function logTicks(low, high, wanted, kind, unit) {
  const from = kind === 'log1p' ? Math.max(low, unit) : Math.max(low, 1e-300), span = Math.log10(high / from);
  const begin = Math.floor(Math.log10(from)), end = Math.ceil(Math.log10(high));
  const every = Math.max(1, Math.ceil(span / wanted));
  const between = kind === 'log' && span > 2 ? [1] : span > 1.3 ? [1, 3] : [1, 2, 5];
  const ticks = kind === 'log1p' && low <= 0 ? [0] : [];
  for (let power = begin; power <= end; power += every)
    for (const m of every > 1 ? [1] : between) {
      const value = Number(`${m}e${power}`);
      if (value >= from * (1 - 1e-9) && value <= high * (1 + 1e-9)) ticks.push(value);
    }
  return ticks.length > 1 ? ticks : linearTicks(low, high, Math.min(wanted, 4));
}
function extent(values, fallback = [0, 1]) {
  let low = Infinity, high = -Infinity;
  for (const value of values)
    if (Number.isFinite(value)) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  return low <= high ? [low, high] : fallback;
}

// Formats a share as a percentage with two digits: 0.068 as "6.8 %".
const percent = (share) =>
    (Number.isFinite(share) ? `${
                                  Number((100 * share)
                                             .toPrecision(
                                                 share < 0.1       ? 2 :
                                                     share < 0.995 ? 2 :
                                                                     3))}\u00a0%` :
                              '–');
// Formats a ratio with two or three digits: 0.93, 4.7, 51, 380, "2.3k".
const ratioText = (value) =>
    (!Number.isFinite(value)     ? '–' :
         Math.abs(value) >= 1000 ? formatCount(Number(value.toPrecision(2))) :
                                   String(Number(value.toPrecision(2))));
