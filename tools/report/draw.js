// Drawing without a library: elements, number formats, scales with ticks, SVG plots, figures with their CSV.
const kSvg = document.getElementById('svg-names').namespaceURI;
const svgTags = new Set([
  'svg', 'g', 'path', 'line', 'rect', 'circle', 'text', 'title', 'desc', 'defs', 'clipPath', 'linearGradient',
  'stop'
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
function makeScale(kind, [low, high], [from, to], wantedTicks, unit = 1) {
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
    ticks: values.map((value) => ({value, text: text(value)}))
  };
}
function linearTicks(low, high, wanted) {
  const raw = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999) || 10 * power;
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) ticks.push(i * step);
  return ticks;
}
function logTicks(low, high, wanted, kind, unit) {
  const begin = Math.floor(Math.log10(Math.max(low, kind === 'log1p' ? unit : 1e-300))),
        end = Math.ceil(Math.log10(high));
  const every = Math.max(1, Math.ceil((end - begin) / wanted));
  const steps = end - begin <= wanted / 3 ? [1, 2, 5] : end - begin <= wanted / 2 ? [1, 3] : [1];
  const ticks = kind === 'log1p' && low <= 0 ? [0] : [];
  for (let power = begin; power <= end; power += every)
    for (const m of every > 1 ? [1] : steps) {
      const value = Number(`${m}e${power}`);
      if (value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9)) ticks.push(value);
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

let clipCount = 0;
// A plot of the width of `host`. x and y: {kind, domain, label}.
class Plot {
  constructor(host, {height = 260, x, y, label, margin = {}}) {
    this.width = Math.max(260, Math.round(host.clientWidth || 640));
    this.height = height;
    this.box = {left: 56, right: 14, top: 12, bottom: 44, ...margin};
    const {left, right, top, bottom} = this.box;
    this.svg = element('svg', {
      class: 'plot',
      viewBox: `0 0 ${this.width} ${height}`,
      role: 'img',
      'aria-label': label,
      tabindex: 0
    });
    this.x = makeScale(
        x.kind || 'linear', x.domain, [left, this.width - right],
        Math.max(3, Math.round((this.width - left - right) / 85)), x.unit);
    this.y = makeScale(
        y.kind || 'linear', y.domain, [height - bottom, top],
        Math.max(3, Math.round((height - top - bottom) / 34)));
    const clip = `clip${++clipCount}`;
    this.svg.append(element('defs', {}, element('clipPath', {id: clip}, element('rect', {
                                                  x: left,
                                                  y: top - 1,
                                                  width: this.width - left - right,
                                                  height: height - top - bottom + 2
                                                }))));
    this.axes(x.label, y.label);
    this.marks = element('g', {'clip-path': `url(#${clip})`});
    this.over = element('g');
    this.svg.append(this.marks, this.over);
    host.append(this.svg);
  }
  axes(xLabel, yLabel) {
    const {left, right, top, bottom} = this.box, foot = this.height - bottom, end = this.width - right;
    const grid = element('g', {class: 'tick'});
    let clear = -Infinity;
    for (const {value, text} of this.x.ticks) {
      const at = this.x.to(value);
      grid.append(element('line', {x1: at, x2: at, y1: top, y2: foot}));
      const half = text.length * 3.6;
      if (at - half < clear) continue;  // its number would touch the previous one
      clear = at + half + 6;
      grid.append(element('text', {x: at, y: foot + 16, 'text-anchor': 'middle'}, text));
    }
    for (const {value, text} of this.y.ticks) {
      const at = this.y.to(value);
      grid.append(
          element('line', {x1: left, x2: end, y1: at, y2: at}),
          element('text', {x: left - 6, y: at + 4, 'text-anchor': 'end'}, text));
    }
    this.svg.append(
        grid, element('rect', {class: 'frame', x: left, y: top, width: end - left, height: foot - top}),
        element(
            'text', {class: 'axis-label', x: (left + end) / 2, y: this.height - 8, 'text-anchor': 'middle'},
            xLabel),
        element(
            'text', {
              class: 'axis-label',
              x: 0,
              y: 0,
              transform: `translate(12 ${(top + foot) / 2}) rotate(-90)`,
              'text-anchor': 'middle'
            },
            yLabel));
  }
  // points: [x, y] pairs; a point that cannot be drawn breaks the line.
  line(points, attributes) {
    let path = '', pen = false;
    for (const [px, py] of points) {
      const x = this.x.to(px), y = this.y.to(py);
      const drawn = Number.isFinite(x) && Number.isFinite(y);
      if (drawn) path += `${pen ? 'L' : 'M'}${x.toFixed(1)} ${Math.max(-999, Math.min(9999, y)).toFixed(1)}`;
      pen = drawn;
    }
    this.marks.append(element('path', {d: path, fill: 'none', ...attributes}));
  }
  dot(x, y, attributes, size = 3.2) {
    const cx = this.x.to(x), cy = this.y.to(y);
    if (Number.isFinite(cx) && Number.isFinite(cy))
      this.marks.append(element('circle', {cx, cy, r: size, ...attributes}));
  }
  bar(x0, x1, y, attributes) {
    const a = this.x.to(x0), b = this.x.to(x1), foot = this.height - this.box.bottom,
          top = Math.max(this.box.top - 2, this.y.to(y));
    if (y > 0 && Number.isFinite(top) && b > a)
      this.marks.append(
          element('rect', {x: a, width: b - a, y: top, height: Math.max(0, foot - top), ...attributes}));
  }
  band(x0, x1, attributes) {
    const a = this.x.to(x0), b = this.x.to(x1), {top, bottom} = this.box;
    if (Number.isFinite(a) && Number.isFinite(b))
      this.marks.append(element(
          'rect',
          {x: a, width: Math.max(1, b - a), y: top, height: this.height - top - bottom, ...attributes}));
  }
  vertical(x, attributes) {
    const at = this.x.to(x);
    if (Number.isFinite(at))
      this.marks.append(element(
          'line', {x1: at, x2: at, y1: this.box.top, y2: this.height - this.box.bottom, ...attributes}));
  }
  horizontal(y, attributes) {
    const at = this.y.to(y);
    this.marks.append(
        element('line', {x1: this.box.left, x2: this.width - this.box.right, y1: at, y2: at, ...attributes}));
  }
  note(x, y, text) { this.over.append(element('text', {x, y, 'text-anchor': 'end'}, text)); }
  // Marks an event at x: a triangle above y that points up for a spike, below y and down for a collapse.
  triangle(x, y, up, attributes, title) {
    const cx = this.x.to(x),
          cy = Math.max(
              this.box.top + 6, Math.min(this.height - this.box.bottom - 6, this.y.to(y) + (up ? -8 : 8)));
    if (!Number.isFinite(cx) || !Number.isFinite(cy)) return;
    const s = up ? -6 : 6;
    this.over.append(element(
        'path', {d: `M${cx - 6} ${cy - s}L${cx + 6} ${cy - s}L${cx} ${cy + s}Z`, ...attributes},
        element('title', {}, title)));
  }
  // Adds a cursor on the ascending values `xs`, which the pointer and the arrow keys move. The text `say(x)`
  // is written to `output`.
  cursor(xs, say, output, choose) {
    if (xs.length === 0) return;
    const line = element(
        'line', {class: 'cursor', y1: this.box.top, y2: this.height - this.box.bottom, visibility: 'hidden'});
    this.over.append(line);
    let at = -1;
    const show = (index) => {
      at = Math.max(0, Math.min(xs.length - 1, index));
      const x = this.x.to(xs[at]);
      line.setAttribute('x1', x);
      line.setAttribute('x2', x);
      line.setAttribute('visibility', 'visible');
      output.textContent = say(xs[at]);
    };
    this.svg.addEventListener('pointermove', (event) => {
      const box = this.svg.getBoundingClientRect(), x = ((event.clientX - box.left) / box.width) * this.width;
      let best = 0;
      xs.forEach((value, i) => {
        if (Math.abs(this.x.to(value) - x) < Math.abs(this.x.to(xs[best]) - x)) best = i;
      });
      show(best);
    });
    this.svg.addEventListener('keydown', (event) => {
      const move = {ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e9, End: 1e9}[event.key];
      if (move !== undefined) {
        show(at < 0 ? (move < 0 ? xs.length - 1 : 0) : at + move);
        event.preventDefault();
      }
      if (event.key === 'Enter' && at >= 0 && choose) choose(xs[at]);
    });
    if (choose)
      this.svg.addEventListener('click', () => {
        if (at >= 0) choose(xs[at]);
      });
  }
}

// One figure of the page: a title, controls, the body that draw() fills, a readout and the CSV of its data.
// draw(body, output) returns {header: [...], rows: [[...]], caption}.
const figures = [];
class Figure {
  constructor(section, id, title, draw) {
    this.id = id;
    this.paint = draw;
    this.title = element('h3', {id: `t-${id}`}, title);
    this.controls = element('div', {class: 'controls'});
    this.body = element('div', {class: 'body'});
    this.caption = element('p', {class: 'caption'});
    this.output = element('output', {'aria-live': 'polite'});
    const csv = element(
        'button', {
          type: 'button',
          'aria-label': `Download the numbers of "${title}" as CSV`,
          onclick: () => this.download()
        },
        'CSV');
    this.node = element(
        'figure', {id: `f-${id}`, 'aria-labelledby': `t-${id}`}, element('figcaption', {}, this.title, csv),
        this.controls, this.caption, this.body, this.output);
    section.append(this.node);
    figures.push(this);
  }
  draw() {
    this.body.replaceChildren();
    this.output.textContent = '';
    this.table = this.paint(this.body, this.output) || {header: [], rows: []};
    this.caption.textContent = this.table.caption || '';
  }
  csv() {
    const cell = (v) =>
        (v === null || v === undefined || Number.isNaN(v) ? '' :
             /[",\n]/.test(String(v))                     ? `"${String(v).replace(/"/g, '""')}"` :
                                                            String(v));
    return [this.table.header, ...this.table.rows].map((row) => row.map(cell).join(',')).join('\n') + '\n';
  }
  download() {
    const url = URL.createObjectURL(new Blob([this.csv()], {type: 'text/csv'}));
    element('a', {href: url, download: `pastur-${this.id}.csv`}).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }
}

// Makes one titled panel per plot, side by side. All panels are made before the first plot is drawn, because
// each panel makes the others narrower.
function makePanels(body, titles) {
  const hosts = titles.map((title) => element('div', {}, element('div', {class: 'panel-title'}, ...title)));
  body.append(element('div', {class: 'panels'}, ...hosts));
  return hosts;
}
const runTitle =
    (run, text = run.name) => [element('span', {class: `swatch ${run.series}`, 'aria-hidden': 'true'}), text];
// Makes one panel per run; its title says so if the run is drawn against another null than the chosen one.
function makeRunPanels(body, perHead) {
  const title = (run) => run.name + insteadOfChosen(nearestGridOf(run, state.matrix, state.null, perHead));
  return makePanels(body, runs.map((run) => runTitle(run, title(run))));
}

// The legend: runs with their colours and, if the figure uses them, dashes.
function legend(shown = runs, dashed = true) {
  return element(
      'ul', {class: 'legend', 'aria-label': 'Runs'},
      ...shown.map(
          (run) => element(
              'li', {},
              element(
                  'svg', {width: 30, height: 10, 'aria-hidden': 'true', class: run.series}, element('line', {
                    class: 'line stroke',
                    x1: 1,
                    x2: 29,
                    y1: 5,
                    y2: 5,
                    'stroke-dasharray': dashed ? run.dash : null
                  })),
              run.name)));
}
