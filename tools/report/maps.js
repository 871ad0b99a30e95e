// Maps of a metric by layer and step, averaged over the seeds of a group, and the drawing that holds several of them.

// How the values of a layer's heads become one.
const reductions = {
  max: (v) => Math.max(...v),
  min: (v) => Math.min(...v),
  mean: (v) => sum(v) / v.length
};

// Returns {rows: [{layer, head, label}], steps, cells: [row][column]} of a group, or {why} without values. `rows`:
// "layer" (whole layers), "heads" (every head), or a reduction over heads.
function mapOf(group, {matrix, metric, view, rows, nul}) {
  const perHead = rows !== 'layer';
  const own = shownRuns(group)
                  .map((run) => ({run, grid: metricGrid(run, metric, matrix, perHead, nul)}))
                  .filter((o) => o.grid);
  if (own.length === 0) return {why: whyNoValue(shownRuns(group)[0], metric, view, matrix, perHead)};
  const log = metrics[metric].log && view === 'raw';
  const at = (step, layer, head) =>
      meanOf(own.map(({run, grid}) => metricValue(run, grid, metric, view, step, layer, head)), log);
  const grids = own.map((o) => o.grid);
  const common = grids[0].steps.filter((step) => grids.every((grid) => grid.stepAt.has(step)));
  const steps = common.length > 1 ? common : sorted(grids.flatMap((grid) => grid.steps));
  const list = [];
  for (const layer of sorted(grids.flatMap((grid) => grid.layers)))
    if (rows === 'heads')
      for (const head of grids[0].heads)
        list.push({layer, head, label: `${layer}.${head}`, value: (step) => at(step, layer, head)});
    else if (perHead)
      list.push({
        layer,
        head: null,
        label: `${layer}`,
        value: (step) => {
          const all = grids[0].heads.map((head) => at(step, layer, head)).filter(Number.isFinite);
          return all.length ? reductions[rows](all) : NaN;
        }
      });
    else
      list.push({layer, head: -1, label: `${layer}`, value: (step) => at(step, layer, -1)});
  const cells = list.map((row) => steps.map(row.value));
  if (!cells.some((row) => row.some(Number.isFinite)))
    return {why: whyNoValue(own[0].run, metric, view, matrix, perHead)};
  return {rows: list, steps, cells};
}
const valuesOf = (maps) => maps.flatMap((map) => (map.cells ? map.cells.flat() : []));

// The rectangles of a map in the box {x, y, width, height}. Neighbours in a row that look alike are one.
function mapCells(map, scale, {x, y, width, height}) {
  const cell = width / map.steps.length, line = height / map.rows.length,
        parent = element('g', {class: 'cells'});
  map.cells.forEach((row, r) => {
    let begin = 0;
    const colours = row.map((value) => (Number.isFinite(value) ? scale.colour(value) : null));
    for (let c = 1; c <= row.length; ++c) {
      if (c < row.length && colours[c] === colours[begin]) continue;
      parent.append(element('rect', {
        x: (x + begin * cell).toFixed(2),
        y: (y + r * line).toFixed(2),
        width: ((c - begin) * cell).toFixed(2),
        height: line.toFixed(2),
        fill: colours[begin],
        class: colours[begin] === null ? 'missing' : null
      }));
      begin = c;
    }
  });
  parent.append(element('rect', {class: 'frame-only', x, y, width, height}));
  return parent;
}

