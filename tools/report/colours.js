// Colour scales of maps. All of them are readable with any colour vision: lightness carries the order.
const keptStops = [
  '#67001f', '#b2182b', '#d6604d', '#f4a582', '#fddbc7', '#f7f7f7', '#d1e5f0', '#92c5de', '#4393c3',
  '#2166ac', '#053061'
];
const spikeStops = [
  '#2d004b', '#542788', '#8073ac', '#b2abd2', '#d8daeb', '#f7f7f7', '#fee0b6', '#fdb863', '#e08214',
  '#b35806', '#5f2f04'
];
const amountStops = [
  '#440154', '#482878', '#3e4a89', '#31688e', '#26828e', '#1f9e89', '#35b779', '#6ece58', '#b5de2b', '#fde725'
];
const excessStops =
    ['#053061', '#2166ac', '#4393c3', '#92c5de', '#f7f7f7', '#fdb863', '#e08214', '#b35806', '#7f3b08'];

function mix(stops, t) {
  const at = Math.min(Math.max(t, 0), 1) * (stops.length - 1), i = Math.min(Math.floor(at), stops.length - 2);
  const channel = (c, k) => parseInt(stops[c].slice(1 + 2 * k, 3 + 2 * k), 16);
  return `rgb(${
          [0, 1, 2]
              .map((k) => Math.round(channel(i, k) + (channel(i + 1, k) - channel(i, k)) * (at - i)))
              .join(',')})`;
}
// Colours in 60 steps, so that neighbours that look alike are one rectangle.
const kShades = 60;
const shadeOf = (stops, t) => mix(stops, Math.round(Math.min(Math.max(t, 0), 1) * kShades) / kShades);

// A scale is {colour(value), stops, from, to, place(value) -> 0..1 along the bar, ticks: [[value, text]], note}. `from`
// and `to` are the part of the stops that the bar shows.
function sharpScale(stops, place, ends, ticks, note, text) {
  return {
    stops,
    ends,
    place,
    note,
    colour: (v) => shadeOf(stops, ends[0] + place(v) * (ends[1] - ends[0])),
    ticks: ticks.map((v) => [v, text(v)])
  };
}

// Capacity kept: white at 32 %, blue to 100 %, red to 10 %, or to a lower half decade if more than a twentieth of the
// values is below it.
function keptScale(values) {
  const finite = values.filter((v) => v > 0).sort((a, b) => a - b);
  const low = finite.length ? finite[Math.floor(finite.length / 20)] : 1;
  const floor = [1, 1.5, 2, 2.5, 3].map((p) => 10 ** -p).find((v) => v <= low * 1.001) || 1e-3;
  const middle = 10 ** -0.5, log = Math.log10;
  const ticks = [1, 10 ** -0.5, 0.1, 10 ** -1.5, 0.01, 10 ** -2.5, 0.001].filter((v) => v >= floor * 0.999);
  const t = (v) =>
      (v >= middle ? 0.5 + 0.5 * (log(v) + 0.5) / 0.5 : 0.5 * (1 - log(v / middle) / log(floor / middle)));
  const scale = sharpScale(
      keptStops, (v) => Math.min(1, Math.max(0, t(v))), [0, 1], ticks, 'logarithmic; white at 32 %',
      (v) => `${Number((100 * v).toPrecision(2))}\u00a0%`);
  return scale;
}

// Spike, the largest eigenvalue over the edge: white at 1, brown to the largest value, violet below.
function spikeScale(values) {
  const [low, high] = extent(values.filter((v) => v > 0), [1, 10]);
  const top = Math.max(Math.log10(high), 0.3), bottom = Math.min(Math.log10(low), 0);
  const reach = Math.max(top, -bottom), end = (v) => 0.5 + v / reach / 2;
  const floor = Math.max(bottom, -top / 2);  // a bar with as much violet as there is
  const ends = [end(floor), end(top)];
  const ticks = logTicks(10 ** floor, 10 ** top, 6, 'log');
  if (!ticks.includes(1)) ticks.push(1);
  return sharpScale(
      spikeStops, (v) => Math.min(1, Math.max(0, (Math.log10(v) - floor) / (top - floor))), ends, ticks,
      'logarithmic; white at 1', (v) => (v >= 1000 ? formatCount(v) : format(v, 2)));
}

// Any other metric: viridis for amounts, blue over white to orange for differences.
function amountScale(values, log) {
  const [low, high] = extent(values);
  const logarithmic = log && low > 0 && high / low > 3;
  const place = (v) => (
      high > low ? (logarithmic ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low)) : 0.5);
  const ticks =
      (logarithmic    ? logTicks(low, high, 5, 'log') :
           high > low ? linearTicks(low, high, 4) :
                        [low]);
  return sharpScale(
      amountStops, place, [0, 1], ticks, logarithmic ? 'logarithmic' : 'linear',
      (v) => (Math.abs(v) >= 1e4 ? formatCount(v) : format(v, 3)));
}
function differenceScale(values) {
  const [low, high] = extent(values), most = Math.max(Math.abs(low), Math.abs(high)) || 1;
  return sharpScale(
      excessStops, (v) => v / most / 2 + 0.5, [0, 1], linearTicks(-most, most, 4), 'linear; white at 0',
      (v) => (Math.abs(v) >= 1e4 ? formatCount(v) : format(v, 3)));
}
function scaleOf(metric, view, values) {
  if (view !== 'raw') return differenceScale(values);
  if (metrics[metric].share) return keptScale(values);
  if (metric === 'mp_gap_ratio') return spikeScale(values);
  return amountScale(values, metrics[metric].log);
}

// A vertical bar of a scale: its elements, to be appended to an svg.
function colourBar(scale, x, y, height, label) {
  const id = `ramp${++clipCount}`, width = 11;
  const count = 24, at = (p) => shadeOf(scale.stops, scale.ends[0] + p * (scale.ends[1] - scale.ends[0]));
  const nodes = [
    element(
        'defs', {},
        element(
            'linearGradient', {id, x1: 0, x2: 0, y1: 1, y2: 0},
            ...Array.from(
                {length: count + 1},
                (_, i) => element('stop', {offset: i / count, 'stop-color': at(i / count)})))),
    element('rect', {x, y, width, height, fill: `url(#${id})`, class: 'frame-only'}),
  ];
  for (const [value, text] of scale.ticks) {
    const at = y + height * (1 - scale.place(value));
    nodes.push(
        element('line', {class: 'tick-mark', x1: x + width, x2: x + width + 3, y1: at, y2: at}),
        element('text', {class: 'small', x: x + width + 6, y: at + 4}, text));
  }
  if (label) nodes.push(element('text', {class: 'small', x, y: y - 7}, label));
  return nodes;
}
