// Figures: a title, controls, a body that draw() fills, a readout, and their downloads as CSV, SVG and PNG.
const figures = [];
function save(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], {type}));
  element('a', {href: url, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// The properties of a drawing that its file states by itself, since the page's style is not in it.
const kInlined = [
  'fill', 'fill-opacity', 'stroke', 'stroke-width', 'stroke-dasharray', 'stroke-linejoin', 'opacity',
  'visibility', 'font-size', 'font-weight', 'font-family', 'text-anchor', 'shape-rendering', 'paint-order'
];
const kDefaults = {
  'fill-opacity': '1',
  'stroke': 'none',
  'stroke-width': '1px',
  'stroke-dasharray': 'none',
  'stroke-linejoin': 'miter',
  'opacity': '1',
  'visibility': 'visible',
  'font-weight': '400',
  'text-anchor': 'start',
  'shape-rendering': 'auto',
  'paint-order': 'normal'
};
function inlined(node) {
  const copy = node.cloneNode(false);
  const style = getComputedStyle(node);
  copy.removeAttribute('class');
  copy.removeAttribute('style');
  copy.removeAttribute('tabindex');
  if (node.tagName !== 'svg')
    for (const name of kInlined) {
      const value = style.getPropertyValue(name), text = ['text', 'tspan'].includes(node.tagName);
      if ((name.startsWith('font') || name === 'text-anchor') && !text) continue;
      if (value && value !== kDefaults[name]) copy.setAttribute(name, value);
    }
  for (const child of node.childNodes) copy.append(child.nodeType === 1 ? inlined(child) : child.cloneNode());
  return copy;
}

// draw(body, output) returns {header: [...], rows: [[...]], caption}.
class Figure {
  constructor(section, id, title, draw, {height = 320} = {}) {
    this.id = id;
    this.paint = draw;
    this.drawn = false;
    this.title = element('h3', {id: `t-${id}`}, title);
    this.controls = element('div', {class: 'controls'});
    this.body = element('div', {class: 'body', style: `min-height:${height}px`});
    this.caption = element('p', {class: 'caption'});
    this.output = element('output', {'aria-live': 'polite'});
    const button = (kind, what, action) => element(
        'button',
        {type: 'button', class: 'save', 'aria-label': `Download "${title}" as ${what}`, onclick: action},
        kind);
    this.csvButton =
        button('CSV', 'a table of its numbers, CSV', () => save(`pastur-${id}.csv`, 'text/csv', this.csv()));
    this.svgButton =
        button('SVG', 'a drawing, SVG', () => save(`pastur-${id}.svg`, 'image/svg+xml', this.svg()));
    this.pngButton = button(
        'PNG', 'a picture, PNG',
        () => this.png().then((blob) => save(`pastur-${id}.png`, 'image/png', blob)));
    this.saves = element('span', {class: 'saves'}, this.csvButton, this.svgButton, this.pngButton);
    this.node = element(
        'figure', {id: `f-${id}`, 'aria-labelledby': `t-${id}`},
        element('figcaption', {}, this.title, this.saves), this.controls, this.body, this.caption,
        this.output);
    section.append(this.node);
    figures.push(this);
  }
  draw() {
    this.drawn = true;
    this.body.replaceChildren();
    this.output.textContent = '';
    this.table = this.paint(this.body, this.output) || {header: [], rows: []};
    this.caption.textContent = this.table.caption || '';
    this.body.style.minHeight = '';
    this.svgButton.hidden = this.pngButton.hidden = this.drawings().length === 0;
    this.csvButton.hidden = this.table.rows.length === 0;
  }
  csv() {
    const cell = (v) =>
        (v === null || v === undefined || Number.isNaN(v) ? '' :
             /[",\n]/.test(String(v))                     ? `"${String(v).replace(/"/g, '""')}"` :
                                                            String(v));
    return [this.table.header, ...this.table.rows].map((row) => row.map(cell).join(',')).join('\n') + '\n';
  }
  // The plots and tables that the figure shows.
  drawings() {
    return [...this.body.querySelectorAll('svg.plot, table')].filter(
        (part) => part.getClientRects().length > 0);
  }
  // These as they stand on the page, tables in full, with the legend below the plots, as one drawing.
  svg() {
    const box = this.body.getBoundingClientRect(), plots = this.drawings();
    const sides = plots.map((plot) => plot.getBoundingClientRect());
    const width = Math.ceil(Math.max(box.width, ...sides.map((side) => side.right - box.left)));
    const used = shownGroups(),
          legendTop = Math.ceil(Math.max(box.height, ...sides.map((side) => side.bottom - box.top))) + 18;
    const drawing = element('svg', {width, 'font-family': getComputedStyle(document.body).fontFamily});
    const parts = plots.map((plot) => {
      const own = plot.getBoundingClientRect(),
            part = plot.tagName === 'TABLE' ? tableDrawing(plot) : inlined(plot);
      part.setAttribute('x', (own.left - box.left).toFixed(1));
      part.setAttribute('y', (own.top - box.top).toFixed(1));
      part.setAttribute('width', own.width.toFixed(1));
      part.setAttribute('height', own.height.toFixed(1));
      return part;
    });
    let x = 10, y = legendTop;
    const paint = getComputedStyle(document.documentElement);
    for (const group of this.table.legend === false || plots.every((plot) => plot.tagName === 'TABLE') ?
             [] :
             used) {
      const length = 40 + group.label.length * 7;
      if (x > 10 && x + length > width) [x, y] = [10, y + 18];
      const colour = paint.getPropertyValue(`--${group.series}`).trim();
      parts.push(
          element('line', {
            x1: x,
            x2: x + 26,
            y1: y - 4,
            y2: y - 4,
            'stroke': colour,
            'stroke-width': 2,
            'stroke-dasharray': group.dash || null
          }),
          element(
              'text', {x: x + 31, y, 'font-size': 12, fill: paint.getPropertyValue('--ink').trim()},
              group.label));
      x += length;
    }
    const height = y + 12;
    drawing.setAttribute('height', height);
    drawing.setAttribute('viewBox', `0 0 ${width} ${height}`);
    drawing.append(
        element('title', {}, this.title.textContent),
        element('rect', {width, height, fill: paint.getPropertyValue('--paper').trim()}), ...parts);
    return new XMLSerializer().serializeToString(drawing);
  }
  png() {
    return new Promise((resolve, reject) => {
      const picture = new Image();
      picture.onerror = () => reject(new Error(`${this.id}: the drawing is not a picture`));
      picture.onload = () => {
        const canvas = element('canvas', {width: picture.width * 2, height: picture.height * 2});
        canvas.getContext('2d').drawImage(picture, 0, 0, canvas.width, canvas.height);
        canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error(`${this.id}: no PNG`))));
      };
      picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(this.svg())}`;
    });
  }
}

// Makes one panel per plot, side by side. All panels are made before the first plot is drawn, because each panel makes
// the others narrower.
function makePanels(body, count, cls = '') {
  const hosts = Array.from({length: count}, () => element('div', {class: 'panel'}));
  body.append(element('div', {class: `panels ${cls}`}, ...hosts));
  return hosts;
}
const hint = (text) => element('p', {class: 'hint'}, text);