// Several maps in one drawing, which the pointer and the arrow keys read. places: [{map, box, scale, metric, view,
// group, matrix, name}].
class MapSheet {
  constructor(host, width, height, label, output) {
    Object.assign(this, {width, height, output, places: [], at: null});
    this.svg = element('svg', {
      class: 'plot maps',
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: 'img',
      tabindex: 0,
      'aria-label': label
    });
    this.ring = element('rect', {class: 'ring', visibility: 'hidden'});
    this.inner = element('rect', {class: 'ring-inner', visibility: 'hidden'});
    host.append(this.svg);
    this.listen();
  }
  text(x, y, text, attributes = {}) { this.svg.append(element('text', {x, y, ...attributes}, text)); }
  add(place) {
    this.places.push(place);
    const {map, box, scale} = place;
    if (!map.cells) {
      const {x, y, width, height} = box;
      this.svg.append(
          element('rect', {class: 'missing', ...box}), element('rect', {class: 'frame-only', ...box}));
      const words = map.why.split(' '), lines = [''];
      for (const word of words)
        if (((lines[lines.length - 1].length + word.length + 1) * 6.2) < width)
          lines[lines.length - 1] += (lines[lines.length - 1] ? ' ' : '') + word;
        else
          lines.push(word);
      lines.forEach(
          (line, i) => this.text(
              x + width / 2, y + height / 2 + (i - (lines.length - 1) / 2) * 14 + 4, line,
              {class: 'small faint', 'text-anchor': 'middle'}));
      return;
    }
    this.svg.append(mapCells(map, scale, box));
  }
  // Steps below a map, as many as there is room for.
  stepAxis({map, box}) {
    if (!map.cells) return;
    const cell = box.width / map.steps.length;
    let clear = box.x - 3;
    const axis = element('g', {class: 'tick'}), foot = box.y + box.height;
    const lastHalf = String(last(map.steps)).length * 3.1;
    const put = (c, force) => {
      const x = box.x + (c + 0.5) * cell, text = String(map.steps[c]), half = text.length * 3.1;
      const from = Math.min(Math.max(x, box.x + half), box.x + box.width - half);
      if (!force && (from - half < clear || from + half > box.x + box.width - 2 * lastHalf - 7)) return;
      clear = from + half + 7;
      axis.append(
          element('line', {class: 'tick-mark', x1: x, x2: x, y1: foot, y2: foot + 4}),
          element('text', {class: 'small', x: from, y: foot + 15, 'text-anchor': 'middle'}, text));
    };
    for (let c = 0; c < map.steps.length - 1; ++c) put(c, c === 0);
    put(map.steps.length - 1, true);
    this.svg.append(axis);
  }
  layerAxis({map, box}) {
    if (!map.cells) return;
    const line = box.height / map.rows.length, every = Math.ceil(13 / line),
          axis = element('g', {class: 'tick'});
    map.rows.forEach((row, r) => {
      if (r % every === 0)
        axis.append(element(
            'text', {class: 'small', x: box.x - 5, y: box.y + (r + 0.5) * line + 4, 'text-anchor': 'end'},
            row.label));
    });
    this.svg.append(axis);
  }
  finish() { this.svg.append(this.ring, this.inner); }
  mark(place, row, column) {
    const {map, box} = place, cell = box.width / map.steps.length, line = box.height / map.rows.length;
    for (const ring of [this.ring, this.inner])
      for (const [name, value] of Object.entries({
             x: box.x + column * cell,
             y: box.y + row * line,
             width: Math.max(2, cell),
             height: line,
             visibility: 'visible'
           }))
        ring.setAttribute(name, value);
  }
  say(place, row, column) {
    this.at = {place, row, column};
    this.mark(place, row, column);
    const {map, group, matrix, metric, view} = place, {layer, head} = map.rows[row];
    const where = head === null ? `layer ${layer}, ${place.reduction} of heads` : placeLabel(layer, head);
    const seeds = shownRuns(group).length;
    this.output.textContent = `${group.label}${seeds > 1 ? `, mean of ${seeds} seeds` : ''}, ${
        matrixLabel(matrix)}, ${where}, step ${map.steps[column]}: ${metrics[metric].name} ${
        valueText(metric, view, map.cells[row][column])}`;
  }
  choose() {
    const {place, row, column} = this.at, {layer, head} = place.map.rows[row];
    update({
      matrix: place.matrix,
      layer,
      head: head === null ? state.head : head,
      step: place.map.steps[column]
    });
  }
  hit(event) {
    const own = this.svg.getBoundingClientRect(), zoom = this.width / own.width;
    const x = (event.clientX - own.left) * zoom, y = (event.clientY - own.top) * zoom;
    for (const place of this.places) {
      const {box, map} = place;
      if (!map.cells || x < box.x || x >= box.x + box.width || y < box.y || y >= box.y + box.height) continue;
      return [
        place, Math.floor((y - box.y) / box.height * map.rows.length),
        Math.floor((x - box.x) / box.width * map.steps.length)
      ];
    }
    return null;
  }
  listen() {
    this.svg.addEventListener('pointermove', (event) => {
      const found = this.hit(event);
      if (found) this.say(...found);
    });
    this.svg.addEventListener('click', (event) => {
      const found = this.hit(event);
      if (!found) return;
      this.say(...found);
      this.choose();
    });
    this.svg.addEventListener('keydown', (event) => {
      const filled = this.places.filter((place) => place.map.cells);
      const move = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
      if (move && filled.length) {
        let {place, row, column} = this.at || {place: filled[0], row: 0, column: -1};
        row += move[0];
        column += this.at ? move[1] : 1;
        const side = column < 0 ? -1 : column >= place.map.steps.length ? 1 : 0;
        const next = filled[filled.indexOf(place) + side];
        if (side && next) {
          place = next;
          column = side > 0 ? 0 : place.map.steps.length - 1;
        }
        const clamp = (v, most) => Math.max(0, Math.min(most - 1, v));
        this.say(place, clamp(row, place.map.rows.length), clamp(column, place.map.steps.length));
        event.preventDefault();
      } else if (event.key === 'Enter' && this.at)
        this.choose();
    });
  }
}

