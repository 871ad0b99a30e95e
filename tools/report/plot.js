// Plots with axes as SVG, and the markers of groups.
let clipCount = 0;

// The outline of a marker of about `size` pixels around (x, y).
function markerPath(kind, x, y, size) {
  const s = size, t = size * 0.42;
  const polygon = (points) =>
      `M${points.map(([a, b]) => `${(x + a).toFixed(1)} ${(y + b).toFixed(1)}`).join('L')}Z`;
  return {
    circle: `M${x - s} ${y}a${s} ${s} 0 1 0 ${2 * s} 0a${s} ${s} 0 1 0 ${- 2 * s} 0Z`,
    square: polygon([[-s, -s], [s, -s], [s, s], [-s, s]]),
    triangle: polygon([[0, -s * 1.2], [s * 1.1, s * 0.9], [-s * 1.1, s * 0.9]]),
    down: polygon([[0, s * 1.2], [s * 1.1, -s * 0.9], [-s * 1.1, -s * 0.9]]),
    diamond: polygon([[0, -s * 1.3], [s * 1.3, 0], [0, s * 1.3], [-s * 1.3, 0]]),
    plus: polygon([
      [-t, -s * 1.2], [t, -s * 1.2], [t, -t], [s * 1.2, -t], [s * 1.2, t], [t, t], [t, s * 1.2],
      [-t, s * 1.2], [-t, t], [-s * 1.2, t], [-s * 1.2, -t], [-t, -t]
    ]),
    cross: polygon([
      [-s, -s * 0.5], [-s * 0.5, -s], [0, -s * 0.5], [s * 0.5, -s], [s, -s * 0.5], [s * 0.5, 0], [s, s * 0.5],
      [s * 0.5, s], [0, s * 0.5], [-s * 0.5, s], [-s, s * 0.5], [-s * 0.5, 0]
    ]),
  }[kind];
}

// A plot of the width of `host`. x and y: {kind, domain, label}.
class Plot {
  constructor(host, {height = 260, x, y, label, title = '', margin = {}}) {
    this.width = Math.max(260, Math.round(host.clientWidth || 640));
    this.height = height;
    this.box = {left: 56, right: 14, top: title ? 26 : 12, bottom: 44, ...margin};
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
        Math.max(3, Math.round((this.width - left - right) / 85)), x.unit, x.text);
    this.y = makeScale(
        y.kind || 'linear', y.domain, [height - bottom, top],
        Math.max(3, Math.round((height - top - bottom) / 34)), y.unit, y.text);
    for (const [scale, own] of [[this.x, x], [this.y, y]])  // an axis may go on beyond its last number
      if (own.until !== undefined) scale.ticks = scale.ticks.filter((tick) => tick.value <= own.until);
    const clip = `clip${++clipCount}`;
    this.svg.append(element('defs', {}, element('clipPath', {id: clip}, element('rect', {
                                                  x: left,
                                                  y: top - 1,
                                                  width: this.width - left - right,
                                                  height: height - top - bottom + 2
                                                }))));
    this.axes(x.label, y.label);
    if (title) this.svg.append(element('text', {class: 'panel-title', x: left, y: 14}, title));
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
  // Fills between two curves over the same x.
  area(low, high, attributes) {
    const place = ([px, py]) => [this.x.to(px), this.y.to(py)];
    const both = [...high.map(place), ...low.map(place).reverse()].filter((p) => p.every(Number.isFinite));
    if (both.length > 2)
      this.marks.append(element(
          'path',
          {d: `M${both.map((p) => p.map((v) => v.toFixed(1)).join(' ')).join('L')}Z`, ...attributes}));
  }
  marker(kind, x, y, size, attributes, title) {
    const cx = this.x.to(x), cy = this.y.to(y);
    if (!Number.isFinite(cx) || !Number.isFinite(cy)) return;
    this.over.append(element(
        'path', {d: markerPath(kind, cx, cy, size), ...attributes},
        title ? element('title', {}, title) : null));
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
  bandAcross(y0, y1, attributes) {
    const a = this.y.to(y0), b = this.y.to(y1), {left, right} = this.box;
    this.marks.append(element('rect', {
      x: left,
      y: Math.min(a, b),
      width: this.width - left - right,
      height: Math.abs(b - a),
      ...attributes
    }));
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
  note(x, y, text) { this.over.append(element('text', {class: 'note', x, y, 'text-anchor': 'end'}, text)); }
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