// The numbers of maps as rows of a table.
const mapRows = (places) => places.flatMap(
    ({map, group, matrix, metric, view, reduction}) =>
        (map.cells || []).flatMap((row, r) => map.steps.map((step, c) => {
          const {layer, head} = map.rows[r];
          return [
            group.label, matrix, view === 'raw' ? metric : `${metric}_${view}`, step, layer,
            head === null ? reduction : head, row[c]
          ];
        })));
const mapHeader = ['group', 'matrix', 'metric', 'step', 'layer', 'head', 'value'];

// Every metric of every layer and head: one map for each group, all on one scale.
let explorer = null;
function drawExplorer(body, output) {
  const {metric, view, rows, matrix} = state, used = shownGroups();
  explorer = null;
  if (used.length === 0) {
    body.append(hint('Every run is hidden.'));
    return null;
  }
  const maps = used.map((group) => mapOf(group, {matrix, metric, view, rows, nul: state.null}));
  const scale = scaleOf(metric, view, valuesOf(maps));
  const width = Math.max(280, Math.round(body.clientWidth || 900)), left = 34, gap = 16;
  const fitting = Math.max(1, Math.min(used.length, Math.floor((width - 100) / 230)));
  const perLine = Math.max(1, Math.ceil(used.length / Math.ceil(used.length / fitting)));
  const box = (width - left - 84 - gap * (perLine - 1)) / perLine;
  const lines = Math.ceil(used.length / perLine),
        most = Math.max(1, ...maps.map((m) => (m.rows ? m.rows.length : 1)));
  const height = Math.max(110, Math.min(420, most * 16)), block = height + 50;
  const sheet = new MapSheet(
      body, width, lines * block + 4,
      `${metrics[metric].name} by layer and step: ${used.map((g) => g.label).join(', ')}`, output);
  used.forEach((group, i) => {
    const x = left + (i % perLine) * (box + gap), y = Math.floor(i / perLine) * block + 24;
    const reduction = rows === 'layer' || rows === 'heads' ? '' : rows;
    const place =
        {map: maps[i], box: {x, y, width: box, height}, scale, metric, view, group, matrix, reduction};
    sheet.text(x, y - 7, group.label, {class: 'panel-title'});
    sheet.add(place);
    sheet.stepAxis(place);
    if (i % perLine === 0) sheet.layerAxis(place);
  });
  sheet.svg.append(...colourBar(scale, width - 66, 24, Math.min(height, 200), ''));
  sheet.finish();
  explorer = sheet;
  markChoice();
  return {
    header: mapHeader,
    rows: mapRows(sheet.places),
    legend: false,
    caption: `${sentence(metrics[metric].name)}: ${metrics[metric].help}. ${sentence(matrixLabel(matrix))}${
        metrics[metric].any || metric === 'kept_null' ?
            '' :
            `, null ${state.null}`}. ${views[view].help} One column a measurement, one row a ${
        rows === 'heads' ? 'head (layer.head)' : 'layer'}; colours ${scale.note}; mean over seeds.${
        hasSpectra ? ' Choose a cell to see its spectrum below.' : ''}`
  };
}
// Rings the chosen cell in the first map that has it.
function markChoice() {
  if (!explorer) return;
  for (const place of explorer.places) {
    if (!place.map.cells) continue;
    const row = place.map.rows.findIndex(
        (r) =>
            r.layer === state.layer && (r.head === state.head || r.head === null || state.rows === 'layer'));
    const column = place.map.steps.indexOf(nearest(place.map.steps, state.step));
    if (row >= 0 && column >= 0) return explorer.mark(place, row, column);
  }
}
function addExplorer(section) {
  const figure = new Figure(section, 'maps', 'Every layer and head', drawExplorer);
  const rows = [
    ['layer', 'whole layers'],
    ...(headCount > 0 ?
            [
              ['max', 'maximum over heads'], ['mean', 'mean over heads'], ['min', 'minimum over heads'],
              ['heads', 'every head']
            ] :
            [])
  ];
  figure.controls.append(
      picker('Metric', 'metric', availableMetrics.map((id) => [id, metrics[id].name])),
      picker('View', 'view', Object.entries(views).map(([id, view]) => [id, view.name])),
      picker('Rows', 'rows', rows));
  redrawOn(figure, 'metric', 'view', 'rows', 'matrix', 'null');
  redrawOn({draw: markChoice}, 'layer', 'head', 'step');
}
